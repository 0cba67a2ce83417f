import Glibc

/// A single thread that waits for descriptors and for times, and calls what belongs to each.
///
/// For processes that decide rather than carry traffic. Handlers may add and remove watches and timers, their own too.
public final class EventLoop {
    public typealias Handler = (EpollEvent) -> Void

    private let epoll: Epoll
    private let events = EpollEvents(capacity: 64)
    private var watches: [UInt64: Watch] = [:]
    private var timers: [TimerID: (due: UInt64, action: () -> Void)] = [:]
    private var lastToken: UInt64 = 0
    private var isStopped = false

    private struct Watch {
        var fd: Int32
        var interest: EpollInterest
        var handler: Handler
    }

    public struct TimerID: Hashable, Sendable { fileprivate let number: UInt64 }
    public struct WatchID: Hashable, Sendable { fileprivate let number: UInt64 }

    public init() throws(SystemError) { epoll = try Epoll() }

    /// Calls `handler` whenever `fd` is ready. Remove the watch before the descriptor is closed.
    public func watch(
        _ fd: Int32, _ interest: EpollInterest = .read, handler: @escaping Handler
    ) throws(SystemError) -> WatchID {
        lastToken += 1
        try epoll.add(fd, interest, token: lastToken)
        watches[lastToken] = Watch(fd: fd, interest: interest, handler: handler)
        return WatchID(number: lastToken)
    }

    public func change(_ id: WatchID, to interest: EpollInterest) {
        guard let watch = watches[id.number], watch.interest != interest else { return }
        watches[id.number]?.interest = interest
        // It can fail only for a descriptor that is not in the set.
        try? epoll.modify(watch.fd, interest, token: id.number)
    }

    public func remove(_ id: WatchID) {
        guard let watch = watches.removeValue(forKey: id.number) else { return }
        try? epoll.remove(watch.fd)
    }

    /// Calls `action` once, after `delay` nanoseconds.
    @discardableResult
    public func after(_ delay: UInt64, _ action: @escaping () -> Void) -> TimerID {
        lastToken += 1
        let id = TimerID(number: lastToken)
        timers[id] = (Clock.now() + delay, action)
        return id
    }

    public func cancel(_ id: TimerID) { timers[id] = nil }

    /// Runs until ``stop()``.
    public func run() throws(SystemError) {
        isStopped = false
        while !isStopped { try turn() }
    }

    public func stop() { isStopped = true }

    /// Waits once, at most until the next timer, and calls what became due.
    public func turn() throws(SystemError) {
        let count = try epoll.wait(events, timeout: nextTimeout())
        for index in 0..<count {
            let event = events[index]
            // A handler before this one may have removed it.
            watches[event.token]?.handler(event)
            if isStopped { return }
        }
        let now = Clock.now()
        let due = timers.filter { $0.value.due <= now }.sorted { $0.value.due < $1.value.due }
        for (id, timer) in due where timers.removeValue(forKey: id) != nil {
            timer.action()
            if isStopped { return }
        }
    }

    private func nextTimeout() -> Int64 {
        guard let next = timers.values.map(\.due).min() else { return -1 }
        let now = Clock.now()
        return next <= now ? 0 : Int64(clamping: next - now)
    }
}

extension UInt64 {
    /// Nanoseconds of whole seconds or milliseconds, for ``EventLoop/after(_:_:)``.
    public static func seconds(_ count: UInt64) -> UInt64 { count * 1_000_000_000 }
    public static func milliseconds(_ count: UInt64) -> UInt64 { count * 1_000_000 }
}
