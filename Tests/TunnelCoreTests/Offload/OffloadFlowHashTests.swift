import Testing
import TunnelCore

@Suite("Flow hash")
struct OffloadFlowHashTests {
    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func `packets of one flow have one hash, whatever else is in them`(seed: UInt64) {
        var random = OffloadRandom(seed: seed)
        for _ in 0..<50 {
            let first = random.packet(tap: random.chance(2))
            var other = random.packet(tap: !first.link.isEmpty)
            other.isIPv6 = first.isIPv6
            other.source = first.source
            other.destination = first.destination
            other.sourcePort = first.sourcePort
            other.destinationPort = first.destinationPort
            other.ipOptions = []
            other.extensionHeaders = []
            if other.isTCP != first.isTCP { other.transport = first.transport }
            other.payload = random.bytes(random.number(0...100))
            #expect(hash(first) == hash(other))
        }
    }

    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func `a flow that differs in any field has another hash`(seed: UInt64) {
        var random = OffloadRandom(seed: seed)
        for _ in 0..<20 {
            let packet = random.packet(tap: random.chance(2))
            let size = packet.source.count
            let others: [ModelPacket] = [
                with(packet) { $0.source[random.number(0...size - 1)] ^= 1 << UInt8(random.number(0...7)) },
                with(packet) { $0.destination[random.number(0...size - 1)] ^= 1 << UInt8(random.number(0...7)) },
                with(packet) { $0.sourcePort ^= 1 << UInt16(random.number(0...15)) },
                with(packet) { $0.destinationPort ^= 1 << UInt16(random.number(0...15)) },
                with(packet) {
                    $0.transport =
                        $0.isTCP ? .udp : .tcp(sequence: 1, acknowledgement: 2, flags: 0x10, window: 3, options: [])
                },
            ]
            for other in others { #expect(hash(packet) != hash(other)) }
        }
    }

    @Test func `low bits spread flows that differ in one port evenly`() {
        var counts = [Int](repeating: 0, count: 16)
        for port in 0..<4096 {
            counts[Int(hash(with(ModelPacket()) { $0.sourcePort = UInt16(30000 + port) })) % 16] += 1
        }
        #expect(counts.allSatisfy { (192...320).contains($0) }, "\(counts)")
    }

    @Test func `all fragments of a datagram have the hash of its first`() {
        var four = ModelPacket()
        four.dontFragment = false
        four.payload = [UInt8](repeating: 7, count: 64)
        var first = four.bytes()
        first[6] = 0x20
        var later = first
        later[6] = 0
        later[7] = 8
        later.replaceSubrange(20..<24, with: [9, 9, 9, 9])
        #expect(hash(first, 0) == hash(later, 0))

        var six = ModelPacket()
        six.isIPv6 = true
        six.source = [UInt8](repeating: 1, count: 16)
        six.destination = [UInt8](repeating: 2, count: 16)
        // Behind the fragment header the first has destination options; the later one cannot tell.
        six.extensionHeaders = [(44, [0, 0, 0, 1, 0, 0, 0, 1]), (60, [0, 0, 1, 4, 0, 0, 0, 0])]
        let first6 = six.bytes()
        var later6 = first6
        later6[43] = 0x08
        #expect(hash(first6, 0) == hash(later6, 0))
    }

    @Test func `frames that are not IP are told apart by their Ethernet header`() {
        let arp = [UInt8](1...12) + [0x08, 0x06] + [UInt8](repeating: 0, count: 28)
        for index in 0..<14 {
            // Not to an EtherType of IP or VLAN.
            var other = arp
            other[index] ^= 0x40
            #expect(hash(arp, 14) != hash(other, 14), "byte \(index)")
        }
        var other = arp
        other[20] ^= 1
        #expect(hash(arp, 14) == hash(other, 14))
    }

    private func with(_ packet: ModelPacket, _ change: (inout ModelPacket) -> Void) -> ModelPacket {
        var copy = packet
        change(&copy)
        return copy
    }

    private func hash(_ packet: ModelPacket) -> UInt32 { hash(packet.bytes(), packet.link.isEmpty ? 0 : 14) }

    private func hash(_ bytes: [UInt8], _ linkHeaderLength: Int) -> UInt32 {
        bytes.withUnsafeBytes { flowHash($0, linkHeaderLength: linkHeaderLength) }
    }
}
