import CLinux
import Glibc

/// A daemon's way into the background: the command that started it returns once it works, or says why it does not.
public struct Background: ~Copyable {
    private let notify: OwnedDescriptor

    /// Goes on in a child that leads a session of its own. The parent waits there for ``ready(keepsStandardError:)`` and
    /// exits with 0, or with 1 if the child ends before. Before any thread starts and anything is locked.
    public static func begin() throws(SystemError) -> Background {
        var ends: [Int32] = [-1, -1]
        if pipe(&ends) < 0 { throw .last("create a pipe") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let pid = try checked(clinux_fork(), "go into the background")
        if pid > 0 {
            close(ends[1])
            var byte: UInt8 = 0
            var count: Int
            repeat { count = read(ends[0], &byte, 1) } while count < 0 && errno == EINTR
            _exit(count == 1 ? 0 : 1)
        }
        close(ends[0])
        setsid()
        return Background(notify: OwnedDescriptor(owning: ends[1]))
    }

    /// Lets the waiting parent go, and leaves its terminal and its directory, which may be on a disk to be unmounted.
    public consuming func ready(keepsStandardError: Bool) {
        _ = chdir("/")
        StandardStreams.leave(keepsStandardError: keepsStandardError)
        var byte: UInt8 = 1
        _ = write(notify.raw, &byte, 1)
    }
}

/// Descriptors 0 to 2, which are those of whoever has started this process.
public enum StandardStreams {
    /// Nobody who waits for their end is kept waiting by this process.
    public static func leave(keepsStandardError: Bool) {
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        guard null >= 0 else { return }
        dup2(null, 0)
        dup2(null, 1)
        if !keepsStandardError { dup2(null, 2) }
        if null > 2 { close(null) }
    }
}
