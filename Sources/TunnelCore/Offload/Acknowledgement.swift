/// Whether a packet is a TCP segment that acknowledges and does nothing else: it has no payload and no flag but ACK. Such a
/// segment may overtake others: what it acknowledges is acknowledged, and one that comes later is stale and ignored.
///
/// - Parameters:
///   - packet: any bytes.
///   - linkHeaderLength: 0 (TUN) or 14 (TAP).
public func isAcknowledgement(_ packet: UnsafeRawBufferPointer, linkHeaderLength: Int) -> Bool {
    // Longer than all headers with their options: it carries something.
    guard packet.count <= 140, let base = packet.baseAddress,
        let parsed = PacketHeaders(packet, linkHeaderLength: linkHeaderLength),
        parsed.transportProtocol == PacketHeaders.tcp, !parsed.isFragment, parsed.end &- parsed.transportOffset >= 20
    else { return false }
    let headerLength = Int(base.load(fromByteOffset: parsed.transportOffset &+ 12, as: UInt8.self) >> 4) &* 4
    let flags = base.load(fromByteOffset: parsed.transportOffset &+ 13, as: UInt8.self)
    return flags == 0x10 && headerLength >= 20 && parsed.transportOffset &+ headerLength == parsed.end
}
