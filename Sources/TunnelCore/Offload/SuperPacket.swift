import Glibc

/// One read from a TUN or TAP device with IFF_VNET_HDR, taken apart into packets of the path's size.
///
/// The payload is never copied: each segment's headers are written in front of its payload, inside the buffer that was
/// read into, over the tail of the segment before it. So segments are taken in order, and each is used up (sealed into
/// the send buffer) before the next is asked for. The device's buffer is the only memory that is touched.
///
/// A packet without segmentation is one segment, with its checksum completed if the device left that to the reader.
public struct SuperPacket: ~Copyable {
    /// Why a read cannot be taken apart. The packet is to be dropped and counted.
    public enum Refusal: Error, Equatable, Sendable {
        /// A segmentation that was not asked for (UDP fragmentation, tunnels), or one that is not known.
        case unknownSegmentation(gsoType: UInt8)
        /// Segmentation into pieces of no bytes.
        case noSegmentSize
        /// No IP packet of the protocol that the device names, or its lengths do not fit into each other.
        case inconsistentHeaders
        /// Headers longer than ``SuperPacket/maximumHeaderLength``.
        case headersTooLong
        /// The checksum lies outside of the packet, or not where the protocol has it.
        case inconsistentChecksumField
    }

    /// Ethernet with two VLAN tags, IPv6 with 70 bytes of extension headers, TCP with all options.
    public static let maximumHeaderLength = SavedHeaders.count

    /// At least 1.
    public let segmentCount: Int
    /// Bytes in front of each segment's payload: Ethernet, IP with options or extension headers, TCP or UDP.
    /// 0 for a packet without segmentation.
    public let headerLength: Int
    /// Payload bytes of each segment; the last may have fewer.
    public let segmentPayloadSize: Int

    private typealias SavedHeaders = InlineArray<192, UInt8>

    private let base: UnsafeMutableRawPointer
    private let count: Int
    private let plan: SplitPlan
    private var nextIndex = 0
    /// The headers as they were read: segments are written over them.
    private var headers = SavedHeaders(repeating: 0)

    /// - Parameters:
    ///   - virtioHeader: what the device put in front; its `headerLength` is not used.
    ///   - packet: what follows it, exactly as long as it was read. Must stay valid as long as the segments are used.
    ///   - linkHeaderLength: 0 (TUN) or 14 (TAP; up to two VLAN tags are followed).
    public init(
        _ virtioHeader: VirtioNetHeader, packet: UnsafeMutableRawBufferPointer, linkHeaderLength: Int
    ) throws(Refusal) {
        guard let base = packet.baseAddress, packet.count > 0 else { throw .inconsistentHeaders }
        let plan = try SplitPlan(
            virtioHeader, packet: UnsafeRawBufferPointer(packet), linkHeaderLength: linkHeaderLength)
        self.base = base
        self.plan = plan
        count = packet.count
        headerLength = plan.headerLength
        segmentPayloadSize = plan.segmentPayloadSize
        segmentCount = max(1, (packet.count &- headerLength &+ segmentPayloadSize &- 1) / segmentPayloadSize)
        guard headerLength > 0 else { return }
        let headerLength = headerLength
        withUnsafeMutableBytes(of: &headers) { saved in
            saved.copyMemory(from: UnsafeRawBufferPointer(start: base, count: headerLength))
        }
    }

    /// The segment with its headers, complete in every field: ready to be sent. Valid until the next call.
    ///
    /// - Parameter index: below ``segmentCount``, and higher at each call.
    public mutating func segment(_ index: Int) -> UnsafeMutableRawBufferPointer {
        precondition(index >= nextIndex && index < segmentCount, "segments are taken once each and in order")
        nextIndex = index &+ 1
        switch plan.work {
        case .none:
            return UnsafeMutableRawBufferPointer(start: base, count: count)
        case .completeChecksum(let start, let field):
            // The field holds the pseudo header's sum, so it is summed with the rest. Zero would mean "none" in UDP, and
            // 0xffff is the same number.
            var sum = InternetChecksum()
            sum.add(base + start, count: count &- start)
            let checksum = sum.complement
            base.storeBytes(of: checksum == 0 ? 0xffff : checksum, toByteOffset: field, as: UInt16.self)
            return UnsafeMutableRawBufferPointer(start: base, count: count)
        case .split(let isTCP):
            let (segment, length) = place(index)
            if isTCP {
                finishTCP(segment, index: index, length: length)
            } else {
                finishUDP(segment, length: length)
            }
            return UnsafeMutableRawBufferPointer(start: segment, count: length)
        }
    }

