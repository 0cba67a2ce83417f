import Glibc
import TunnelCore

/// Memory between two pages that may not be touched: the first byte read or written outside ends the test process.
///
/// A packet lies against one page or against the other. Between the packet and the far page lies a pattern, checked by
/// ``isIntact``, for what is written outside without leaving the pages.
final class GuardedMemory {
    enum Side: CaseIterable { case low, high }

    private static let page = 4096
    private let mapping: UnsafeMutableRawPointer
    private let length: Int
    private var used = 0..<0

    init(capacity: Int) {
        length = (capacity + Self.page - 1) / Self.page * Self.page
        mapping = mmap(
            nil, length + 2 * Self.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        precondition(mapping != MAP_FAILED)
        mprotect(mapping, Self.page, PROT_NONE)
        mprotect(mapping + Self.page + length, Self.page, PROT_NONE)
    }

    deinit { munmap(mapping, length + 2 * Self.page) }

    func place(_ bytes: [UInt8], against side: Side) -> UnsafeMutableRawBufferPointer {
        memset(area.baseAddress!, 0xa5, length)
        let start = side == .low ? 0 : length - bytes.count
        used = start..<start + bytes.count
        let packet = UnsafeMutableRawBufferPointer(rebasing: area[used])
        packet.copyBytes(from: bytes)
        return packet
    }

    /// Whether nothing but the packet was written.
    var isIntact: Bool {
        let area = area
        return isPattern(area[..<used.lowerBound]) && isPattern(area[used.upperBound...])
    }

    private func isPattern(_ bytes: Slice<UnsafeMutableRawBufferPointer>) -> Bool {
        guard let start = UnsafeMutableRawBufferPointer(rebasing: bytes).baseAddress, bytes.count > 0 else {
            return true
        }
        // Each byte equals the one before it, and the first is the pattern.
        return bytes[bytes.startIndex] == 0xa5 && memcmp(start, start + 1, bytes.count - 1) == 0
    }

    private var area: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: mapping + Self.page, count: length)
    }
}

/// Splits in guarded memory and copies each segment out before the next is asked for.
func split(
    _ bytes: [UInt8], _ header: VirtioNetHeader, linkHeaderLength: Int, against side: GuardedMemory.Side = .high
) throws(SuperPacket.Refusal) -> [[UInt8]] {
    let memory = GuardedMemory(capacity: bytes.count)
    let buffer = memory.place(bytes, against: side)
    var packet = try SuperPacket(header, packet: buffer, linkHeaderLength: linkHeaderLength)
    var result: [[UInt8]] = []
    for index in 0..<packet.segmentCount {
        let segment = packet.segment(index)
        precondition(segment.baseAddress! >= buffer.baseAddress!)
        precondition(segment.baseAddress! + segment.count <= buffer.baseAddress! + buffer.count)
        result.append([UInt8](segment))
    }
    precondition(memory.isIntact)
    return result
}

/// A coalescer with its memory, and each packet in memory of its own; writes are collected as a device would see them.
final class CoalescingDevice {
    struct Write {
        var header: VirtioNetHeader
        var packet: [UInt8]
        /// What went in.
        var packetCount: Int
    }

    private(set) var writes: [Write] = []
    private(set) var verdicts: [Coalescer.Verdict] = []
    private let vectors: UnsafeMutableBufferPointer<iovec>
    private let header: UnsafeMutableRawPointer
    private var coalescer: Coalescer
    private var packets: [GuardedMemory] = []
    private let linkHeaderLength: Int

    init(linkHeaderLength: Int = 0, tcp: Bool = true, udp: Bool = true, vectorCount: Int = Coalescer.vectorCapacity) {
        vectors = .allocate(capacity: vectorCount)
        header = .allocate(byteCount: VirtioNetHeader.size, alignment: 2)
        coalescer = Coalescer(
            vectors: vectors, virtioHeader: header, linkHeaderLength: linkHeaderLength, coalescesTCP: tcp,
            coalescesUDP: udp)
        self.linkHeaderLength = linkHeaderLength
    }

    deinit {
        vectors.deallocate()
        header.deallocate()
    }

    func append(_ bytes: [UInt8], against side: GuardedMemory.Side = .high) {
        let memory = GuardedMemory(capacity: max(1, bytes.count))
        let buffer = memory.place(bytes, against: side)
        var verdict = coalescer.append(buffer)
        verdicts.append(verdict)
        if verdict == .flushFirst {
            flush()
            verdict = coalescer.append(buffer)
            precondition(verdict == .started)
        }
        packets.append(memory)
    }

    func flush() {
        let packetCount = coalescer.packetCount
        let vectors = coalescer.finish()
        precondition(coalescer.isEmpty)
        guard vectors.count > 0 else { return }
        precondition(vectors[0].iov_len == VirtioNetHeader.size)
        precondition(vectors.count == packetCount + 1)
        writes.append(
            Write(
                header: VirtioNetHeader(reading: vectors[0].iov_base!),
                packet: vectors.dropFirst().flatMap {
                    [UInt8](UnsafeRawBufferPointer(start: $0.iov_base, count: $0.iov_len))
                },
                packetCount: packetCount))
        precondition(packets.allSatisfy(\.isIntact))
        packets = []
    }

    /// Everything that was written, as the packets that the kernel would make of it.
    func resplit() throws -> [[UInt8]] {
        try writes.flatMap { try split($0.packet, $0.header, linkHeaderLength: linkHeaderLength) }
    }
}

/// All of `packets` through one coalescer, and the last flushed.
func coalesce(
    _ packets: [[UInt8]], linkHeaderLength: Int = 0, tcp: Bool = true, udp: Bool = true
) -> [CoalescingDevice.Write] {
    let device = CoalescingDevice(linkHeaderLength: linkHeaderLength, tcp: tcp, udp: udp)
    for packet in packets { device.append(packet) }
    device.flush()
    return device.writes
}
