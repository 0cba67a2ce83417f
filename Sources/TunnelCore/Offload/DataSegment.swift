import Glibc

/// A TCP segment or UDP datagram that may be merged with its neighbours: whole, with payload, without IP options,
/// extension headers or fragmentation, without padding behind it, and in TCP with no flags but ACK and PSH.
///
/// The payload has not been read: see ``hasValidChecksum``.
struct DataSegment {
    private let base: UnsafeMutableRawPointer
    private let networkOffset: Int
    private let transportOffset: Int
    private let headerLength: Int
    private let end: Int
    let isIPv6: Bool
    let isTCP: Bool
    let isPushed: Bool
    /// TCP's sequence number; 0 for UDP.
    let sequence: UInt32
    /// IPv4's; 0 for IPv6.
    let identification: UInt16
    let dontFragment: Bool

    var payload: UnsafeMutableRawPointer { base + headerLength }
    /// At least 1.
    var payloadLength: Int { end &- headerLength }
    /// From the IP header on.
    var ipLength: Int { end &- networkOffset }

    /// - Parameters:
    ///   - tcp: whether TCP segments are wanted; `udp`: whether UDP datagrams are.
    init?(_ packet: UnsafeMutableRawBufferPointer, linkHeaderLength: Int, tcp: Bool, udp: Bool) {
        let bytes = UnsafeRawBufferPointer(packet)
        guard let base = packet.baseAddress, let parsed = PacketHeaders(bytes, linkHeaderLength: linkHeaderLength),
            !parsed.hasOptions, !parsed.isFragment, parsed.end == packet.count
        else { return nil }
        let transport = base + parsed.transportOffset
        switch parsed.transportProtocol {
        case PacketHeaders.tcp:
            guard tcp, let length = parsed.tcpHeaderLength(bytes),
                // The low half of byte 12 is reserved, or an ECN flag that must not be merged.
                transport.load(fromByteOffset: 12, as: UInt8.self) & 15 == 0
            else { return nil }
            let flags = transport.load(fromByteOffset: 13, as: UInt8.self)
            guard flags & ~TCPFlags.psh == TCPFlags.ack else { return nil }
            isTCP = true
            isPushed = flags & TCPFlags.psh != 0
            headerLength = parsed.transportOffset &+ length
            sequence = UnsafeRawPointer(transport).networkUInt32(at: 4)
        case PacketHeaders.udp:
            guard udp, let length = parsed.udpHeaderLength(bytes),
                // No checksum: merging would invent one.
                transport.loadUnaligned(fromByteOffset: 6, as: UInt16.self) != 0
            else { return nil }
            isTCP = false
            isPushed = false
            headerLength = parsed.transportOffset &+ length
            sequence = 0
        default:
            return nil
        }
        guard headerLength < parsed.end else { return nil }
        if parsed.isIPv6 {
            identification = 0
            dontFragment = true
        } else {
            var sum = InternetChecksum()
            sum.add(base + parsed.networkOffset, count: 20)
            guard sum.isValid else { return nil }
            identification = UnsafeRawPointer(base).networkUInt16(at: parsed.networkOffset &+ 4)
            dontFragment = base.load(fromByteOffset: parsed.networkOffset &+ 6, as: UInt8.self) & 0x40 != 0
        }
        self.base = base
        networkOffset = parsed.networkOffset
        transportOffset = parsed.transportOffset
        end = parsed.end
        isIPv6 = parsed.isIPv6
    }

    /// Whether the TCP or UDP checksum is right; reads the payload.
    var hasValidChecksum: Bool {
        var sum = pseudoHeader(length: end &- transportOffset)
        sum.add(base + transportOffset, count: end &- transportOffset)
        return sum.isValid
    }

