import TunnelCore

/// Inner packets to work on: IPv4 with TCP or UDP, all checksums right.
enum Packets {
    static let headerLength = 52
    static let mtu = 1400
    /// Payload of a full segment: IPv4, TCP with timestamps.
    static let segmentSize = mtu - headerLength

    /// A TCP segment as it leaves the tunnel: 12 bytes of options, ACK set.
    static func writeSegment(_ bytes: UnsafeMutableRawPointer, payload: Int, sequence: UInt32, identification: UInt16) {
        writeHeaders(bytes, payload: payload, sequence: sequence, identification: identification)
        var sum = InternetChecksum()
        sum.addPseudoHeader4(addresses: bytes + 12, protocol: 6)
        sum.add(UInt16(32 + payload))
        sum.add(bytes + 20, count: 32 + payload)
        bytes.storeBytes(of: sum.complement, toByteOffset: 36, as: UInt16.self)
    }

    /// A read from a device with segmentation: one packet with a partial checksum, and what belongs in front of it.
    static func writeSuperPacket(_ bytes: UnsafeMutableRawPointer, segments: Int) -> (
        header: VirtioNetHeader, count: Int
    ) {
        let payload = segments * segmentSize
        writeHeaders(bytes, payload: payload, sequence: 1, identification: 1)
        var sum = InternetChecksum()
        sum.addPseudoHeader4(addresses: bytes + 12, protocol: 6)
        sum.add(UInt16(32 + payload))
        bytes.storeBytes(of: sum.folded, toByteOffset: 36, as: UInt16.self)
        var header = VirtioNetHeader()
        header.flags = VirtioNetHeader.needsChecksum
        header.gsoType = VirtioNetHeader.gsoTCPv4
        header.headerLength = UInt16(headerLength)
        header.gsoSize = UInt16(segmentSize)
        header.checksumStart = 20
        header.checksumOffset = 16
        return (header, headerLength + payload)
    }

    private static func writeHeaders(
        _ bytes: UnsafeMutableRawPointer, payload: Int, sequence: UInt32, identification: UInt16
    ) {
        for index in 0..<headerLength + payload {
            bytes.storeBytes(of: UInt8(truncatingIfNeeded: index &* 7), toByteOffset: index, as: UInt8.self)
        }
        func put16(_ value: Int, _ offset: Int) {
            bytes.storeBytes(of: UInt16(value).bigEndian, toByteOffset: offset, as: UInt16.self)
        }
        func put32(_ value: UInt32, _ offset: Int) {
            bytes.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
        }
        put16(0x4500, 0)
        put16(headerLength + payload, 2)
        put16(Int(identification), 4)
        put16(0x4000, 6)
        put16(0x4006, 8)
        put16(0, 10)
        put32(0xc000_0201, 12)
        put32(0xc633_6407, 16)
        var sum = InternetChecksum()
        sum.add(bytes, count: 20)
        bytes.storeBytes(of: sum.complement, toByteOffset: 10, as: UInt16.self)
        put16(40_000, 20)
        put16(443, 22)
        put32(sequence, 24)
        put32(1, 28)
        put16(0x8010, 32)
        put16(500, 34)
        put16(0, 36)
        put16(0, 38)
        put32(0x0101_080a, 40)
        put32(1, 44)
        put32(2, 48)
    }
}
