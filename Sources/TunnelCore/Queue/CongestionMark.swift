/// Sets "Congestion Experienced" in a packet whose sender understands it (RFC 3168, section 5), and keeps the IPv4 header's
/// checksum correct (RFC 1624).
///
/// - Parameters:
///   - packet: any bytes; changed in place, never in length.
///   - linkHeaderLength: 0 (TUN) or 14 (TAP).
/// - Returns: whether the packet now carries the mark. False: its sender does not understand it, or it is not an intact
///   IP packet, and it is unchanged; only dropping it tells of congestion.
public func markCongestion(_ packet: UnsafeMutableRawBufferPointer, linkHeaderLength: Int) -> Bool {
    guard let base = packet.baseAddress,
        let parsed = PacketHeaders(UnsafeRawBufferPointer(packet), linkHeaderLength: linkHeaderLength)
    else { return false }
    let ip = base + parsed.networkOffset
    let word = UnsafeRawPointer(ip).networkUInt16(at: 0)
    // Version, header length, traffic class; in IPv6 the class lies four bits higher, before the flow label.
    let mark: UInt16 = parsed.isIPv6 ? 0x0030 : 0x0003
    guard word & mark != 0 else { return false }
    let marked = word | mark
    guard marked != word else { return true }
    ip.storeNetwork(marked, at: 0)
    if !parsed.isIPv6 {
        let checksum = UnsafeRawPointer(ip).networkUInt16(at: 10)
        ip.storeNetwork(InternetChecksum.updated(checksum, from: word, to: marked), at: 10)
    }
    return true
}
