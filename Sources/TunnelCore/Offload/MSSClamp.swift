/// Lowers the maximum segment size that a TCP SYN announces (RFC 9293, 3.7.1), so that the far end's segments fit the
/// tunnel. Everything else is left alone; an option that is smaller already, or missing, too.
///
/// The checksum is updated, not computed: it must be complete. For a packet read from a device that means after
/// ``SuperPacket/segment(_:)``.
///
/// - Parameters:
///   - packet: any bytes; changed in place, never in length.
///   - linkHeaderLength: 0 (TUN) or 14 (TAP).
///   - maximumSegment4: bytes, the inner MTU less 40.
///   - maximumSegment6: bytes, the inner MTU less 60.
/// - Returns: whether the packet was changed.
@discardableResult
public func clampMSS(
    _ packet: UnsafeMutableRawBufferPointer, linkHeaderLength: Int, maximumSegment4: UInt16, maximumSegment6: UInt16
) -> Bool {
    let bytes = UnsafeRawBufferPointer(packet)
    guard let base = packet.baseAddress, let parsed = PacketHeaders(bytes, linkHeaderLength: linkHeaderLength),
        let headerLength = parsed.tcpHeaderLength(bytes)
    else { return false }
    let tcp = base + parsed.transportOffset
    guard tcp.load(fromByteOffset: 13, as: UInt8.self) & TCPFlags.syn != 0 else { return false }
    let maximum = parsed.isIPv6 ? maximumSegment6 : maximumSegment4
    var changed = false
    var offset = 20
    while offset < headerLength {
        let kind = tcp.load(fromByteOffset: offset, as: UInt8.self)
        if kind == 0 { break }
        if kind == 1 {
            offset &+= 1
            continue
        }
        guard offset &+ 1 < headerLength else { break }
        let length = Int(tcp.load(fromByteOffset: offset &+ 1, as: UInt8.self))
        guard length >= 2, length <= headerLength &- offset else { break }
        if kind == 2, length == 4 {
            changed = lowerMSS(tcp, at: offset &+ 2, to: maximum) || changed
        }
        offset &+= length
    }
    return changed
}

private func lowerMSS(_ tcp: UnsafeMutableRawPointer, at offset: Int, to maximum: UInt16) -> Bool {
    let header = UnsafeRawPointer(tcp)
    let announced = header.networkUInt16(at: offset)
    guard announced > maximum else { return false }
    tcp.storeNetwork(maximum, at: offset)
    // At an odd offset the number's bytes lie in two words, each in the other half.
    let isOdd = offset & 1 != 0
    let checksum = InternetChecksum.updated(
        header.networkUInt16(at: 16), from: isOdd ? announced.byteSwapped : announced,
        to: isOdd ? maximum.byteSwapped : maximum)
    tcp.storeNetwork(checksum, at: 16)
    return true
}