    /// Copies the headers in front of the payload and finishes the IP header.
    private mutating func place(_ index: Int) -> (segment: UnsafeMutableRawPointer, length: Int) {
        // Payload i starts at headerLength + i * size, so the segment that holds it starts at i * size.
        let start = index &* segmentPayloadSize
        let segment = base + start
        let length = min(headerLength &+ segmentPayloadSize, count &- start)
        let headerLength = headerLength
        withUnsafeBytes(of: &headers) { saved in
            if let from = saved.baseAddress { _ = memcpy(segment, from, headerLength) }
        }
        let ip = segment + plan.networkOffset
        let ipLength = length &- plan.networkOffset
        if plan.isIPv6 {
            ip.storeNetwork(UInt16(truncatingIfNeeded: ipLength &- 40), at: 4)
        } else {
            let firstID = UnsafeRawPointer(ip).networkUInt16(at: 4)
            ip.storeNetwork(UInt16(truncatingIfNeeded: ipLength), at: 2)
            ip.storeNetwork(firstID &+ UInt16(truncatingIfNeeded: index), at: 4)
            storeHeaderChecksum4(ip, headerLength: plan.transportOffset &- plan.networkOffset)
        }
        return (segment, length)
    }

    private mutating func finishTCP(_ segment: UnsafeMutableRawPointer, index: Int, length: Int) {
        let tcp = segment + plan.transportOffset
        let firstSequence = UnsafeRawPointer(tcp).networkUInt32(at: 4)
        let advance = UInt32(truncatingIfNeeded: index &* segmentPayloadSize)
        tcp.storeNetwork(firstSequence &+ advance, at: 4)
        var flags = tcp.load(fromByteOffset: 13, as: UInt8.self)
        if index > 0 { flags &= ~TCPFlags.cwr }
        if index < segmentCount &- 1 { flags &= ~(TCPFlags.fin | TCPFlags.psh) }
        tcp.storeBytes(of: flags, toByteOffset: 13, as: UInt8.self)
        let checksum = transportChecksum(tcp, field: 16, length: length &- plan.transportOffset)
        tcp.storeBytes(of: checksum, toByteOffset: 16, as: UInt16.self)
    }

    private mutating func finishUDP(_ segment: UnsafeMutableRawPointer, length: Int) {
        let udp = segment + plan.transportOffset
        udp.storeNetwork(UInt16(truncatingIfNeeded: length &- plan.transportOffset), at: 4)
        let checksum = transportChecksum(udp, field: 6, length: length &- plan.transportOffset)
        udp.storeBytes(of: checksum == 0 ? 0xffff : checksum, toByteOffset: 6, as: UInt16.self)
    }

    private mutating func transportChecksum(_ header: UnsafeMutableRawPointer, field: Int, length: Int) -> UInt16 {
        header.storeBytes(of: 0, toByteOffset: field, as: UInt16.self)
        var sum = plan.pseudoHeader
        sum.add(UInt16(truncatingIfNeeded: length))
        sum.add(header, count: length)
        return sum.complement
    }
}

/// What was found out about a packet that was read.
private struct SplitPlan {
    enum Work {
        case none
        case completeChecksum(start: Int, field: Int)
        case split(isTCP: Bool)
    }

    var work: Work
    var headerLength = 0
    /// At least 1.
    var segmentPayloadSize: Int
    // What splitting needs; zero otherwise.
    var networkOffset = 0
    var transportOffset = 0
    var isIPv6 = false
    /// Without the length, which differs by segment.
    var pseudoHeader = InternetChecksum()

