import CLinux
import Glibc

/// A set of descriptors to wait for (epoll(7)), level-triggered.
public struct Epoll: ~Copyable, Sendable {
    private let descriptor: OwnedDescriptor

    public init() throws(SystemError) {
        let raw = epoll_create1(Int32(EPOLL_CLOEXEC))
        if raw < 0 { throw .last("create an epoll set", hint: OwnedDescriptor.limitHint) }
        descriptor = OwnedDescriptor(owning: raw)
    }

    /// `token` comes back with every event of this descriptor.
    public borrowing func add(_ fd: Int32, _ interest: EpollInterest, token: UInt64) throws(SystemError) {
        try control(EPOLL_CTL_ADD, fd, interest, token)
    }

    public borrowing func modify(_ fd: Int32, _ interest: EpollInterest, token: UInt64) throws(SystemError) {
        try control(EPOLL_CTL_MOD, fd, interest, token)
    }

    /// Before the descriptor is closed: a copy of it in another process would keep it in the set.
    public borrowing func remove(_ fd: Int32) throws(SystemError) {
        try control(EPOLL_CTL_DEL, fd, [], 0)
    }

    /// Waits at most `timeout` nanoseconds, for ever when negative. Returns how many of `events` are filled; 0 when the
    /// time is over or a signal came.
    @discardableResult
    public borrowing func wait(_ events: borrowing EpollEvents, timeout: Int64) throws(SystemError) -> Int {
        let count = clinux_epoll_wait(descriptor.raw, events.storage, Int32(events.capacity), timeout)
        if count >= 0 { return Int(count) }
        if count == -EINTR { return 0 }
        throw SystemError(-count, "wait for events")
    }

    private borrowing func control(
        _ operation: Int32, _ fd: Int32, _ interest: EpollInterest, _ token: UInt64
    ) throws(SystemError) {
        var event = epoll_event()
        event.events = interest.rawValue
        event.data.u64 = token
        if epoll_ctl(descriptor.raw, operation, fd, &event) < 0 {
            throw .last("change the events waited for on descriptor \(fd)")
        }
    }
}

/// What to wait for. Errors and hang-ups are always reported.
public struct EpollInterest: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let read = EpollInterest(rawValue: EPOLLIN.rawValue)
    public static let write = EpollInterest(rawValue: EPOLLOUT.rawValue)
}

/// Room for the events of one wait, allocated once.
public struct EpollEvents: ~Copyable, @unchecked Sendable {
    let storage: UnsafeMutablePointer<epoll_event>
    public let capacity: Int

    public init(capacity: Int = 64) {
        self.capacity = max(1, capacity)
        storage = .allocate(capacity: self.capacity)
        storage.initialize(repeating: epoll_event(), count: self.capacity)
    }

    deinit { storage.deallocate() }

    /// Event `index`, below what ``Epoll/wait(_:timeout:)`` returned.
    public subscript(index: Int) -> EpollEvent {
        precondition(index >= 0 && index < capacity)
        return EpollEvent(token: storage[index].data.u64, flags: storage[index].events)
    }
}

public struct EpollEvent: Sendable {
    public let token: UInt64
    let flags: UInt32

    /// Data, the end of data, or an error that reading will show.
    public var isReadable: Bool {
        flags & (EPOLLIN.rawValue | EPOLLERR.rawValue | EPOLLHUP.rawValue | EPOLLRDHUP.rawValue) != 0
    }
    /// Room, or an error that writing will show.
    public var isWritable: Bool { flags & (EPOLLOUT.rawValue | EPOLLERR.rawValue) != 0 }
    /// An error or a hang-up alone: nothing to read.
    public var hasFailed: Bool { flags & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0 && flags & EPOLLIN.rawValue == 0 }
}
