/// Where the headers of a packet lie: the one parser under splitting, merging, hashing and clamping.
///
/// Every offset counts from the packet's first byte, and `networkOffset <= transportOffset <= end <= packet.count`
/// whatever the bytes say. The packet is one IP packet, alone or in an Ethernet frame with up to two VLAN tags.
struct PacketHeaders {
    /// Where the IP header starts.
    var networkOffset: Int
    var isIPv6: Bool
    /// The byte after the IP header, its options or its extension headers.
    var transportOffset: Int
    /// The protocol of what starts there: an IP protocol number.
    var transportProtocol: UInt8
    /// The end of the IP packet by its own length field; what follows is padding of the frame.
    var end: Int
    /// IPv4 options or IPv6 extension headers are present.
    var hasOptions = false
    /// The packet is a fragment, be it the first.
    var isFragment = false
    /// A fragment without the start of its datagram: there is no transport header in it.
    var isLaterFragment = false

    static let tcp: UInt8 = 6
    static let udp: UInt8 = 17
    static let ethernetHeaderLength = 14

    /// Nil: no IP packet, or one whose lengths do not fit into each other or into `packet`.
    ///
    /// - Parameter linkHeaderLength: 0, the packet starts with its IP header (TUN); 14, with an Ethernet header (TAP).
    init?(_ packet: UnsafeRawBufferPointer, linkHeaderLength: Int) {
        guard let base = packet.baseAddress,
            let network = Self.networkOffset(base, count: packet.count, linkHeaderLength: linkHeaderLength),
            network < packet.count
        else { return nil }
        networkOffset = network
        let available = packet.count &- network
        switch base.load(fromByteOffset: network, as: UInt8.self) >> 4 {
        case 4:
            guard available >= 20 else { return nil }
            let headerLength = Int(base.load(fromByteOffset: network, as: UInt8.self) & 15) &* 4
            let totalLength = Int(base.networkUInt16(at: network &+ 2))
            guard headerLength >= 20, totalLength >= headerLength, totalLength <= available else { return nil }
            let fragment = base.networkUInt16(at: network &+ 6)
            isIPv6 = false
            transportOffset = network &+ headerLength
            transportProtocol = base.load(fromByteOffset: network &+ 9, as: UInt8.self)
            end = network &+ totalLength
            hasOptions = headerLength > 20
            isFragment = fragment & 0x3fff != 0
            isLaterFragment = fragment & 0x1fff != 0
        case 6:
            guard available >= 40 else { return nil }
            let payloadLength = Int(base.networkUInt16(at: network &+ 4))
            guard payloadLength <= available &- 40 else { return nil }
            isIPv6 = true
            transportOffset = network &+ 40
            transportProtocol = base.load(fromByteOffset: network &+ 6, as: UInt8.self)
            end = network &+ 40 &+ payloadLength
            guard skipExtensionHeaders(base) else { return nil }
            hasOptions = transportOffset > network &+ 40
        default:
            return nil
        }
        // The kernel goes by the EtherType, not by the version.
        guard network == 0 || base.networkUInt16(at: network &- 2) == (isIPv6 ? 0x86dd : 0x0800) else { return nil }
    }

    /// The Ethernet header and its VLAN tags (IEEE 802.1Q, 802.1ad); nil: not IP, or cut short.
    private static func networkOffset(_ base: UnsafeRawPointer, count: Int, linkHeaderLength: Int) -> Int? {
        if linkHeaderLength == 0 { return 0 }
        guard linkHeaderLength == ethernetHeaderLength else { return nil }
        var offset = ethernetHeaderLength
        for _ in 0...2 {
            guard offset <= count else { return nil }
            switch base.networkUInt16(at: offset &- 2) {
            case 0x0800, 0x86dd: return offset
            case 0x8100, 0x88a8: offset &+= 4
            default: return nil
            }
        }
        return nil
    }

    /// Hop-by-hop options, routing, destination options and fragment headers (RFC 8200, 4); false: cut short, or more
    /// of them than any real packet has.
    private mutating func skipExtensionHeaders(_ base: UnsafeRawPointer) -> Bool {
        for _ in 0..<8 {
            switch transportProtocol {
            case 0, 43, 60:
                guard end &- transportOffset >= 8 else { return false }
                let length = (Int(base.load(fromByteOffset: transportOffset &+ 1, as: UInt8.self)) &+ 1) &* 8
                guard length <= end &- transportOffset else { return false }
                transportProtocol = base.load(fromByteOffset: transportOffset, as: UInt8.self)
                transportOffset &+= length
            case 44:
                guard end &- transportOffset >= 8 else { return false }
                let fragment = base.networkUInt16(at: transportOffset &+ 2)
                transportProtocol = base.load(fromByteOffset: transportOffset, as: UInt8.self)
                transportOffset &+= 8
                isFragment = true
                isLaterFragment = fragment & 0xfff8 != 0
                if isLaterFragment { return true }
            default:
                return true
            }
        }
        return false
    }

    /// Bytes of the TCP header with its options; nil: not the start of a TCP segment, or cut short.
    func tcpHeaderLength(_ packet: UnsafeRawBufferPointer) -> Int? {
        guard transportProtocol == Self.tcp, !isLaterFragment, end &- transportOffset >= 20 else { return nil }
        let length = Int(packet.load(fromByteOffset: transportOffset &+ 12, as: UInt8.self) >> 4) &* 4
        return length >= 20 && length <= end &- transportOffset ? length : nil
    }

    /// 8; nil: not a whole UDP datagram, or its length is not the IP packet's.
    func udpHeaderLength(_ packet: UnsafeRawBufferPointer) -> Int? {
        let length = end &- transportOffset
        guard let base = packet.baseAddress, transportProtocol == Self.udp, !isFragment, length >= 8,
            Int(base.networkUInt16(at: transportOffset &+ 4)) == length
        else { return nil }
        return 8
    }

    /// The pseudo header's sum, without the length.
    func pseudoHeader(_ base: UnsafeRawPointer) -> InternetChecksum {
        var sum = InternetChecksum()
        if isIPv6 {
            sum.addPseudoHeader6(addresses: base + (networkOffset &+ 8), protocol: transportProtocol)
        } else {
            sum.addPseudoHeader4(addresses: base + (networkOffset &+ 12), protocol: transportProtocol)
        }
        return sum
    }
}

extension UnsafeRawPointer {
    /// A number in network byte order, of any alignment.
    func networkUInt16(at offset: Int) -> UInt16 {
        UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    func networkUInt32(at offset: Int) -> UInt32 {
        UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
}

extension UnsafeMutableRawPointer {
    /// Stores a number in network byte order, at any alignment.
    func storeNetwork(_ value: UInt16, at offset: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
    }

    func storeNetwork(_ value: UInt32, at offset: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
    }
}