    init(
        _ virtioHeader: VirtioNetHeader, packet: UnsafeRawBufferPointer, linkHeaderLength: Int
    ) throws(SuperPacket.Refusal) {
        guard virtioHeader.gsoType != VirtioNetHeader.gsoNone else {
            work = try Self.workWithoutSplitting(virtioHeader, count: packet.count)
            segmentPayloadSize = packet.count
            return
        }
        let wantsIPv6: Bool?
        switch virtioHeader.gsoType {
        case VirtioNetHeader.gsoTCPv4, VirtioNetHeader.gsoTCPv4 | VirtioNetHeader.gsoECN: wantsIPv6 = false
        case VirtioNetHeader.gsoTCPv6, VirtioNetHeader.gsoTCPv6 | VirtioNetHeader.gsoECN: wantsIPv6 = true
        case VirtioNetHeader.gsoUDPSegmentation: wantsIPv6 = nil
        default: throw .unknownSegmentation(gsoType: virtioHeader.gsoType)
        }
        let isTCP = wantsIPv6 != nil
        work = .split(isTCP: isTCP)
        guard virtioHeader.gsoSize > 0 else { throw .noSegmentSize }
        segmentPayloadSize = Int(virtioHeader.gsoSize)
        guard let base = packet.baseAddress,
            let parsed = PacketHeaders(packet, linkHeaderLength: linkHeaderLength),
            parsed.isIPv6 == wantsIPv6 ?? parsed.isIPv6, !parsed.isFragment, parsed.end == packet.count,
            let transportLength = isTCP ? parsed.tcpHeaderLength(packet) : parsed.udpHeaderLength(packet)
        else { throw .inconsistentHeaders }
        networkOffset = parsed.networkOffset
        transportOffset = parsed.transportOffset
        isIPv6 = parsed.isIPv6
        headerLength = parsed.transportOffset &+ transportLength
        guard headerLength <= SuperPacket.maximumHeaderLength else { throw .headersTooLong }

        guard virtioHeader.flags & VirtioNetHeader.needsChecksum != 0 else {
            pseudoHeader = parsed.pseudoHeader(base)
            return
        }
        let field = isTCP ? 16 : 6
        guard Int(virtioHeader.checksumStart) == transportOffset, Int(virtioHeader.checksumOffset) == field else {
            throw .inconsistentChecksumField
        }
        // The field is the pseudo header's sum with the whole length. It is taken rather than the addresses, because with
        // a routing header the pseudo header's destination is not the one in the IP header (RFC 8200, 8.1).
        pseudoHeader = InternetChecksum(fieldAt: base + (transportOffset &+ field))
        pseudoHeader.subtract(UInt16(truncatingIfNeeded: packet.count &- transportOffset))
    }

    private static func workWithoutSplitting(
        _ virtioHeader: VirtioNetHeader, count: Int
    ) throws(SuperPacket.Refusal) -> Work {
        guard virtioHeader.flags & VirtioNetHeader.needsChecksum != 0 else { return .none }
        let start = Int(virtioHeader.checksumStart)
        let field = start &+ Int(virtioHeader.checksumOffset)
        guard field &+ 2 <= count else { throw .inconsistentChecksumField }
        return .completeChecksum(start: start, field: field)
    }
}

/// Bits of byte 13 of a TCP header (RFC 9293, 3.1).
enum TCPFlags {
    static let fin: UInt8 = 0x01
    static let syn: UInt8 = 0x02
    static let psh: UInt8 = 0x08
    static let ack: UInt8 = 0x10
    static let cwr: UInt8 = 0x80
}

/// Computes and stores the checksum of an IPv4 header of `headerLength` bytes.
func storeHeaderChecksum4(_ ip: UnsafeMutableRawPointer, headerLength: Int) {
    ip.storeBytes(of: 0, toByteOffset: 10, as: UInt16.self)
    var sum = InternetChecksum()
    sum.add(ip, count: headerLength)
    ip.storeBytes(of: sum.complement, toByteOffset: 10, as: UInt16.self)
}
