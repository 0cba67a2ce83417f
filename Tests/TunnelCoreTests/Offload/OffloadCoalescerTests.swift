import Testing
import TunnelCore

@Suite("Merging what goes to a device")
struct OffloadCoalescerTests {
    // MARK: What must stay alone

    /// Each takes the second of three packets of one TCP flow out of the flow.
    static let strangers: [(String, @Sendable (inout ModelPacket) -> Void)] = [
        ("source port", { $0.sourcePort ^= 1 }),
        ("destination port", { $0.destinationPort ^= 0x100 }),
        ("source address", { $0.source[3] ^= 1 }),
        ("destination address", { $0.destination[0] ^= 1 }),
        ("the source's last byte", { $0.source[$0.source.count - 1] ^= 1 }),
        ("the destination's last byte", { $0.destination[$0.destination.count - 1] ^= 0x80 }),
        ("traffic class", { $0.trafficClass ^= 4 }),
        ("congestion mark", { $0.trafficClass ^= 3 }),
        ("hop limit", { $0.hopLimit ^= 1 }),
        ("don't fragment", { $0.dontFragment.toggle() }),
        ("IP options", { $0.ipOptions = [1, 1, 1, 1] }),
        ("link header", { $0.link[11] ^= 1 }),
        ("VLAN tag", { $0.link += [0x81, 0, 0, 7] }),
        ("a gap in the sequence", { $0.sequence &+= 1 }),
        ("a repeated sequence", { $0.sequence &-= 100 }),
        ("acknowledgement", { $0.acknowledgement &+= 1 }),
        ("window", { $0.window ^= 1 }),
        ("option value", { $0.options[7] ^= 1 }),
        ("option length", { $0.options += [1, 1, 1, 1] }),
        ("a larger payload", { $0.payload.append(0) }),
        ("no payload", { $0.payload = [] }),
        ("FIN", { $0.flags |= 0x01 }),
        ("SYN", { $0.flags |= 0x02 }),
        ("RST", { $0.flags |= 0x04 }),
        ("URG", { $0.flags |= 0x20 }),
        ("ECE", { $0.flags |= 0x40 }),
        ("CWR", { $0.flags |= 0x80 }),
        ("no ACK", { $0.flags &= ~0x10 }),
        ("UDP", { $0.transport = .udp }),
    ]

    @Test(arguments: strangers.indices, [false, true])
    func `a packet that differs from its flow is not merged`(index: Int, isIPv6: Bool) throws {
        let (name, change) = Self.strangers[index]
        if isIPv6 && (name == "IP options" || name == "don't fragment") { return }
        var flow = flow(count: 3, isIPv6: isIPv6, tap: true)
        change(&flow[1])
        let writes = coalesce(flow.map { $0.bytes() }, linkHeaderLength: 14)
        #expect(writes.map(\.packetCount) == [1, 1, 1], "\(name)")
        #expect(writes.map(\.packet) == flow.map { $0.bytes() }, "\(name)")
        #expect(writes.allSatisfy { $0.header == VirtioNetHeader() }, "\(name)")
    }

    @Test func `IPv6 flow labels and extension headers keep packets apart`() {
        for change in [{ $0.flowLabel = 1 }, { $0.extensionHeaders = [(60, [0, 0, 1, 4, 0, 0, 0, 0])] }]
            as [(inout ModelPacket) -> Void]
        {
            var flow = flow(count: 3, isIPv6: true)
            change(&flow[1])
            #expect(coalesce(flow.map { $0.bytes() }).map(\.packetCount) == [1, 1, 1])
            for index in flow.indices { change(&flow[index]) }
            let counts = coalesce(flow.map { $0.bytes() }).map(\.packetCount)
            #expect(counts == (flow[0].extensionHeaders.isEmpty ? [3] : [1, 1, 1]))
        }
    }

    @Test func `any single bit flipped in the second packet takes it out, unmodified`() {
        for isIPv6 in [false, true] {
            let flow = flow(count: 3, isIPv6: isIPv6, size: 40).map { $0.bytes() }
            for bit in 0..<flow[1].count * 8 {
                var packets = flow
                packets[1][bit / 8] ^= 1 << UInt8(bit % 8)
                let writes = coalesce(packets)
                #expect(writes.map(\.packet) == packets, "bit \(bit)")
                #expect(writes.allSatisfy { $0.header == VirtioNetHeader() }, "bit \(bit)")
            }
        }
    }

    @Test func `a damaged first packet is written alone and the rest is merged`() {
        var flow = flow(count: 4, isIPv6: false).map { $0.bytes() }
        flow[0][flow[0].count - 1] ^= 1
        let writes = coalesce(flow)
        #expect(writes.map(\.packetCount) == [1, 3])
        #expect(writes[0].packet == flow[0])
    }

    @Test func `a damaged packet inside ends one super-packet, and the next starts behind it`() {
        var flow = flow(count: 5, isIPv6: true).map { $0.bytes() }
        flow[2][70] ^= 0x80
        let writes = coalesce(flow)
        #expect(writes.map(\.packetCount) == [2, 1, 2])
        #expect(writes[1].packet == flow[2])
    }

