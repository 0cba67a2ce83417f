import Testing
import TunnelCore

@Suite("MSS clamping")
struct OffloadMSSClampTests {
    // MARK: What is left alone

    @Test(arguments: [1460, 1461, 0xffff] as [UInt16])
    func `a size that is small enough already is left alone`(maximum: UInt16) {
        var bytes = Self.syn4
        #expect(!clamp(&bytes, maximum4: maximum, maximum6: 0))
        #expect(bytes == Self.syn4)
    }

    @Test func `a segment without SYN is left alone`() {
        var packet = syn(options: [2, 4, 5, 0xb4])
        packet.flags = 0x10
        var bytes = packet.bytes()
        #expect(!clamp(&bytes, maximum4: 500, maximum6: 500))
        #expect(bytes == packet.bytes())
    }

    @Test(
        arguments: [
            [], [0, 2, 4, 5, 0xb4, 0, 0, 0], [3, 6, 2, 4, 5, 0xb4, 1, 1], [2, 3, 5, 0xb4], [2, 0, 5, 0xb4],
            [2, 1, 5, 0xb4],
            [2, 5, 5, 0xb4, 0, 0, 0, 0], [1, 1, 2, 4], [1, 1, 1, 2], [9, 40, 2, 4, 5, 0xb4, 0, 0],
        ] as [[UInt8]])
    func `options without a whole MSS option are left alone`(options: [UInt8]) {
        var packet = syn(options: options)
        for payload in [[], [UInt8](repeating: 0xff, count: 8), [UInt8](repeating: 4, count: 8)] {
            packet.payload = payload
            var bytes = packet.bytes()
            #expect(!clamp(&bytes, maximum4: 1, maximum6: 1))
            #expect(bytes == packet.bytes())
        }
    }

    @Test func `an option that lies in the payload or in the padding is left alone`() {
        var packet = syn(options: [])
        packet.payload = [2, 4, 5, 0xb4]
        var bytes = packet.bytes()
        #expect(!clamp(&bytes, maximum4: 1, maximum6: 1))
        bytes = syn(options: []).bytes() + [2, 4, 5, 0xb4]
        bytes[32] = 0x60
        let before = bytes
        #expect(!clamp(&bytes, maximum4: 1, maximum6: 1))
        #expect(bytes == before)
    }

    @Test func `later fragments and UDP are left alone`() {
        var bytes = Self.syn4
        bytes[7] = 1
        #expect(!clamp(&bytes, maximum4: 1, maximum6: 1))
        bytes = Self.syn4
        bytes[9] = 17
        #expect(!clamp(&bytes, maximum4: 1, maximum6: 1))
    }

    // MARK: What is lowered

    @Test func `known packets come out as known`() {
        var bytes = Self.syn4
        #expect(clamp(&bytes, maximum4: 1360, maximum6: 1))
        #expect(
            bytes
                == [UInt8](
                    packetHex:
                        "4500003c1c46400040063224c000020ac6336414c82201bb1234567800000000a002faf02e960000"
                        + "020405500402080a000000010000000001030307"))
        bytes = Self.syn6
        #expect(clamp(&bytes, maximum4: 1, maximum6: 1340))
        #expect(
            bytes
                == [UInt8](
                    packetHex:
                        "600000000028064020010db800000000000000000000000120010db8000100000000000000000002"
                        + "c82201bb1234567800000000a002fd20bd5600000204053c0402080a000000010000000001030307"))
    }

    @Test func `an MSS at an odd offset is lowered with the right checksum`() {
        var bytes = [UInt8](
            packetHex:
                "450000301c46400040063230c000020ac6336414c82201bb12345678000000007002faf0bc040000"
                + "01020405b4010100")
        #expect(clamp(&bytes, maximum4: 1360, maximum6: 1))
        #expect(
            bytes
                == [UInt8](
                    packetHex:
                        "450000301c46400040063230c000020ac6336414c82201bb12345678000000007002faf020050000"
                        + "0102040550010100"))
    }

    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func `the checksum stays that of a packet built from scratch`(seed: UInt64) {
        var random = OffloadRandom(seed: seed)
        for _ in 0..<100 {
            var packet = random.packet(tap: random.chance(2))
            let lead = [UInt8](repeating: 1, count: random.number(0...7))
            let tail = [UInt8](repeating: 1, count: 7 - lead.count + 1)
            let announced = random.number(0...0xffff)
            let maximum = random.number(0...0xffff)
            packet.transport = .tcp(
                sequence: 1, acknowledgement: 2, flags: random.chance(2) ? 0x02 : 0x12, window: 3,
                options: lead + [2, 4] + big16(announced) + tail)
            var bytes = packet.bytes()
            let changed = clamp(
                &bytes, linkHeaderLength: packet.link.isEmpty ? 0 : 14, maximum4: UInt16(maximum),
                maximum6: UInt16(maximum))
            #expect(changed == (announced > maximum))
            packet.options = lead + [2, 4] + big16(min(announced, maximum)) + tail
            #expect(bytes == packet.bytes())
        }
    }

    private static let syn4 = [UInt8](
        packetHex:
            "4500003c1c46400040063224c000020ac6336414c82201bb1234567800000000a002faf02e320000"
            + "020405b40402080a000000010000000001030307")
    private static let syn6 = [UInt8](
        packetHex:
            "600000000028064020010db800000000000000000000000120010db8000100000000000000000002"
            + "c82201bb1234567800000000a002fd20bcf20000020405a00402080a000000010000000001030307")

    private func syn(options: [UInt8]) -> ModelPacket {
        var packet = ModelPacket()
        packet.transport = .tcp(sequence: 1, acknowledgement: 0, flags: 0x02, window: 1000, options: options)
        return packet
    }

    private func clamp(
        _ bytes: inout [UInt8], linkHeaderLength: Int = 0, maximum4: UInt16, maximum6: UInt16
    ) -> Bool {
        let memory = GuardedMemory(capacity: bytes.count)
        let packet = memory.place(bytes, against: .high)
        let changed = clampMSS(
            packet, linkHeaderLength: linkHeaderLength, maximumSegment4: maximum4, maximumSegment6: maximum6)
        #expect(memory.isIntact)
        bytes = [UInt8](packet)
        return changed
    }
}
