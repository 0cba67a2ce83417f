import Testing
import TunnelCore

/// Arbitrary bytes through everything that parses packets, in memory whose neighbours may not be touched.
@Suite("Hostile packets")
struct OffloadFuzzTests {
    @Test(arguments: 1...16 as ClosedRange<UInt64>)
    func `mutated headers never lead outside of the packet`(seed: UInt64) {
        var random = OffloadRandom(seed: seed)
        for _ in 0..<400 {
            var packet = random.packet(tap: random.chance(2))
            packet.payload = random.bytes(random.number(0...300))
            if packet.isTCP { packet.flags = random.chance(2) ? 0x12 : 0x10 }
            let size = random.number(1...200)
            var bytes = packet.bytes(partialChecksum: random.chance(2))
            for _ in 0..<random.number(0...4) {
                let position = random.number(0...min(bytes.count, packet.headerLength) - 1)
                bytes[position] = [0, 0xff, UInt8.random(in: 0...255, using: &random)][random.number(0...2)]
            }
            if random.chance(3) { bytes.removeLast(random.number(0...bytes.count)) }
            var header = packet.virtioHeader(size: size)
            mutate(&header, &random)
            exercise(bytes, header, linkHeaderLength: [0, 14, packet.link.isEmpty ? 0 : 14][random.number(0...2)])
        }
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `noise never leads outside of the packet`(seed: UInt64) {
        var random = OffloadRandom(seed: seed)
        for _ in 0..<1000 {
            var bytes = random.bytes(random.number(0...120))
            if !bytes.isEmpty && random.chance(2) { bytes[0] = random.chance(2) ? 0x45 : 0x60 }
            var header = VirtioNetHeader()
            header.flags = UInt8.random(in: 0...255, using: &random)
            header.gsoType = UInt8.random(in: 0...5, using: &random)
            header.gsoSize = UInt16.random(in: 0...100, using: &random)
            mutate(&header, &random)
            exercise(bytes, header, linkHeaderLength: random.chance(2) ? 0 : 14)
        }
    }

    @Test func `every truncation of every kind of packet is survived, with its length fields true or not`() {
        var random = OffloadRandom(seed: 99)
        for _ in 0..<24 {
            var packet = random.packet(tap: random.chance(2))
            packet.payload = random.bytes(20)
            if packet.isIPv6 && random.chance(2) { packet.extensionHeaders.append((44, [0, 0, 0, 1, 0, 0, 0, 1])) }
            let bytes = packet.bytes()
            for length in 0...bytes.count {
                var cut = Array(bytes.prefix(length))
                let linkHeaderLength = packet.link.isEmpty ? 0 : 14
                exercise(cut, packet.virtioHeader(size: 8), linkHeaderLength: linkHeaderLength)
                let ip = packet.networkOffset
                guard length >= ip + (packet.isIPv6 ? 40 : 20) else { continue }
                if packet.isIPv6 {
                    cut.replaceSubrange(ip + 4..<ip + 6, with: big16(length - ip - 40))
                } else {
                    cut.replaceSubrange(ip + 2..<ip + 4, with: big16(length - ip))
                }
                exercise(cut, packet.virtioHeader(size: 8), linkHeaderLength: linkHeaderLength)
            }
        }
    }

    private func exercise(_ bytes: [UInt8], _ header: VirtioNetHeader, linkHeaderLength: Int) {
        for side in GuardedMemory.Side.allCases {
            // Checks its own memory; a refusal is as good as segments.
            let segments = try? split(bytes, header, linkHeaderLength: linkHeaderLength, against: side)
            if let segments { #expect(segments.allSatisfy { $0.count <= bytes.count }) }

            let memory = GuardedMemory(capacity: max(1, bytes.count))
            let packet = memory.place(bytes, against: side)
            _ = flowHash(UnsafeRawBufferPointer(packet), linkHeaderLength: linkHeaderLength)
            #expect([UInt8](packet) == bytes)
            let answer = GuardedMemory(capacity: 4096)
            let room = answer.place([UInt8](repeating: 0, count: maximumTooBigLength), against: side)
            let length = makeTooBig(UnsafeRawBufferPointer(packet), mtu: 1400, into: room)
            #expect((0...maximumTooBigLength).contains(length))
            #expect([UInt8](packet) == bytes)
            clampMSS(packet, linkHeaderLength: linkHeaderLength, maximumSegment4: 1, maximumSegment6: 1)
            #expect(memory.isIntact && answer.isIntact)
        }
        let device = CoalescingDevice(linkHeaderLength: linkHeaderLength)
        device.append(bytes, against: .low)
        device.append(bytes, against: .high)
        device.flush()
        #expect(device.writes.reduce(0) { $0 + $1.packetCount } == 2)
    }

    private func mutate(_ header: inout VirtioNetHeader, _ random: inout OffloadRandom) {
        let value = [0, 1, 0xffff, UInt16.random(in: 0...0xffff, using: &random)][random.number(0...3)]
        switch random.number(0...9) {
        case 0: header.flags = UInt8(truncatingIfNeeded: value)
        case 1: header.gsoType = UInt8.random(in: 0...6, using: &random)
        case 2: header.headerLength = value
        case 3: header.gsoSize = value
        case 4: header.checksumStart = value
        case 5: header.checksumOffset = value
        default: break
        }
    }
}
