import CLinux
import Glibc
import LinuxSystem

/// Why a channel is of no more use. Each ends it: the owner closes it, and whatever is at its other end.
public enum ChannelError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The other end was closed.
    case ended
    case malformed(MalformedMessage)
    /// A message came with another number of descriptors than belongs to it; they have been closed.
    case wrongDescriptors(expected: Int, found: Int)
    case tooLarge(bytes: Int)
    /// The other end does not read: more than the limit waits to be sent.
    case congested(bytes: Int)
    case failed(SystemError)

    public var description: String {
        switch self {
        case .ended: "the channel was closed at its other end"
        case .malformed(let error): error.description
        case .wrongDescriptors(let expected, let found):
            "a message came with \(found) descriptors, where \(expected) belong to it"
        case .tooLarge(let bytes): "a message of \(bytes) bytes is larger than \(Channel.maximumMessage)"
        case .congested(let bytes): "the other end does not read: \(bytes) bytes wait for it"
        case .failed(let error): error.description
        }
    }
}

/// One end of a SOCK_SEQPACKET pair between two processes: typed messages, and descriptors beside them.
///
/// It never blocks: what the socket does not take waits in a bounded queue until ``flush()``, which the owner calls when
/// the descriptor is writable and ``wantsWrite`` holds. Not thread-safe: one thread owns it.
public final class Channel {
    /// Bytes of the largest message.
    public static let maximumMessage = 256 << 10

    private let descriptor: OwnedDescriptor
    private let queueLimit: Int
    private var queue: [QueuedMessage] = []
    private var queueStart = 0
    private var queuedBytes = 0
    private let buffer: Buffer

    /// What a message is received into, for channels of one thread to share.
    public final class Buffer {
        fileprivate let bytes = UnsafeMutableRawPointer.allocate(byteCount: Channel.maximumMessage, alignment: 16)

        public init() {}

        deinit { bytes.deallocate() }
    }

    /// - Parameters:
    ///   - queueLimit: bytes that may wait; beyond, ``send(_:descriptors:)`` throws ``ChannelError/congested``.
    ///   - buffer: shared with other channels of the same thread. A process with many channels that forks copies the page
    ///     tables of each buffer.
    public init(_ descriptor: consuming OwnedDescriptor, queueLimit: Int = 64 << 20, buffer: Buffer = Buffer()) {
        self.descriptor = descriptor
        self.queueLimit = queueLimit
        self.buffer = buffer
        // A message must fit the socket's buffer whole; who may not force the size gets what the system allows.
        var size: Int32 = 1 << 20
        if setsockopt(self.descriptor.raw, SOL_SOCKET, SO_SNDBUFFORCE, &size, 4) < 0 {
            setsockopt(self.descriptor.raw, SOL_SOCKET, SO_SNDBUF, &size, 4)
        }
    }

    deinit {
        for message in queue[queueStart...] { for fd in message.descriptors { close(fd) } }
    }

    /// Both ends of a new channel.
    public static func pair() throws(SystemError) -> ChannelPair {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        if socketpair(AF_UNIX, type, 0, &ends) < 0 { throw .last("create a channel between processes") }
        return ChannelPair(near: OwnedDescriptor(owning: ends[0]), far: OwnedDescriptor(owning: ends[1]))
    }

    /// For epoll; valid as long as the channel lives.
    public var raw: Int32 { descriptor.raw }

    /// Whether messages wait for the descriptor to become writable.
    public var wantsWrite: Bool { queueStart < queue.count }

    /// Sends a message, now or by a later ``flush()``, in order.
    ///
    /// - Parameter descriptors: as many as the message's `descriptors` says; they are borrowed (duplicated if they wait).
    public func send(_ message: some ChannelMessage, descriptors: [Int32] = []) throws(ChannelError) {
        precondition(descriptors.count == message.descriptors, "descriptors do not match the message")
        let bytes = message.encoded()
        guard bytes.count <= Self.maximumMessage else { throw .tooLarge(bytes: bytes.count) }
        if !wantsWrite, try transmit(bytes, descriptors) { return }
        guard queuedBytes + bytes.count <= queueLimit else { throw .congested(bytes: queuedBytes) }
        var copies: [Int32] = []
        for fd in descriptors {
            do { copies.append(try OwnedDescriptor(duplicating: fd).release()) } catch {
                for copy in copies { close(copy) }
                throw .failed(error)
            }
        }
        queue.append(QueuedMessage(bytes: bytes, descriptors: copies))
        queuedBytes += bytes.count
    }

