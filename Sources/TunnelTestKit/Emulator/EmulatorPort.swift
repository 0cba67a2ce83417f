import CTestKit
import Glibc

/// One interface of the emulator, with the frames that wait to be sent on it.
struct EmulatorPort {
    let descriptor: Int32
    /// Frames of the last ``receive(_:)``; the reader takes them over.
    var received: [FramePool.Frame] = []
    /// Frames whose sender left the checksum to hardware.
    private(set) var unfinished = 0
    /// Frames longer than a buffer, and those for which there was no buffer.
    private(set) var oversized = 0

    private let interface: String
    private var sending: [FramePool.Frame] = []

    /// The descriptor stays open as long as the process: an emulator has no other end.
    init(interface: String) throws(EmulatorError) {
        self.interface = interface
        descriptor = packet_socket_open(interface, 8 << 20, 8 << 20)
        guard descriptor >= 0 else {
            throw .system(operation: "open a packet socket", object: interface, code: -descriptor)
        }
    }

    mutating func queue(_ frame: FramePool.Frame) {
        sending.append(frame)
    }

    /// Sends what is queued. What the interface does not take at once is lost, as on any wire that is unplugged.
    mutating func flush(_ pool: FramePool) throws(EmulatorError) {
        var start = 0
        while start < sending.count {
            let batch = sending[start..<min(start + Int(PACKET_SOCKET_BATCH), sending.count)].map(pool.view)
            let sent = packet_socket_send(descriptor, batch, UInt32(batch.count))
            switch -sent {
            case EAGAIN, ENOBUFS, EINTR, ENETDOWN, ENXIO:
                start += 1
            case let code where code > 0:
                throw .system(operation: "send", object: interface, code: code)
            default:
                start += Int(sent)
            }
        }
        for frame in sending {
            pool.release(frame)
        }
        sending.removeAll(keepingCapacity: true)
    }

    /// Reads one batch into ``received``.
    mutating func receive(_ pool: FramePool) throws(EmulatorError) {
        var frames: [FramePool.Frame] = []
        while frames.count < Int(PACKET_SOCKET_BATCH), let frame = pool.take() {
            frames.append(frame)
        }
        var views = frames.map(pool.view)
        if views.isEmpty {
            try discardOne()
            return
        }
        let count = packet_socket_receive(descriptor, &views, UInt32(views.count))
        guard count >= 0 || count == -ENETDOWN else {
            throw .system(operation: "receive", object: interface, code: -count)
        }
        for index in frames.indices {
            if index >= Int(count) || !keep(views[index]) {
                pool.release(frames[index])
            } else {
                received.append(FramePool.Frame(slot: frames[index].slot, length: views[index].length))
            }
        }
    }

    private mutating func keep(_ view: packet_socket_frame) -> Bool {
        if view.flags & PACKET_SOCKET_UNFINISHED != 0 {
            unfinished += 1
            return false
        }
        if view.flags & PACKET_SOCKET_TRUNCATED != 0 || view.length < UInt32(FramePool.linkHeader) {
            oversized += 1
            return false
        }
        return true
    }

    /// With every buffer in use, takes one frame off the socket and drops it, so that waiting does not spin.
    private mutating func discardOne() throws(EmulatorError) {
        var byte: UInt8 = 0
        let count = withUnsafeMutableBytes(of: &byte) { buffer in
            var view = packet_socket_frame(bytes: buffer.baseAddress, capacity: 1, length: 0, flags: 0)
            return packet_socket_receive(descriptor, &view, 1)
        }
        guard count >= 0 || count == -ENETDOWN else {
            throw .system(operation: "receive", object: interface, code: -count)
        }
        oversized += 1
    }
}

/// A fixed number of frame buffers in one allocation; memory that is never used is never touched.
final class FramePool {
    struct Frame {
        var slot: UInt32
        var length: UInt32
    }

    /// Destination, source and type of an Ethernet frame.
    static let linkHeader = 14
    /// Room for a frame of the usual MTU and some more.
    private static let slotSize = 2048

    private let memory: UnsafeMutableRawPointer
    private var free: [UInt32]

    init(count: Int) {
        memory = .allocate(byteCount: count * FramePool.slotSize, alignment: 64)
        free = (0..<UInt32(count)).reversed()
    }

    deinit {
        memory.deallocate()
    }

    func take() -> Frame? {
        free.popLast().map { Frame(slot: $0, length: 0) }
    }

    func release(_ frame: Frame) {
        free.append(frame.slot)
    }

    func view(_ frame: Frame) -> packet_socket_frame {
        packet_socket_frame(
            bytes: memory + Int(frame.slot) * FramePool.slotSize, capacity: UInt32(FramePool.slotSize),
            length: frame.length, flags: 0)
    }

    /// Whether a frame belongs to address resolution: ARP, or ICMPv6 neighbour discovery (types 133 to 137).
    func bypassesLine(_ frame: Frame) -> Bool {
        let bytes = UnsafeRawBufferPointer(
            start: memory + Int(frame.slot) * FramePool.slotSize, count: Int(frame.length))
        let etherType = UInt16(bytes[12]) << 8 | UInt16(bytes[13])
        if etherType == 0x0806 {
            return true
        }
        guard etherType == 0x86dd, bytes.count > 54 else { return false }
        return bytes[20] == 58 && (133...137).contains(bytes[54])
    }
}
