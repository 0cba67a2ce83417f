import AdminAPI
import Glibc
import LinuxSystem
import ProcessChannel
import Synchronization
import TunnelModel

/// A pcap file as it comes from the engine: its header at once, then records as packets pass.
///
/// The engine writes each record as one message to a socket, whose other end a thread of its own reads here. A client
/// that does not keep up loses records, never the engine time.
final class PacketCapture: Sendable {
    /// What the packets are (https://www.tcpdump.org/linktypes.html).
    enum LinkType: UInt32 {
        case ethernet = 1
        /// IPv4 or IPv6.
        case raw = 101
    }

    /// Pieces of the file, each of whole records; ends with the capture.
    let chunks: AsyncStream<[UInt8]>
    private let continuation: AsyncStream<[UInt8]>.Continuation
    private let isCancelled = Atomic(false)

    /// Records that wait for a slow client.
    private static let backlog = 4096
    /// Captures at once, over all tunnels.
    private static let maximum = 16
    private static let running = Atomic(0)

    /// The file's header, little endian, with times in nanoseconds.
    static func header(_ type: LinkType, snapLength: UInt32) -> [UInt8] {
        var bytes: [UInt8] = []
        func add<T: FixedWidthInteger>(_ value: T) {
            withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
        }
        add(UInt32(0xa1b2_3c4d))
        add(UInt16(2))
        add(UInt16(4))
        add(UInt32(0))
        add(UInt32(0))
        add(snapLength)
        add(type.rawValue)
        return bytes
    }

    /// - Parameter send: hands the descriptor to the engine.
    init(_ type: LinkType, _ limits: CaptureLimits, send: (Descriptor) -> Void) throws {
        (chunks, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(Self.backlog))
        guard Self.running.wrappingAdd(1, ordering: .relaxed).newValue <= Self.maximum else {
            Self.running.wrappingSubtract(1, ordering: .relaxed)
            throw Problem(.unavailable, "\(Self.maximum) captures are running already; end one of them")
        }
        var isStarted = false
        defer { if !isStarted { Self.running.wrappingSubtract(1, ordering: .relaxed) } }
        var pair = try Channel.pair()
        guard let near = pair.takeNear(), let far = pair.takeFar() else { throw Problem(.failed, "no socket pair") }
        var room: Int32 = 4 << 20
        setsockopt(far.raw, SOL_SOCKET, SO_SNDBUF, &room, 4)
        continuation.yield(Self.header(type, snapLength: limits.snapLength))
        send(Descriptor(far))
        let deadline = Clock.now() + (UInt64(limits.seconds) + 2) * 1_000_000_000
        continuation.onTermination = { [weak self] _ in self?.isCancelled.store(true, ordering: .relaxed) }
        try startThread(near, deadline: deadline, size: 16 + Int(limits.snapLength))
        isStarted = true
    }

    private func startThread(_ socket: consuming OwnedDescriptor, deadline: UInt64, size: Int) throws {
        let reader = Reader(capture: self, socket: Descriptor(socket), deadline: deadline, size: size)
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(reader)
        let result = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Reader>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            }, argument.toOpaque())
        guard result == 0 else {
            argument.release()
            throw Problem(.failed, "start a thread for the capture: \(String(cString: strerror(result)))")
        }
        pthread_detach(thread)
    }

    /// The thread's own.
    private final class Reader {
        let capture: PacketCapture
        let socket: Descriptor
        let deadline: UInt64
        let size: Int

        init(capture: PacketCapture, socket: Descriptor, deadline: UInt64, size: Int) {
            self.capture = capture
            self.socket = socket
            self.deadline = deadline
            self.size = size
        }

        func run() {
            defer {
                capture.continuation.finish()
                PacketCapture.running.wrappingSubtract(1, ordering: .relaxed)
            }
            guard let socket = socket.take() else { return }
            var record = [UInt8](repeating: 0, count: size)
            while Clock.now() < deadline, !capture.isCancelled.load(ordering: .relaxed) {
                var waiting = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
                guard poll(&waiting, 1, 200) > 0 else { continue }
                let count = recv(socket.raw, &record, record.count, Int32(MSG_DONTWAIT))
                if count < 0, errno == EAGAIN || errno == EINTR { continue }
                // 0: the engine has closed its end.
                guard count >= 16 else { return }
                capture.continuation.yield(Array(record.prefix(count)))
            }
        }
    }
}
