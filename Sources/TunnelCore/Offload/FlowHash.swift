/// A number that is the same for all packets of one flow: addresses, protocol and, where there are any, ports.
///
/// All fragments of a datagram have the same one, computed from the addresses alone. What is no IP packet is told apart by its
/// Ethernet addresses and EtherType, or not at all. Stable within a process's architecture, not for storing.
///
/// - Parameters:
///   - packet: any bytes.
///   - linkHeaderLength: 0 (TUN) or 14 (TAP).
public func flowHash(_ packet: UnsafeRawBufferPointer, linkHeaderLength: Int) -> UInt32 {
    var hash = FlowHasher()
    guard let base = packet.baseAddress else { return hash.value }
    guard let parsed = PacketHeaders(packet, linkHeaderLength: linkHeaderLength) else {
        if linkHeaderLength == PacketHeaders.ethernetHeaderLength, packet.count >= linkHeaderLength {
            hash.mix(base.loadUnaligned(as: UInt64.self))
            hash.mix(base.loadUnaligned(fromByteOffset: 6, as: UInt64.self))
        }
        return hash.value
    }
    let ip = base + parsed.networkOffset
    if parsed.isIPv6 {
        hash.mix(ip.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        hash.mix(ip.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
        hash.mix(ip.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
        hash.mix(ip.loadUnaligned(fromByteOffset: 32, as: UInt64.self))
    } else {
        hash.mix(ip.loadUnaligned(fromByteOffset: 12, as: UInt64.self))
    }
    // A later fragment does not tell what the first one's transport header was.
    if parsed.isFragment { return hash.value }
    var ports: UInt32 = 0
    if hasPorts(parsed.transportProtocol), parsed.end &- parsed.transportOffset >= 4 {
        ports = base.loadUnaligned(fromByteOffset: parsed.transportOffset, as: UInt32.self)
    }
    hash.mix(UInt64(parsed.transportProtocol) << 32 | UInt64(ports))
    return hash.value
}

/// TCP, UDP, DCCP, SCTP and UDP-Lite start with two ports.
private func hasPorts(_ transportProtocol: UInt8) -> Bool {
    switch transportProtocol {
    case PacketHeaders.tcp, PacketHeaders.udp, 33, 132, 136: true
    default: false
    }
}

/// Words of 64 bits, each mixed by the finalizer of MurmurHash3 (a bijection, so no word's bits are lost).
private struct FlowHasher {
    private var state: UInt64 = 0x9e37_79b9_7f4a_7c15

    mutating func mix(_ word: UInt64) {
        var x = state ^ word
        x ^= x >> 33
        x &*= 0xff51_afd7_ed55_8ccd
        x ^= x >> 33
        x &*= 0xc4ce_b9fe_1a85_ec53
        x ^= x >> 33
        state = x
    }

    var value: UInt32 { UInt32(truncatingIfNeeded: state ^ (state >> 32)) }
}
