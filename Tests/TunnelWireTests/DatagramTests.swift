import Testing
import TunnelWire

@Suite("Datagram header")
struct DatagramTests {
    @Test func `fewer than 28 bytes are refused`() {
        for count in 0..<28 {
            let bytes = [UInt8](repeating: 0, count: count)
            #expect(throws: Datagram.Malformation.shorterThanHeader) { try parse(bytes) }
        }
    }

    @Test func `no bytes at all are refused`() {
        #expect(throws: Datagram.Malformation.shorterThanHeader) {
            try Datagram.parse(UnsafeRawBufferPointer(start: nil, count: 0))
        }
    }

    @Test func `a length of zero is refused`() {
        #expect(throws: Datagram.Malformation.lengthMismatch) { try parse(header(length: 0)) }
    }

    @Test func `a length other than the bytes that came is refused`() {
        for (length, count) in [(1, 0), (0, 1), (16, 15), (16, 17), (0xffff, 100), (256, 1), (1, 256)] {
            #expect(throws: Datagram.Malformation.lengthMismatch) {
                try parse(header(length: UInt16(length)) + [UInt8](repeating: 0, count: count))
            }
        }
    }

    @Test func `a length above 1500 is refused though the bytes came`() throws {
        #expect(throws: Datagram.Malformation.lengthMismatch) {
            try parse(header(length: 1501) + [UInt8](repeating: 0, count: 1501))
        }
        #expect(try parse(header(length: 1500) + [UInt8](repeating: 0, count: 1500)).header.length == 1500)
    }

    @Test func `types above 4 are refused`() throws {
        for type in 0..<64 as Range<UInt16> {
            let bytes = header(length: 1, flags: 1 | type << 4) + [0]
            if type <= 4 {
                #expect(try parse(bytes).type.rawValue == UInt8(type))
            } else {
                #expect(throws: Datagram.Malformation.unknownType) { try parse(bytes) }
            }
        }
    }

    @Test func `version 0 leaves reorder without meaning, later versions are read as 1`() throws {
        for version in 0..<16 as Range<UInt16> {
            let read = try parse(header(length: 1, flags: version | 3 << 4 | 1 << 10) + [0])
            #expect(read.type == .data)
            #expect(read.header.version == UInt8(version))
            #expect(read.header.reorder == (version != 0))
        }
    }

    @Test func `unused bits change nothing else`() throws {
        for bits in 0..<32 as Range<UInt16> {
            let read = try parse(header(length: 1, flags: 1 | 2 << 4 | bits << 11) + [0])
            #expect(read.type == .keepalive)
            #expect(read.header.unusedBits == UInt8(bits))
            #expect(!read.header.reorder)
        }
    }

    @Test func `fields lie where they belong`() {
        let header = DatagramHeader(
            type: .data, reorder: true, length: 0x0102, timestamp: 0x0304, timestampReply: 0x0506, flowID: 0x0708_090a,
            sequence: 0x0b0c_0d0e_0f10_1112, dataSequence: 0x1314_1516_1718_191a)
        #expect(
            write(header) == [
                0x01, 0x02, 0x31, 0x04, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
                0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a,
            ])
    }

    @Test func `any 28 bytes survive being read and written`() {
        var state: UInt32 = 1
        for _ in 0..<1000 {
            let bytes = (0..<28).map { _ in
                state = state &* 1_664_525 &+ 1_013_904_223
                return UInt8(state >> 24)
            }
            let header = bytes.withUnsafeBytes { DatagramHeader(reading: $0.baseAddress!) }
            #expect(write(header) == bytes)
        }
    }

    @Test func `an inner packet of 1456 bytes fills a datagram`() {
        #expect(Datagram.maximumPlaintext == 1456)
        #expect(Datagram.overhead == 44)
    }

    private func header(length: UInt16, flags: UInt16 = 1) -> [UInt8] {
        [UInt8(length >> 8), UInt8(length & 0xff), UInt8(flags & 0xff), UInt8(flags >> 8)]
            + [UInt8](repeating: 0, count: 24)
    }

    private func write(_ header: DatagramHeader) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xee, count: 28)
        bytes.withUnsafeMutableBytes { header.write(to: $0.baseAddress!) }
        return bytes
    }
}

private func parse(_ bytes: [UInt8]) throws -> (header: DatagramHeader, type: DatagramType) {
    try bytes.withUnsafeBytes { try Datagram.parse($0) }
}
