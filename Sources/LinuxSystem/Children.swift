import CLinux
import Glibc

/// The child processes of this one, and what is to happen when each ends.
///
/// Each is waited for by a descriptor of its own (pidfd_open(2)): no SIGCHLD, and nobody else's child is touched.
public final class Children {
    private let loop: EventLoop
    /// Where no descriptor can be had, the child is looked after this often.
    private static let pollInterval = UInt64.milliseconds(50)

    public init(loop: EventLoop) { self.loop = loop }

    /// Calls `ended` once, when child `pid` has ended and been buried.
    public func add(_ pid: pid_t, ended: @escaping (ProcessEnd) -> Void) {
        let raw = clinux_pidfd_open(pid)
        guard raw >= 0 else { return poll(pid, ended) }
        let child = Child(descriptor: OwnedDescriptor(owning: raw))
        do throws(SystemError) {
            child.watch = try loop.watch(raw) { [loop] _ in
                guard let end = ChildProcess.bury(pid) else { return }
                if let watch = child.watch { loop.remove(watch) }
                child.watch = nil
                ended(end)
            }
        } catch {
            poll(pid, ended)
        }
    }

    private func poll(_ pid: pid_t, _ ended: @escaping (ProcessEnd) -> Void) {
        loop.after(Self.pollInterval) { [weak self] in
            if let end = ChildProcess.bury(pid) { return ended(end) }
            self?.poll(pid, ended)
        }
    }

    /// Kept alive by its watch.
    private final class Child {
        let descriptor: OwnedDescriptor
        var watch: EventLoop.WatchID?
        init(descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }
}