    /// Sends what waits, as far as the socket takes it.
    public func flush() throws(ChannelError) {
        while wantsWrite {
            let message = queue[queueStart]
            guard try transmit(message.bytes, message.descriptors) else { break }
            for fd in message.descriptors { close(fd) }
            queue[queueStart] = QueuedMessage(bytes: [], descriptors: [])
            queueStart += 1
            queuedBytes -= message.bytes.count
        }
        if queueStart == queue.count {
            queue = []
            queueStart = 0
        }
    }

    /// The next message, nil when there is none at present.
    public func receive<M: ChannelMessage>(_ type: M.Type = M.self) throws(ChannelError) -> Received<M>? {
        var raw = [Int32](repeating: -1, count: Int(CLINUX_MAXIMUM_DESCRIPTORS))
        var count: Int32 = 0
        let size = clinux_channel_receive(descriptor.raw, buffer.bytes, Self.maximumMessage, &raw, &count)
        guard size >= 0 else {
            switch Int32(-size) {
            case EAGAIN: return nil
            case ECONNRESET: throw .ended
            case EMSGSIZE: throw .tooLarge(bytes: Self.maximumMessage + 1)
            case EOVERFLOW:
                throw .wrongDescriptors(
                    expected: Int(CLINUX_MAXIMUM_DESCRIPTORS), found: Int(CLINUX_MAXIMUM_DESCRIPTORS) + 1)
            case let code: throw .failed(SystemError(code, "receive a message"))
            }
        }
        let descriptors = DescriptorList(owning: Array(raw.prefix(Int(count))))
        guard size > 0 else { throw .ended }
        do {
            let bytes = Array(UnsafeRawBufferPointer(start: buffer.bytes, count: size))
            let message = try M(try MessageReader(bytes))
            guard descriptors.count == message.descriptors else {
                throw ChannelError.wrongDescriptors(expected: message.descriptors, found: descriptors.count)
            }
            return Received(message: message, descriptors: descriptors)
        } catch let error as MalformedMessage {
            throw .malformed(error)
        } catch let error as ChannelError {
            throw error
        } catch {
            throw .malformed(MalformedMessage("\(error)"))
        }
    }

    /// Whether it went out; false: not now.
    private func transmit(_ bytes: [UInt8], _ descriptors: [Int32]) throws(ChannelError) -> Bool {
        let result = clinux_channel_send(descriptor.raw, bytes, bytes.count, descriptors, Int32(descriptors.count))
        switch -result {
        case 0: return true
        case EAGAIN, ENOBUFS: return false
        case EPIPE, ECONNRESET, ENOTCONN: throw .ended
        case let code: throw .failed(SystemError(code, "send a message of \(bytes.count) bytes"))
        }
    }
}

private struct QueuedMessage {
    var bytes: [UInt8]
    /// Ours, closed once sent.
    var descriptors: [Int32]
}

/// A message and what came with it.
public struct Received<M: ChannelMessage>: ~Copyable {
    public let message: M
    public var descriptors: DescriptorList

    public consuming func takeDescriptors() -> DescriptorList { descriptors }
}

/// The two ends of a new channel; each can be taken once.
public struct ChannelPair: ~Copyable {
    private var nearEnd: OwnedDescriptor?
    private var farEnd: OwnedDescriptor?

    init(near: consuming OwnedDescriptor, far: consuming OwnedDescriptor) {
        nearEnd = consume near
        farEnd = consume far
    }

    /// The end that stays in this process.
    public mutating func takeNear() -> OwnedDescriptor? { nearEnd.take() }
    /// The end that goes to another process.
    public mutating func takeFar() -> OwnedDescriptor? { farEnd.take() }
}
