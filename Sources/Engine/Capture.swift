import CLinux
import Glibc
import ProcessChannel
import TunnelModel

/// A capture in progress: each packet becomes one message on a SOCK_SEQPACKET socket, a record of a pcap file with
/// nanoseconds, which control prefixes with the file's header. A reader that is too slow misses packets; nothing waits.
final class Capture {
    private let descriptor: Int32
    private let limits: CaptureLimits
    private var packets: UInt32 = 0
    private let ends: Int64
    private var record = [UInt8]()
    private(set) var isOver = false

    /// Owns the descriptor.
    init(descriptor: Int32, limits: CaptureLimits, now: Int64) {
        self.descriptor = descriptor
        self.limits = limits
        ends = now + Int64(limits.seconds) * 1_000_000_000
    }

    deinit { close(descriptor) }

    /// When there is nothing more to take though nothing comes.
    var deadline: Int64 { ends }

    func checkTime(_ now: Int64) { if now >= ends { isOver = true } }

    /// `prefix` and `bytes` together are the packet.
    func take(prefix: [UInt8] = [], _ bytes: UnsafeRawBufferPointer) {
        guard !isOver else { return }
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        let whole = prefix.count + bytes.count
        let kept = min(whole, Int(limits.snapLength))
        record.removeAll(keepingCapacity: true)
        for field in [UInt32(truncatingIfNeeded: time.tv_sec), UInt32(time.tv_nsec), UInt32(kept), UInt32(whole)] {
            withUnsafeBytes(of: field.littleEndian) { record.append(contentsOf: $0) }
        }
        record.append(contentsOf: prefix.prefix(kept))
        record.append(contentsOf: bytes.prefix(kept - min(kept, prefix.count)))
        if send(descriptor, record, record.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)) >= 0 {
            packets += 1
            if packets >= limits.packets { isOver = true }
        } else if errno != EAGAIN {
            isOver = true
        }
    }

    /// A datagram as it would be seen on the wire, IP and UDP headers made up from the addresses.
    func takeDatagram(_ bytes: UnsafeRawBufferPointer, from source: SocketAddress, to destination: SocketAddress) {
        let length = UInt16(truncatingIfNeeded: bytes.count + 8)
        var header: [UInt8] = []
        func append(_ value: some FixedWidthInteger) {
            withUnsafeBytes(of: value.bigEndian) { header.append(contentsOf: $0) }
        }
        if source.version == 6 || destination.version == 6 {
            append(0x6000_0000 as UInt32)
            append(length)
            append(0x1140 as UInt16)
            for address in [source, destination] {
                append(address.high)
                append(address.low)
            }
        } else {
            append(0x4500 as UInt16)
            append(length &+ 20)
            append(0 as UInt32)
            append(0x4011_0000 as UInt32)
            for address in [source, destination] { append(UInt32(truncatingIfNeeded: address.low)) }
        }
        append(source.port)
        append(destination.port)
        append(length)
        append(0 as UInt16)
        take(prefix: header, bytes)
    }
}

/// The captures of one tunnel: its inner packets, and the datagrams of single links.
struct Captures {
    private(set) var inner: Capture?
    private var outer = [Capture?](repeating: nil, count: TunnelRuntime.maximumLinks)

    mutating func start(_ capture: Capture, link: Int?) {
        if let link { outer[link] = capture } else { inner = capture }
    }

    mutating func stop(link: Int) { outer[link] = nil }

    func outer(_ link: Int) -> Capture? { outer[link] }

    /// Lets go of what is over. The bits of links with a capture, and bit 32 for the inner packets.
    mutating func review(_ now: Int64) -> UInt64 {
        inner?.checkTime(now)
        if inner?.isOver == true { inner = nil }
        var active: UInt64 = inner == nil ? 0 : 1 << 32
        for link in outer.indices {
            outer[link]?.checkTime(now)
            if outer[link]?.isOver == true { outer[link] = nil }
            if outer[link] != nil { active |= 1 << UInt64(link) }
        }
        return active
    }

    var deadline: Int64 {
        outer.reduce(inner?.deadline ?? .max) { min($0, $1?.deadline ?? .max) }
    }
}
