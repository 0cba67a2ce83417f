import Glibc

/// The child processes of this one, and what is to happen when each ends. ``reap()`` is called on SIGCHLD.
public final class Children {
    private var handlers: [pid_t: (ProcessEnd) -> Void] = [:]

    public init() {}

    public func add(_ pid: pid_t, ended: @escaping (ProcessEnd) -> Void) { handlers[pid] = ended }

    public func reap() {
        while let (pid, end) = ChildProcess.reap() { handlers.removeValue(forKey: pid)?(end) }
    }
}
