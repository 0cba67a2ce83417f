import Glibc

/// Merges consecutive packets of one TCP or UDP flow, so that one writev(2) to a TUN or TAP device with IFF_VNET_HDR
/// carries up to 64 of them. The kernel splits the result again, where it has to, into the packets that went in.
///
/// Packets come in the order in which they are to be written, and leave in it: one super-packet is open at a time, and a
/// packet that does not continue it closes it. Nothing is copied: the super-packet is a list of the packets' own buffers,
/// which must stay valid and untouched until it has been written.
///
/// A merged write replaces the inner checksums, so every packet's is verified before it joins. One that is damaged, or
/// is anything but a plain data segment, goes out alone and byte for byte as it came.
///
///     while let packet = … {
///         if coalescer.append(packet) == .flushFirst {
///             write(coalescer.finish())
///             _ = coalescer.append(packet)        // always .started
///         }
///     }
///     if !coalescer.isEmpty { write(coalescer.finish()) }
public struct Coalescer: ~Copyable {
    public enum Verdict: Equatable, Sendable {
        /// The packet is the first of a new super-packet.
        case started
        /// The packet is part of the open super-packet.
        case joined
        /// The packet was not taken: write what ``Coalescer/finish()`` gives, then append it again.
        case flushFirst
    }

    /// Packets in one super-packet; the kernel's own limit for UDP (`UDP_MAX_SEGMENTS`).
    public static let maximumPackets = 64
    /// Entries that the caller's iovec array needs to make full use of: the virtio header's and one per packet.
    public static let vectorCapacity = maximumPackets + 1

    private let vectors: UnsafeMutableBufferPointer<iovec>
    private let virtioHeader: UnsafeMutableRawPointer
    private let linkHeaderLength: Int
    private let coalescesTCP: Bool
    private let coalescesUDP: Bool

    /// Packets in the open super-packet.
    public private(set) var packetCount = 0
    /// The first packet as a data segment; nil if it is none, and nothing can join it.
    private var first: DataSegment?
    private var firstIsVerified = false
    /// A shorter or pushed segment came: nothing can join any more.
    private var isClosed = false
    /// Bytes of the open super-packet's IP packet.
    private var ipLength = 0
    private var nextSequence: UInt32 = 0
    private var nextID: UInt16 = 0

    /// - Parameters:
    ///   - vectors: at least 2 entries, ``vectorCapacity`` to make full use of; owned by the caller, used from the first
    ///     `append` until what `finish` gave has been written.
    ///   - virtioHeader: ``VirtioNetHeader/size`` bytes, of the same lifetime.
    ///   - linkHeaderLength: 0 (TUN) or 14 (TAP).
    ///   - coalescesTCP: false writes each TCP packet alone.
    ///   - coalescesUDP: whether the device takes `VIRTIO_NET_HDR_GSO_UDP_L4` (Linux 6.2).
    public init(
        vectors: UnsafeMutableBufferPointer<iovec>, virtioHeader: UnsafeMutableRawPointer, linkHeaderLength: Int,
        coalescesTCP: Bool, coalescesUDP: Bool
    ) {
        precondition(vectors.count >= 2, "one entry for the virtio header and one for a packet")
        self.vectors = vectors
        self.virtioHeader = virtioHeader
        self.linkHeaderLength = linkHeaderLength
        self.coalescesTCP = coalescesTCP
        self.coalescesUDP = coalescesUDP
    }

    public var isEmpty: Bool { packetCount == 0 }

    /// Takes the next packet: an IP packet or, for TAP, an Ethernet frame; any bytes will do.
    public mutating func append(_ packet: UnsafeMutableRawBufferPointer) -> Verdict {
        if packetCount == 0 {
            start(packet)
            return .started
        }
        guard let first, !isClosed, packetCount < min(Self.maximumPackets, vectors.count &- 1),
            let next = dataSegment(packet), continues(first, next)
        else { return .flushFirst }
        // Last, because they read the payload. A damaged first packet is written alone.
        guard verifyFirst(first), next.hasValidChecksum else { return .flushFirst }
        join(first, next)
        return .joined
    }

    /// Closes the open super-packet and gives what is to be written with one writev(2): the virtio header, the first
    /// packet, and the payload of each that joined. Empty if nothing is open.
    ///
    /// The first packet's headers are changed in place if others joined it. The memory is in use until it is written.
    public mutating func finish() -> UnsafeBufferPointer<iovec> {
        guard packetCount > 0 else { return UnsafeBufferPointer(rebasing: vectors[0..<0]) }
        var header = VirtioNetHeader()
        if let first, packetCount > 1 { header = first.writeMergedHeaders(ipLength: ipLength) }
        header.write(to: virtioHeader)
        vectors[0] = iovec(iov_base: virtioHeader, iov_len: VirtioNetHeader.size)
        let used = packetCount &+ 1
        packetCount = 0
        first = nil
        return UnsafeBufferPointer(rebasing: vectors[0..<used])
    }

    private mutating func start(_ packet: UnsafeMutableRawBufferPointer) {
        vectors[1] = iovec(iov_base: packet.baseAddress, iov_len: packet.count)
        packetCount = 1
        first = dataSegment(packet)
        firstIsVerified = false
        isClosed = false
        if let first {
            ipLength = first.ipLength
            advance(past: first)
        }
    }

    private func dataSegment(_ packet: UnsafeMutableRawBufferPointer) -> DataSegment? {
        DataSegment(packet, linkHeaderLength: linkHeaderLength, tcp: coalescesTCP, udp: coalescesUDP)
    }

    private func continues(_ first: DataSegment, _ next: DataSegment) -> Bool {
        next.payloadLength <= first.payloadLength
            // An IPv6 packet could be 40 bytes longer by its length field; the kernel's limit is 64 KB all the same.
            && ipLength &+ next.payloadLength <= 65535
            && (!first.isTCP || next.sequence == nextSequence)
            // The kernel counts up when it splits. An atomic datagram's ID means nothing (RFC 6864, 4.1).
            && (first.isIPv6 || first.dontFragment || next.identification == nextID)
            && first.hasSameHeaders(as: next)
    }

    private mutating func verifyFirst(_ first: DataSegment) -> Bool {
        if !firstIsVerified {
            firstIsVerified = first.hasValidChecksum
            isClosed = !firstIsVerified
        }
        return firstIsVerified
    }

    private mutating func join(_ first: DataSegment, _ next: DataSegment) {
        packetCount &+= 1
        vectors[packetCount] = iovec(iov_base: next.payload, iov_len: next.payloadLength)
        ipLength &+= next.payloadLength
        advance(past: next)
        if next.payloadLength < first.payloadLength { isClosed = true }
        // The kernel's split leaves PSH on the last segment only.
        if next.isPushed { first.setPush() }
    }

    private mutating func advance(past segment: DataSegment) {
        nextSequence = segment.sequence &+ UInt32(truncatingIfNeeded: segment.payloadLength)
        nextID = segment.identification &+ 1
        if segment.isPushed { isClosed = true }
    }
}