    /// Whether the headers are the same in everything that the split of a merged packet cannot give back to each: all
    /// but lengths, IPv4 ID, checksums, TCP sequence number and PSH. Link headers with their VLAN tags included.
    func hasSameHeaders(as other: DataSegment) -> Bool {
        guard isIPv6 == other.isIPv6, isTCP == other.isTCP, networkOffset == other.networkOffset,
            headerLength == other.headerLength,
            memcmp(base, other.base, networkOffset) == 0,
            isIPv6 ? hasSameIPv6Header(as: other) : hasSameIPv4Header(as: other)
        else { return false }
        let mine = base + transportOffset
        let theirs = other.base + transportOffset
        // Ports.
        guard memcmp(mine, theirs, 4) == 0 else { return false }
        // Acknowledgement and header length; window; urgent pointer and options. Flags were checked.
        return !isTCP
            || (memcmp(mine + 8, theirs + 8, 5) == 0 && memcmp(mine + 14, theirs + 14, 2) == 0
                && memcmp(mine + 18, theirs + 18, headerLength &- transportOffset &- 18) == 0)
    }

    private func hasSameIPv4Header(as other: DataSegment) -> Bool {
        let mine = base + networkOffset
        let theirs = other.base + networkOffset
        // Version, length, TOS; flags, TTL, protocol; addresses.
        return memcmp(mine, theirs, 2) == 0 && memcmp(mine + 6, theirs + 6, 4) == 0
            && memcmp(mine + 12, theirs + 12, 8) == 0
    }

    private func hasSameIPv6Header(as other: DataSegment) -> Bool {
        let mine = base + networkOffset
        let theirs = other.base + networkOffset
        // Version, traffic class, flow label; next header, hop limit, addresses.
        return memcmp(mine, theirs, 4) == 0 && memcmp(mine + 6, theirs + 6, 34) == 0
    }

    /// Sets PSH, for a merged packet whose last segment has it.
    func setPush() {
        let flags = base.load(fromByteOffset: transportOffset &+ 13, as: UInt8.self)
        base.storeBytes(of: flags | TCPFlags.psh, toByteOffset: transportOffset &+ 13, as: UInt8.self)
    }

    /// Makes these headers those of a merged packet, and says how the kernel is to split it.
    ///
    /// - Parameter ipLength: bytes of the merged packet from the IP header on, at most 65535.
    func writeMergedHeaders(ipLength: Int) -> VirtioNetHeader {
        let ip = base + networkOffset
        if isIPv6 {
            ip.storeNetwork(UInt16(truncatingIfNeeded: ipLength &- 40), at: 4)
        } else {
            ip.storeNetwork(UInt16(truncatingIfNeeded: ipLength), at: 2)
            storeHeaderChecksum4(ip, headerLength: 20)
        }
        let length = ipLength &- (transportOffset &- networkOffset)
        if !isTCP { base.storeNetwork(UInt16(truncatingIfNeeded: length), at: transportOffset &+ 4) }
        var header = VirtioNetHeader()
        header.flags = VirtioNetHeader.needsChecksum
        header.gsoType =
            isTCP
            ? (isIPv6 ? VirtioNetHeader.gsoTCPv6 : VirtioNetHeader.gsoTCPv4) : VirtioNetHeader.gsoUDPSegmentation
        header.headerLength = UInt16(truncatingIfNeeded: headerLength)
        header.gsoSize = UInt16(truncatingIfNeeded: payloadLength)
        header.checksumStart = UInt16(truncatingIfNeeded: transportOffset)
        header.checksumOffset = isTCP ? 16 : 6
        // The kernel completes it in each segment.
        base.storeBytes(
            of: pseudoHeader(length: length).folded, toByteOffset: transportOffset &+ Int(header.checksumOffset),
            as: UInt16.self)
        return header
    }

    private func pseudoHeader(length: Int) -> InternetChecksum {
        let addresses = base + networkOffset + (isIPv6 ? 8 : 12)
        let number = isTCP ? PacketHeaders.tcp : PacketHeaders.udp
        var sum = InternetChecksum()
        if isIPv6 {
            sum.addPseudoHeader6(addresses: addresses, protocol: number)
        } else {
            sum.addPseudoHeader4(addresses: addresses, protocol: number)
        }
        sum.add(UInt16(truncatingIfNeeded: length))
        return sum
    }
}
