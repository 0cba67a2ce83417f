import CLinux
import Glibc

/// A file descriptor with one owner; closed with it.
public struct OwnedDescriptor: ~Copyable, Sendable {
    /// Valid as long as this value lives; whoever keeps it longer keeps a stranger's descriptor.
    public let raw: Int32

    public init(owning raw: Int32) { self.raw = raw }

    deinit { close(raw) }

    /// Gives the ownership away: the caller closes it.
    public consuming func release() -> Int32 {
        let raw = raw
        discard self
        return raw
    }

    /// Another descriptor of the same open file, close-on-exec.
    public borrowing func duplicate() throws(SystemError) -> OwnedDescriptor {
        try OwnedDescriptor(duplicating: raw)
    }

    public init(duplicating raw: Int32) throws(SystemError) {
        let copy = fcntl(raw, F_DUPFD_CLOEXEC, 0)
        if copy < 0 { throw .last("duplicate descriptor \(raw)", hint: Self.limitHint) }
        self.raw = copy
    }

    static let limitHint = "if there are too many open files, raise LimitNOFILE"
}

/// A few descriptors that arrived with a message, in order. What is not taken is closed.
public struct DescriptorList: ~Copyable, Sendable {
    private var pending: [Int32]
    private var next = 0

    public init() { pending = [] }

    /// Takes over descriptors that nobody else closes.
    public init(owning raw: [Int32]) { pending = raw }

    /// How many are left to take.
    public var count: Int { pending.count - next }

    public mutating func take() -> OwnedDescriptor? {
        guard next < pending.count else { return nil }
        defer { next += 1 }
        return OwnedDescriptor(owning: pending[next])
    }

    public mutating func append(_ descriptor: consuming OwnedDescriptor) { pending.append(descriptor.release()) }

    /// The numbers of those not taken, for a call that borrows them.
    public var raw: [Int32] { Array(pending[next...]) }

    deinit {
        for index in next..<pending.count { close(pending[index]) }
    }
}
