import Glibc

/// Bytes that the longest answer of ``makeTooBig(_:mtu:into:)`` takes: 1280, IPv6's smallest MTU.
public let maximumTooBigLength = 1280

/// Builds the answer to an IP packet that is too big for the path: ICMP "fragmentation needed and DF set"
/// (RFC 792, RFC 1191) or ICMPv6 "packet too big" (RFC 4443, 3.2).
///
/// The answer comes from the packet's own destination, as Linux does it for its tunnels: the path's end has no address
/// that the sender is sure to know. It quotes what fits into 576 bytes (IPv4; RFC 1812, 4.3.2.3) or 1280 (IPv6).
///
/// No answer is due, and 0 is returned, to ICMP errors and redirects, to and from addresses that are not one host's
/// (RFC 1122, 3.2.2; RFC 4443, 2.4), to fragments but the first, to IPv4 packets that may be fragmented, and to what is
/// no IP packet. Limiting the rate is the caller's.
///
/// - Parameters:
///   - packet: an IP packet, any bytes; never an Ethernet frame.
///   - mtu: the largest IP packet that fits, in bytes.
///   - answer: ``maximumTooBigLength`` bytes of room, outside of `packet`; with less room, 0 is returned.
/// - Returns: the length of the IP packet written to `answer`; 0: none.
public func makeTooBig(
    _ packet: UnsafeRawBufferPointer, mtu: Int, into answer: UnsafeMutableRawBufferPointer
) -> Int {
    guard answer.count >= maximumTooBigLength, let to = answer.baseAddress, let from = packet.baseAddress,
        let parsed = PacketHeaders(packet, linkHeaderLength: 0), !parsed.isLaterFragment
    else { return 0 }
    let mtu = UInt32(clamping: mtu)
    return parsed.isIPv6
        ? makePacketTooBig6(parsed, from: from, mtu: mtu, to: to)
        : makeFragmentationNeeded4(parsed, from: from, mtu: mtu, to: to)
}

private func makeFragmentationNeeded4(
    _ parsed: PacketHeaders, from: UnsafeRawPointer, mtu: UInt32, to: UnsafeMutableRawPointer
) -> Int {
    let dontFragment = from.load(fromByteOffset: 6, as: UInt8.self) & 0x40 != 0
    let source = from.networkUInt32(at: 12)
    let destination = from.networkUInt32(at: 16)
    guard dontFragment, isOneHost4(source), isOneHost4(destination) else { return 0 }
    if parsed.transportProtocol == 1 {
        // Only queries and their answers: echo, timestamp, information, address mask, extended echo
        // (RFC 792, RFC 950, RFC 8335).
        guard parsed.end > parsed.transportOffset else { return 0 }
        switch from.load(fromByteOffset: parsed.transportOffset, as: UInt8.self) {
        case 0, 8, 13...18, 42, 43: break
        default: return 0
        }
    }
    let quoted = min(parsed.end, 576 - 28)
    let length = 28 &+ quoted
    _ = memset(to, 0, 28)
    to.storeBytes(of: 0x45, as: UInt8.self)
    // Precedence "internetwork control" (RFC 1812, 4.3.2.5).
    to.storeBytes(of: 0xc0, toByteOffset: 1, as: UInt8.self)
    to.storeNetwork(UInt16(truncatingIfNeeded: length), at: 2)
    to.storeNetwork(UInt16(0x4000), at: 6)
    to.storeBytes(of: 64, toByteOffset: 8, as: UInt8.self)
    to.storeBytes(of: 1, toByteOffset: 9, as: UInt8.self)
    to.storeNetwork(destination, at: 12)
    to.storeNetwork(source, at: 16)
    storeHeaderChecksum4(to, headerLength: 20)

    let icmp = to + 20
    icmp.storeBytes(of: 3, as: UInt8.self)
    icmp.storeBytes(of: 4, toByteOffset: 1, as: UInt8.self)
    icmp.storeNetwork(UInt16(clamping: mtu), at: 6)
    _ = memcpy(icmp + 8, from, quoted)
    var sum = InternetChecksum()
    sum.add(icmp, count: 8 &+ quoted)
    icmp.storeBytes(of: sum.complement, toByteOffset: 2, as: UInt16.self)
    return length
}

private func makePacketTooBig6(
    _ parsed: PacketHeaders, from: UnsafeRawPointer, mtu: UInt32, to: UnsafeMutableRawPointer
) -> Int {
    guard isOneHost6(from + 8), isOneHost6(from + 24) else { return 0 }
    if parsed.transportProtocol == 58 {
        guard parsed.end > parsed.transportOffset else { return 0 }
        let type = from.load(fromByteOffset: parsed.transportOffset, as: UInt8.self)
        // Below 128 are errors, 137 is a redirect.
        guard type >= 128, type != 137 else { return 0 }
    }
    let quoted = min(parsed.end, maximumTooBigLength - 48)
    let icmpLength = 8 &+ quoted
    _ = memset(to, 0, 48)
    to.storeBytes(of: 0x60, as: UInt8.self)
    to.storeNetwork(UInt16(truncatingIfNeeded: icmpLength), at: 4)
    to.storeBytes(of: 58, toByteOffset: 6, as: UInt8.self)
    to.storeBytes(of: 64, toByteOffset: 7, as: UInt8.self)
    _ = memcpy(to + 8, from + 24, 16)
    _ = memcpy(to + 24, from + 8, 16)

    let icmp = to + 40
    icmp.storeBytes(of: 2, as: UInt8.self)
    icmp.storeNetwork(mtu, at: 4)
    _ = memcpy(icmp + 8, from, quoted)
    var sum = InternetChecksum()
    sum.addPseudoHeader6(addresses: to + 8, protocol: 58)
    sum.add(UInt16(truncatingIfNeeded: icmpLength))
    sum.add(icmp, count: icmpLength)
    icmp.storeBytes(of: sum.complement, toByteOffset: 2, as: UInt16.self)
    return 40 &+ icmpLength
}

/// Neither "this network", loopback, multicast, reserved nor broadcast.
private func isOneHost4(_ address: UInt32) -> Bool {
    switch address >> 24 {
    case 0, 127, 224...255: false
    default: true
    }
}

/// Neither unspecified, loopback nor multicast.
private func isOneHost6(_ address: UnsafeRawPointer) -> Bool {
    let high = address.loadUnaligned(as: UInt64.self)
    let low = UInt64(bigEndian: address.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    return !(high == 0 && low <= 1) && address.load(as: UInt8.self) != 0xff
}