    @Test func `fragments are not merged`() {
        var flow = flow(count: 3, isIPv6: false, dontFragment: false).map { $0.bytes() }
        for index in flow.indices {
            flow[index][6] |= 0x20
            rewriteChecksum4(&flow[index])
        }
        #expect(coalesce(flow).map(\.packetCount) == [1, 1, 1])
    }

    @Test func `padding behind the IP packet keeps frames apart`() {
        let frames = flow(count: 3, isIPv6: false, tap: true).map { $0.bytes() + [0, 0] }
        let writes = coalesce(frames, linkHeaderLength: 14)
        #expect(writes.map(\.packet) == frames)
    }

    @Test func `without DF an IPv4 ID out of order keeps packets apart`() {
        var flow = flow(count: 3, isIPv6: false, dontFragment: false)
        #expect(coalesce(flow.map { $0.bytes() }).map(\.packetCount) == [3])
        flow[1].identification &+= 1
        #expect(coalesce(flow.map { $0.bytes() }).map(\.packetCount) == [1, 1, 1])
    }

    @Test func `with DF the IPv4 ID means nothing`() {
        var flow = flow(count: 3, isIPv6: false, dontFragment: true)
        for index in flow.indices { flow[index].identification = 0 }
        #expect(coalesce(flow.map { $0.bytes() }).map(\.packetCount) == [3])
    }

    @Test func `a UDP datagram without a checksum is not given one`() {
        // Datagrams whose checksum computes to zero: right even to one who takes the field for a checksum.
        let flow = udpFlow(count: 3).map { packet in
            var packet = packet
            packet.payload.replaceSubrange(98..<100, with: [0, 0])
            let rest = Array(packet.bytes()[26..<28])
            packet.payload.replaceSubrange(98..<100, with: rest)
            var bytes = packet.bytes()
            #expect(Array(bytes[26..<28]) == [0xff, 0xff])
            bytes.replaceSubrange(26..<28, with: [0, 0])
            return bytes
        }
        let writes = coalesce(flow)
        #expect(writes.map(\.packet) == flow)
    }

    @Test func `segments with reserved bits are not merged`() {
        let flow = flow(count: 3, isIPv6: false).map { packet in
            var bytes = packet.bytes()
            bytes[32] |= 0x01
            rewriteTCPChecksum4(&bytes)
            return bytes
        }
        #expect(coalesce(flow).map(\.packet) == flow)
    }

    @Test func `frames whose EtherType is not their IP version's are not merged`() {
        let frames = flow(count: 3, isIPv6: false, tap: true).map { packet in
            var bytes = packet.bytes()
            bytes.replaceSubrange(12..<14, with: [0x86, 0xdd])
            return bytes
        }
        #expect(coalesce(frames, linkHeaderLength: 14).map(\.packet) == frames)
    }

    @Test func `what the device cannot split is not merged`() {
        let tcp = flow(count: 3, isIPv6: false).map { $0.bytes() }
        let udp = udpFlow(count: 3).map { $0.bytes() }
        #expect(coalesce(tcp, tcp: false).map(\.packetCount) == [1, 1, 1])
        #expect(coalesce(udp, udp: false).map(\.packetCount) == [1, 1, 1])
        #expect(coalesce(tcp, udp: false).map(\.packetCount) == [3])
        #expect(coalesce(udp, tcp: false).map(\.packetCount) == [3])
    }

    @Test func `bare acknowledgements stay alone and in order`() {
        let packets = flow(count: 4, isIPv6: false, size: 0).map { $0.bytes() }
        let writes = coalesce(packets)
        #expect(writes.map(\.packet) == packets)
    }

    @Test func `two flows that alternate are written in the order in which they came`() {
        let one = flow(count: 3, isIPv6: false).map { $0.bytes() }
        let two = flow(count: 3, isIPv6: true).map { $0.bytes() }
        let packets = [one[0], two[0], one[1], two[1], one[2], two[2]]
        #expect(coalesce(packets).map(\.packet) == packets)
    }

    // MARK: What is merged

    @Test func `PSH ends a super-packet and is in its header`() throws {
        var flow = flow(count: 5, isIPv6: false)
        flow[2].flags |= 0x08
        let writes = coalesce(flow.map { $0.bytes() })
        #expect(writes.map(\.packetCount) == [3, 2])
        #expect(writes[0].packet[33] == 0x18)
        #expect(writes[1].packet[33] == 0x10)
    }

    @Test func `a pushed first packet stays alone`() {
        var flow = flow(count: 3, isIPv6: false)
        flow[0].flags |= 0x08
        #expect(coalesce(flow.map { $0.bytes() }).map(\.packetCount) == [1, 2])
    }

    @Test func `a shorter packet ends a super-packet`() {
        for flow in [
            flow(count: 5, isIPv6: false, lengths: [100, 100, 60, 60, 60]), udpFlow(lengths: [100, 100, 60, 60, 60]),
        ] {
            let writes = coalesce(flow.map { $0.bytes() })
            #expect(writes.map(\.packetCount) == [3, 2])
            #expect(writes.map(\.header.gsoSize) == [100, 60])
        }
    }

