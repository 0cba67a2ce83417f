import Testing
import TunnelCore

@Suite("Answers to packets that are too big")
struct OffloadTooBigTests {
    // MARK: No answer

    @Test func `IPv4 packets that may be fragmented get none`() {
        var packet = udp4(payload: 1400)
        packet.dontFragment = false
        #expect(answer(packet.bytes()) == nil)
    }

    @Test func `later fragments get none`() {
        var bytes = udp4(payload: 1400).bytes()
        bytes[7] = 1
        #expect(answer(bytes) == nil)
        var six = udp6(payload: 1400)
        six.extensionHeaders = [(44, [0, 0, 0, 8, 0, 0, 0, 1])]
        #expect(answer(six.bytes()) == nil)
        six.extensionHeaders = [(44, [0, 0, 0, 1, 0, 0, 0, 1])]
        #expect(answer(six.bytes()) != nil)
    }

    @Test(
        arguments: [
            [0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [239, 255, 255, 250], [240, 0, 0, 1],
            [255, 255, 255, 255],
        ] as [[UInt8]])
    func `IPv4 addresses that are not one host's get none`(address: [UInt8]) {
        var packet = udp4(payload: 1400)
        packet.destination = address
        #expect(answer(packet.bytes()) == nil)
        packet = udp4(payload: 1400)
        packet.source = address
        #expect(answer(packet.bytes()) == nil)
    }

    @Test(
        arguments: [
            [UInt8](repeating: 0, count: 16), [UInt8](repeating: 0, count: 15) + [1],
            [0xff, 2] + [UInt8](repeating: 0, count: 13) + [1],
        ])
    func `IPv6 addresses that are not one host's get none`(address: [UInt8]) {
        var packet = udp6(payload: 1400)
        packet.destination = address
        #expect(answer(packet.bytes()) == nil)
        packet = udp6(payload: 1400)
        packet.source = address
        #expect(answer(packet.bytes()) == nil)
    }

    @Test func `ICMP errors get none, queries get one`() {
        for type in UInt8.min ... .max {
            var four = udp4(payload: 1400).bytes()
            four[9] = 1
            four[20] = type
            let isQuery = [0, 8, 13, 14, 15, 16, 17, 18, 42, 43].contains(type)
            #expect((answer(four) != nil) == isQuery, "ICMP type \(type)")
            var six = udp6(payload: 1400).bytes()
            six[6] = 58
            six[40] = type
            #expect((answer(six) != nil) == (type >= 128 && type != 137), "ICMPv6 type \(type)")
        }
        var bare = Array(udp4(payload: 0).bytes().prefix(20))
        bare[9] = 1
        bare[3] = 20
        #expect(answer(bare) == nil)
    }

    @Test func `an answer gets no answer`() {
        for packet in [udp4(payload: 1400), udp6(payload: 1400)] {
            let first = answer(packet.bytes())
            #expect(first != nil)
            #expect(answer(first ?? []) == nil)
        }
    }

    @Test func `extension headers that do not fit into the packet get none`() {
        var packet = udp6(payload: 0)
        packet.extensionHeaders = [(60, [0, 0, 1, 4, 0, 0, 0, 0])]
        var bytes = packet.bytes()
        // "No next header", so that nothing but the option's own length can be wrong.
        bytes[40] = 59
        for length in UInt8.min ... .max {
            bytes[41] = length
            #expect((answer(bytes) != nil) == (length <= 1), "length \(length)")
        }
    }

    @Test func `what is no IP packet, and what finds no room, get none`() {
        #expect(answer([]) == nil)
        #expect(answer([UInt8](repeating: 0, count: 1500)) == nil)
        #expect(answer(udp4(payload: 1400).bytes().dropLast()) == nil)
        #expect(answer(udp4(payload: 1400).bytes(), room: maximumTooBigLength - 1) == nil)
    }

    // MARK: Answers

    @Test func `known packets get known answers`() {
        let four = [UInt8](
            packetHex:
                "45000028000740003f114f6cc000020ac63364140fa013880014d227000102030405060708090a0b")
        #expect(
            answer(four)
                == [UInt8](
                    packetHex:
                        "45c000440000400040014da7c6336414c000020a0304e3fb0000057845000028000740003f114f6c"
                        + "c000020ac63364140fa013880014d227000102030405060708090a0b"))
        let six = [UInt8](
            packetHex:
                "60000000000c113f20010db800000000000000000000000120010db8000100000000000000000002"
                + "0fa01388000c7f3400010203")
        #expect(
            answer(six)
                == [UInt8](
                    packetHex:
                        "60000000003c3a4020010db800010000000000000000000220010db8000000000000000000000001"
                        + "02002b6d0000057860000000000c113f20010db800000000000000000000000120010db800010000"
                        + "00000000000000020fa01388000c7f3400010203"))
    }

    @Test func `as much is quoted as fits into 576 and 1280 bytes, and the checksums are right`() throws {
        for length in [0, 1, 519, 520, 521, 1183, 1184, 1185, 1400, 9000] {
            let four = udp4(payload: length).bytes()
            let reply = try #require(answer(four))
            #expect(reply.count == min(576, 28 + four.count))
            #expect(Array(reply[28...]) == Array(four.prefix(548)))
            #expect(slowChecksum(Array(reply[0..<20])) == 0)
            #expect(slowChecksum(Array(reply[20...])) == 0)

            let six = udp6(payload: length).bytes()
            let reply6 = try #require(answer(six))
            #expect(reply6.count == min(1280, 48 + six.count))
            #expect(Array(reply6[48...]) == Array(six.prefix(1232)))
            let pseudo = Array(reply6[8..<40]) + big32(UInt32(reply6.count - 40)) + [0, 0, 0, 58]
            #expect(slowChecksum(pseudo + reply6[40...]) == 0)
        }
    }

    @Test func `padding behind the packet is not quoted`() throws {
        let four = udp4(payload: 20).bytes()
        #expect(answer(four + [1, 2, 3]) == answer(four))
    }

    @Test func `an MTU that the field cannot hold is cut to what it can`() throws {
        for (mtu, expected) in [(-1, 0), (0x1_0000, 0xffff), (Int.max, 0xffff)] {
            let reply = try #require(answer(udp4(payload: 20).bytes(), mtu: mtu))
            #expect(Array(reply[26..<28]) == big16(expected))
        }
        let reply = try #require(answer(udp6(payload: 20).bytes(), mtu: .max))
        #expect(Array(reply[44..<48]) == [255, 255, 255, 255])
    }

    private func answer(_ packet: some Collection<UInt8>, mtu: Int = 1400, room: Int = maximumTooBigLength) -> [UInt8]?
    {
        let source = GuardedMemory(capacity: max(1, packet.count))
        let target = GuardedMemory(capacity: 4096)
        let placed = UnsafeRawBufferPointer(source.place(Array(packet), against: .high))
        let into = target.place([UInt8](repeating: 0xee, count: room), against: .high)
        let length = makeTooBig(placed, mtu: mtu, into: into)
        #expect(target.isIntact)
        return length == 0 ? nil : Array(into.prefix(length))
    }

    private func udp4(payload: Int) -> ModelPacket {
        var packet = ModelPacket()
        packet.payload = (0..<payload).map { UInt8(truncatingIfNeeded: $0) }
        return packet
    }

    private func udp6(payload: Int) -> ModelPacket {
        var packet = udp4(payload: payload)
        packet.isIPv6 = true
        packet.source = [0x20, 0x01] + [UInt8](repeating: 1, count: 14)
        packet.destination = [0x20, 0x02] + [UInt8](repeating: 2, count: 14)
        return packet
    }
}
