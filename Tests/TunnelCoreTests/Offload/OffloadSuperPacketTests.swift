import Testing
import TunnelCore

@Suite("Splitting what a device hands over")
struct OffloadSuperPacketTests {
    // MARK: Refusals

    @Test(arguments: [3, 3 | 0x80, 2, 6, 0x20, 0x40, 0x80, 5 | 0x80, 0xff] as [UInt8])
    func `a segmentation that was not asked for is refused`(gsoType: UInt8) {
        let packet = tcp4(payload: 3000)
        var header = packet.virtioHeader(size: 1000)
        header.gsoType = gsoType
        #expect(throws: SuperPacket.Refusal.unknownSegmentation(gsoType: gsoType)) {
            _ = try split(packet.bytes(partialChecksum: true), header, linkHeaderLength: 0)
        }
    }

    @Test func `segments of no bytes are refused`() {
        let packet = tcp4(payload: 3000)
        expect(.noSegmentSize, packet.bytes(partialChecksum: true), packet.virtioHeader(size: 0))
    }

    @Test func `an empty read is refused`() {
        #expect(throws: SuperPacket.Refusal.inconsistentHeaders) {
            var packet = try SuperPacket(VirtioNetHeader(), packet: .init(start: nil, count: 0), linkHeaderLength: 0)
            _ = packet.segment(0)
        }
    }

    @Test func `a type that is not the packet's is refused`() {
        let four = tcp4(payload: 3000)
        var header = four.virtioHeader(size: 1000)
        header.gsoType = VirtioNetHeader.gsoTCPv6
        expect(.inconsistentHeaders, four.bytes(partialChecksum: true), header)
        header.gsoType = VirtioNetHeader.gsoUDPSegmentation
        expect(.inconsistentHeaders, four.bytes(partialChecksum: true), header)
        var udp = four
        udp.transport = .udp
        header.gsoType = VirtioNetHeader.gsoTCPv4
        expect(.inconsistentHeaders, udp.bytes(partialChecksum: true), header)
    }

    @Test func `a length field that is not the packet's length is refused`() {
        let packet = tcp4(payload: 3000)
        let bytes = packet.bytes(partialChecksum: true)
        for length in [0, 19, 20, 39, bytes.count - 1, bytes.count + 1, 0xffff] {
            var damaged = bytes
            damaged.replaceSubrange(2..<4, with: big16(length))
            expect(.inconsistentHeaders, damaged, packet.virtioHeader(size: 1000))
        }
        expect(.inconsistentHeaders, bytes + [0], packet.virtioHeader(size: 1000))
        var udp = packet
        udp.transport = .udp
        var damaged = udp.bytes(partialChecksum: true)
        damaged[25] ^= 1
        expect(.inconsistentHeaders, damaged, udp.virtioHeader(size: 1000))
    }

    @Test func `a fragment is refused`() {
        let packet = tcp4(payload: 3000)
        for (high, low) in [(0x20, 0), (0, 1), (0x1f, 0xff)] as [(UInt8, UInt8)] {
            var bytes = packet.bytes(partialChecksum: true)
            bytes[6] = high
            bytes[7] = low
            expect(.inconsistentHeaders, bytes, packet.virtioHeader(size: 1000))
        }
        var six = tcp6(payload: 3000)
        six.extensionHeaders = [(44, [0, 0, 0, 1, 0, 0, 0, 9])]
        expect(.inconsistentHeaders, six.bytes(partialChecksum: true), six.virtioHeader(size: 1000))
    }

    @Test func `a TCP header that ends outside of the packet is refused`() {
        let packet = tcp4(payload: 20)
        for offset in [0, 4, 11, 15] as [UInt8] {
            var bytes = packet.bytes(partialChecksum: true)
            bytes[32] = offset << 4
            expect(.inconsistentHeaders, bytes, packet.virtioHeader(size: 10))
        }
        expect(.inconsistentHeaders, tcp4(payload: 0, doffset: 6), packet.virtioHeader(size: 10))
    }

    @Test func `a checksum that is elsewhere than the protocol has it is refused`() {
        let packet = tcp4(payload: 3000)
        var header = packet.virtioHeader(size: 1000)
        header.checksumStart += 2
        expect(.inconsistentChecksumField, packet.bytes(partialChecksum: true), header)
        header = packet.virtioHeader(size: 1000)
        header.checksumOffset = 6
        expect(.inconsistentChecksumField, packet.bytes(partialChecksum: true), header)
    }

    @Test func `a checksum field outside of the packet is refused`() {
        var header = VirtioNetHeader()
        header.flags = VirtioNetHeader.needsChecksum
        let bytes = tcp4(payload: 0).bytes(partialChecksum: true)
        for (start, offset) in [(20, 19), (39, 0), (40, 0), (0xffff, 0xffff), (0, 39)] as [(UInt16, UInt16)] {
            header.checksumStart = start
            header.checksumOffset = offset
            expect(.inconsistentChecksumField, bytes, header)
        }
    }

    @Test func `headers longer than can be kept are refused`() {
        var packet = tcp6(payload: 3000)
        packet.extensionHeaders = [(60, [0, 16] + [UInt8](repeating: 0, count: 134))]
        expect(
            .inconsistentHeaders, Array(packet.bytes(partialChecksum: true).dropLast()), packet.virtioHeader(size: 1000)
        )
        expect(.headersTooLong, packet.bytes(partialChecksum: true), packet.virtioHeader(size: 1000))
    }

    // MARK: Results

    @Test func `a packet with nothing to do is handed through as it is`() throws {
        for bytes in [[0xff], [UInt8](0..<100), tcp4(payload: 10).bytes()] as [[UInt8]] {
            #expect(try split(bytes, VirtioNetHeader(), linkHeaderLength: 0) == [bytes])
            #expect(try split(bytes, VirtioNetHeader(), linkHeaderLength: 14) == [bytes])
        }
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `a checksum that the device left open is completed`(seed: UInt64) throws {
        var random = OffloadRandom(seed: seed)
        for _ in 0..<50 {
            var packet = random.packet(tap: random.chance(2))
            packet.payload = random.bytes(random.number(0...1400))
            var header = packet.virtioHeader(size: 1)
            header.gsoType = VirtioNetHeader.gsoNone
            header.gsoSize = 0
            var expected = packet.bytes()
            let field = packet.transportOffset + packet.checksumOffset
            if expected[field] == 0 && expected[field + 1] == 0 {
                expected.replaceSubrange(field..<field + 2, with: [255, 255])
            }
            let got = try split(
                packet.bytes(partialChecksum: true), header, linkHeaderLength: packet.link.isEmpty ? 0 : 14)
            #expect(got == [expected])
        }
    }

    @Test func `a UDP checksum of zero becomes 0xffff, completed or split`() throws {
        // A payload whose last word brings the sum to zero.
        var packet = tcp4(payload: 0)
        packet.transport = .udp
        packet.payload = [1, 2, 3, 4, 0, 0]
        let bytes = packet.bytes()
        packet.payload.replaceSubrange(4..<6, with: bytes[26..<28])
        #expect(Array(packet.bytes()[26..<28]) == [0xff, 0xff])
        var header = packet.virtioHeader(size: 6)
        #expect(try split(packet.bytes(partialChecksum: true), header, linkHeaderLength: 0) == [packet.bytes()])
        header.gsoType = VirtioNetHeader.gsoNone
        #expect(try split(packet.bytes(partialChecksum: true), header, linkHeaderLength: 0) == [packet.bytes()])
    }

    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func `segments equal packets built from scratch`(seed: UInt64) throws {
        var random = OffloadRandom(seed: seed)
        for _ in 0..<8 {
            var packet = random.packet(tap: random.chance(2))
            let room = 65535 - (packet.headerLength - packet.networkOffset)
            packet.payload = random.bytes(random.chance(4) ? room : random.number(0...9000))
            if case .tcp(let sequence, let acknowledgement, _, let window, let options) = packet.transport {
                packet.transport = .tcp(
                    sequence: sequence, acknowledgement: acknowledgement,
                    flags: UInt8.random(in: 0...255, using: &random),
                    window: window, options: options)
            }
            // Also sizes far below the headers' length, where headers overwrite headers.
            let size = random.chance(3) ? random.number(1...60) : random.number(500...9000)
            let segments = packet.payload.count > 9000 && size < 500 ? 1400 : size
            var header = packet.virtioHeader(size: segments)
            if packet.isTCP && random.chance(2) { header.gsoType |= VirtioNetHeader.gsoECN }
            header.headerLength = UInt16.random(in: 0...0xffff, using: &random)
            let got = try split(
                packet.bytes(partialChecksum: true), header, linkHeaderLength: packet.link.isEmpty ? 0 : 14,
                against: random.chance(2) ? .low : .high)
            #expect(got == packet.segments(size: segments).map { $0.bytes() })
        }
    }

    @Test func `without a partial checksum the pseudo header is computed`() throws {
        for packet in [tcp4(payload: 5000), tcp6(payload: 5000)] {
            var header = packet.virtioHeader(size: 1400)
            header.flags = VirtioNetHeader.dataValid
            header.checksumStart = 0
            header.checksumOffset = 0
            let got = try split(packet.bytes(), header, linkHeaderLength: 0)
            #expect(got == packet.segments(size: 1400).map { $0.bytes() })
        }
    }

    @Test func `behind a routing header the checksum counts the final destination`() throws {
        var packet = tcp6(payload: 4000)
        packet.finalDestination = [0x20, 0x01, 0x0d, 0xb8] + [UInt8](repeating: 9, count: 12)
        packet.extensionHeaders = [(43, [0, 2, 2, 1, 0, 0, 0, 0] + packet.finalDestination!)]
        let got = try split(packet.bytes(partialChecksum: true), packet.virtioHeader(size: 1200), linkHeaderLength: 0)
        #expect(got == packet.segments(size: 1200).map { $0.bytes() })
    }

    @Test func `the counts say what the segments are`() throws {
        var bytes = tcp4(payload: 2801).bytes(partialChecksum: true)
        let header = tcp4(payload: 2801).virtioHeader(size: 1400)
        try bytes.withUnsafeMutableBytes { buffer in
            var packet = try SuperPacket(header, packet: buffer, linkHeaderLength: 0)
            #expect(packet.segmentCount == 3)
            #expect(packet.headerLength == 40)
            #expect(packet.segmentPayloadSize == 1400)
            #expect((0..<3).map { packet.segment($0).count } == [1440, 1440, 41])
        }
    }

    @Test func `segments may be left out`() throws {
        let model = tcp4(payload: 5000)
        var bytes = model.bytes(partialChecksum: true)
        try bytes.withUnsafeMutableBytes { buffer in
            var packet = try SuperPacket(model.virtioHeader(size: 1000), packet: buffer, linkHeaderLength: 0)
            #expect([UInt8](packet.segment(2)) == model.segments(size: 1000)[2].bytes())
            #expect([UInt8](packet.segment(4)) == model.segments(size: 1000)[4].bytes())
        }
    }

    @Test func `a segment asked for twice or out of order is a programmer's error`() async {
        await #expect(processExitsWith: .failure) {
            var bytes = [UInt8](repeating: 0, count: 60)
            try bytes.withUnsafeMutableBytes { buffer in
                var packet = try SuperPacket(VirtioNetHeader(), packet: buffer, linkHeaderLength: 0)
                _ = packet.segment(0)
                _ = packet.segment(0)
            }
        }
    }

    // MARK: Shorthand

    private func tcp4(payload: Int) -> ModelPacket {
        var packet = ModelPacket()
        packet.transport = .tcp(sequence: 0xffff_fff0, acknowledgement: 7, flags: 0x99, window: 500, options: [])
        packet.identification = 0xfffe
        packet.payload = (0..<payload).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        return packet
    }

    private func tcp4(payload: Int, doffset: UInt8) -> [UInt8] {
        var bytes = tcp4(payload: payload).bytes(partialChecksum: true)
        bytes[32] = doffset << 4
        return bytes
    }

    private func tcp6(payload: Int) -> ModelPacket {
        var packet = tcp4(payload: payload)
        packet.isIPv6 = true
        packet.source = [UInt8](repeating: 0x2a, count: 16)
        packet.destination = [UInt8](repeating: 0x2b, count: 16)
        return packet
    }

    private func expect(
        _ refusal: SuperPacket.Refusal, _ bytes: [UInt8], _ header: VirtioNetHeader,
        at location: SourceLocation = #_sourceLocation
    ) {
        #expect(throws: refusal, sourceLocation: location) {
            _ = try split(bytes, header, linkHeaderLength: 0)
        }
    }
}
