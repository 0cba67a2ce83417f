import CLinux
import Glibc

/// A counter that wakes who waits for it (eventfd(2)); nonblocking.
public struct EventFD: ~Copyable, Sendable {
    public let descriptor: OwnedDescriptor

    public init() throws(SystemError) {
        descriptor = OwnedDescriptor(owning: try checked(clinux_eventfd(), "create an eventfd"))
    }

    /// One that another process made.
    public init(adopting descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }

    public var raw: Int32 { descriptor.raw }

    /// From any thread. A counter at its limit stays signalled, so there is no error to report.
    public borrowing func signal() {
        var one: UInt64 = 1
        _ = write(descriptor.raw, &one, 8)
    }

    /// Resets it; how often it was signalled since the last time.
    @discardableResult
    public borrowing func drain() -> UInt64 {
        var count: UInt64 = 0
        return read(descriptor.raw, &count, 8) == 8 ? count : 0
    }
}
