import Glibc
import TunnelCore

/// A super-packet of the device is split into segments, each complete with checksums.
final class SplitStage: Stage {
    let name = "split"
    static let segments = 44
    let packets = segments
    private let template: UnsafeMutableRawPointer
    private let buffer: UnsafeMutableRawPointer
    private let header: VirtioNetHeader
    private let count: Int

    init() {
        template = .allocate(byteCount: 65536, alignment: 64)
        buffer = .allocate(byteCount: 65536, alignment: 64)
        (header, count) = Packets.writeSuperPacket(template, segments: Self.segments)
    }

    deinit {
        template.deallocate()
        buffer.deallocate()
    }

    func prepare() { memcpy(buffer, template, count) }

    func run() {
        do {
            var parts = try SuperPacket(
                header, packet: UnsafeMutableRawBufferPointer(start: buffer, count: count), linkHeaderLength: 0)
            var bytes = 0
            for index in 0..<parts.segmentCount { bytes += parts.segment(index).count }
            precondition(bytes == count + (Self.segments - 1) * Packets.headerLength, "the segments' sizes are wrong")
        } catch {
            preconditionFailure("the super-packet was refused: \(error)")
        }
    }
}

/// Segments of one flow are merged for one write.
final class CoalesceStage: Stage {
    let name = "coalesce"
    let packets = 44
    private let template: UnsafeMutableRawPointer
    private let buffer: UnsafeMutableRawPointer
    private let vectors = UnsafeMutableBufferPointer<iovec>.allocate(capacity: Coalescer.vectorCapacity)
    private let virtioHeader = UnsafeMutableRawPointer.allocate(byteCount: 16, alignment: 16)

    private static let stride = 1408

    init() {
        template = .allocate(byteCount: packets * Self.stride, alignment: 64)
        buffer = .allocate(byteCount: packets * Self.stride, alignment: 64)
        for index in 0..<packets {
            Packets.writeSegment(
                template + index * Self.stride, payload: Packets.segmentSize,
                sequence: UInt32(1 + index * Packets.segmentSize), identification: UInt16(index))
        }
    }

    deinit {
        template.deallocate()
        buffer.deallocate()
        vectors.deallocate()
        virtioHeader.deallocate()
    }

    func prepare() { memcpy(buffer, template, packets * Self.stride) }

    func run() {
        var coalescer = Coalescer(
            vectors: vectors, virtioHeader: virtioHeader, linkHeaderLength: 0, coalescesTCP: true, coalescesUDP: true)
        var writes = 0
        for index in 0..<packets {
            let packet = UnsafeMutableRawBufferPointer(start: buffer + index * Self.stride, count: Packets.mtu)
            if coalescer.append(packet) == .flushFirst {
                _ = coalescer.finish()
                writes += 1
                _ = coalescer.append(packet)
            }
        }
        _ = coalescer.finish()
        precondition(writes == 0, "the segments were not merged into one write")
    }
}

/// What each packet of a bond costs besides: the MSS looked at, the flow told.
final class ClassifyStage: Stage {
    let name = "mss clamp, flow hash"
    let packets = 4096
    private let bytes = UnsafeMutableRawPointer.allocate(byteCount: 1500, alignment: 64)
    private var hash: UInt32 = 0

    init() { Packets.writeSegment(bytes, payload: Packets.segmentSize, sequence: 1, identification: 1) }

    deinit { bytes.deallocate() }

    func run() {
        let packet = UnsafeMutableRawBufferPointer(start: bytes, count: Packets.mtu)
        for _ in 0..<packets {
            clampMSS(packet, linkHeaderLength: 0, maximumSegment4: 1360, maximumSegment6: 1340)
            hash ^= flowHash(UnsafeRawBufferPointer(packet), linkHeaderLength: 0)
        }
    }
}
