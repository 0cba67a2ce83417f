import Glibc
import LinuxSystem

/// Keeps a second supervisor away from a directory: a lock that ends with this process, however it ends.
final class InstanceLock {
    private let descriptor: OwnedDescriptor

    /// - Parameter purpose: what is locked, for the refusal: `state directory /var/lib/mlvpn`.
    init(path: String, purpose: String) throws {
        // The directory may be another user's: no link is followed, nothing is waited for, nothing foreign is written to.
        let raw = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o600)
        if raw < 0 { throw SystemError.last("open \(path)") }
        descriptor = OwnedDescriptor(owning: raw)
        var status = stat()
        guard fstat(raw, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_uid == 0, status.st_nlink == 1
        else {
            throw StartFailure("\(path) is not a file of root's own; remove it")
        }
        var lock = Self.wholeFile
        if fcntl(raw, F_SETLK, &lock) < 0 {
            let code = errno
            guard code == EACCES || code == EAGAIN else { throw SystemError(code, "lock \(path)") }
            lock = Self.wholeFile
            let holder = fcntl(raw, F_GETLK, &lock) == 0 && lock.l_pid > 0 ? " (pid \(lock.l_pid))" : ""
            throw StartFailure("another mlvpnd\(holder) uses \(purpose); stop it, or give this one another directory")
        }
        let text = Array("\(getpid())\n".utf8)
        if ftruncate(raw, 0) == 0 { _ = write(raw, text, text.count) }
    }

    private static var wholeFile: flock {
        var lock = flock()
        lock.l_type = Int16(F_WRLCK)
        lock.l_whence = Int16(SEEK_SET)
        return lock
    }
}
