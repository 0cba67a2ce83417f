import Glibc
import TunnelCore

/// IPv4 packets as a customer's hosts would make them.
public enum InnerPacket {
    /// Where a UDP packet's payload begins.
    public static let udpPayload = 28

    /// Fills in an IPv4 header: everything of the packet is its payload.
    private static func header(_ packet: UnsafeMutableRawBufferPointer, proto: UInt8, from: UInt32, to: UInt32) {
        guard let base = packet.baseAddress else { return }
        memset(base, 0, 20)
        packet[0] = 0x45
        store(UInt16(packet.count), base, 2)
        packet[8] = 64
        packet[9] = proto
        base.storeBytes(of: from.bigEndian, toByteOffset: 12, as: UInt32.self)
        base.storeBytes(of: to.bigEndian, toByteOffset: 16, as: UInt32.self)
        var sum = InternetChecksum()
        sum.add(base, count: 20)
        base.storeBytes(of: sum.complement, toByteOffset: 10, as: UInt16.self)
    }

    private static func store(_ value: UInt16, _ base: UnsafeMutableRawPointer, _ offset: Int) {
        base.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
    }

    /// An echo request; what follows the ICMP header and the time stamp is zero.
    ///
    /// - Parameter stamp: comes back in the reply, see ``echoStamp(_:)``.
    public static func makeEcho(
        _ packet: UnsafeMutableRawBufferPointer, from: UInt32, to: UInt32, id: UInt16, sequence: UInt16,
        stamp: Int64 = 0
    ) {
        guard let base = packet.baseAddress else { return }
        memset(base, 0, packet.count)
        header(packet, proto: 1, from: from, to: to)
        store(0x0800, base, 20)
        store(id, base, 24)
        store(sequence, base, 26)
        if packet.count >= 36 { base.storeBytes(of: stamp, toByteOffset: 28, as: Int64.self) }
        var sum = InternetChecksum()
        sum.add(base + 20, count: packet.count - 20)
        base.storeBytes(of: sum.complement, toByteOffset: 22, as: UInt16.self)
    }

    public static func isEchoReply(_ packet: UnsafeRawBufferPointer) -> Bool {
        packet.count > 20 && packet[9] == 1 && packet[20] == 0
    }

    /// What ``makeEcho(_:from:to:id:sequence:stamp:)`` was given, of a reply.
    public static func echoStamp(_ packet: UnsafeRawBufferPointer) -> Int64 {
        packet.count >= 36 ? packet.loadUnaligned(fromByteOffset: 28, as: Int64.self) : 0
    }

    /// Puts headers before a UDP payload that is there already; without a checksum, as IPv4 allows.
    public static func makeUDP(_ packet: UnsafeMutableRawBufferPointer, from: UInt32, to: UInt32, port: UInt16) {
        guard let base = packet.baseAddress else { return }
        header(packet, proto: 17, from: from, to: to)
        store(port, base, 20)
        store(port, base, 22)
        store(UInt16(packet.count - 20), base, 24)
        store(0, base, 26)
    }

    /// The payload of a UDP packet; nil for another.
    public static func udpPayload(_ packet: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        guard packet.count > udpPayload, packet[0] == 0x45, packet[9] == 17 else { return nil }
        return UnsafeRawBufferPointer(rebasing: packet[udpPayload...])
    }
}