    @Test func `sequence numbers may wrap`() {
        var flow = flow(count: 3, isIPv6: false)
        for index in flow.indices { flow[index].sequence = UInt32(0xffff_ffff - 99) &+ UInt32(index * 100) }
        #expect(coalesce(flow.map { $0.bytes() }).map(\.packetCount) == [3])
    }

    @Test func `the merged packet is what a device would have read`() {
        for isIPv6 in [false, true] {
            for isTCP in [false, true] {
                for tap in [false, true] {
                    let flow =
                        isTCP
                        ? flow(count: 6, isIPv6: isIPv6, tap: tap) : udpFlow(count: 6, isIPv6: isIPv6, tap: tap)
                    var whole = flow[0]
                    whole.payload = flow.flatMap(\.payload)
                    let writes = coalesce(flow.map { $0.bytes() }, linkHeaderLength: tap ? 14 : 0)
                    #expect(writes.count == 1)
                    #expect(writes[0].packet == whole.bytes(partialChecksum: true))
                    #expect(writes[0].header == whole.virtioHeader(size: 100))
                }
            }
        }
    }

    @Test func `at most 64 packets, at most 65,535 bytes, and no more than the vectors hold`() {
        #expect(coalesce(udpFlow(count: 130).map { $0.bytes() }).map(\.packetCount) == [64, 64, 2])
        // 20 + 8 + 40,000 + 25,507 = 65,535; IPv6 counts its own 40 bytes of header as well.
        for (isIPv6, last) in [(false, 25507), (true, 25487)] {
            let fits = udpFlow(lengths: [40000, last], isIPv6: isIPv6).map { $0.bytes() }
            #expect(coalesce(fits).map(\.packetCount) == [2])
            let tooLong = udpFlow(lengths: [40000, last + 1], isIPv6: isIPv6).map { $0.bytes() }
            #expect(coalesce(tooLong).map(\.packetCount) == [1, 1])
        }
        let device = CoalescingDevice(vectorCount: 4)
        for packet in udpFlow(count: 8) { device.append(packet.bytes()) }
        device.flush()
        #expect(device.writes.map(\.packetCount) == [3, 3, 2])
    }

    @Test func `verdicts say when to write`() {
        let device = CoalescingDevice()
        let packets = flow(count: 3, isIPv6: false).map { $0.bytes() }
        device.flush()
        #expect(device.writes.isEmpty)
        for packet in [packets[0], packets[1], packets[0], packets[2]] { device.append(packet) }
        #expect(device.verdicts == [.started, .joined, .flushFirst, .flushFirst])
        device.flush()
        device.append(packets[0])
        #expect(device.verdicts.last == .started)
    }

    // MARK: Flows

    private func flow(
        count: Int, isIPv6: Bool, size: Int = 100, lengths: [Int]? = nil, tap: Bool = false, dontFragment: Bool = true
    ) -> [ModelPacket] {
        var packet = ModelPacket()
        packet.transport = .tcp(
            sequence: 1000, acknowledgement: 77, flags: 0x10, window: 501,
            options: [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
        var sequence: UInt32 = 1000
        return series(lengths ?? [Int](repeating: size, count: count), packet, isIPv6, tap, dontFragment).map {
            var packet = $0
            packet.sequence = sequence
            sequence += UInt32(packet.payload.count)
            return packet
        }
    }

    private func udpFlow(
        count: Int = 0, lengths: [Int]? = nil, isIPv6: Bool = false, tap: Bool = false
    ) -> [ModelPacket] {
        series(lengths ?? [Int](repeating: 100, count: count), ModelPacket(), isIPv6, tap, true)
    }

    private func series(
        _ lengths: [Int], _ first: ModelPacket, _ isIPv6: Bool, _ tap: Bool, _ dontFragment: Bool
    ) -> [ModelPacket] {
        lengths.indices.map { index in
            var packet = first
            packet.isIPv6 = isIPv6
            if isIPv6 {
                packet.source = [0x20, 0x01] + [UInt8](1...14)
                packet.destination = [0x20, 0x02] + [UInt8](1...14)
            }
            if tap { packet.link = [UInt8](1...12) }
            packet.dontFragment = dontFragment
            packet.identification = UInt16(truncatingIfNeeded: 65530 + index)
            packet.payload = (0..<lengths[index]).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ index) }
            return packet
        }
    }

    private func rewriteTCPChecksum4(_ packet: inout [UInt8]) {
        packet.replaceSubrange(36..<38, with: [0, 0])
        let pseudo = Array(packet[12..<20]) + [0, 6] + big16(packet.count - 20)
        packet.replaceSubrange(36..<38, with: big16(Int(slowChecksum(pseudo + packet[20...]))))
    }

    private func rewriteChecksum4(_ packet: inout [UInt8]) {
        packet.replaceSubrange(10..<12, with: [0, 0])
        packet.replaceSubrange(10..<12, with: big16(Int(slowChecksum(Array(packet[0..<20])))))
    }
}
