import CLinux
import Glibc
import Synchronization

/// Where lines go: standard error or /dev/log. Opened once, before any chroot.
struct LogSink: Sendable {
    enum Destination: Sendable {
        /// A terminal, a pipe or a file: written to; a socket: sent to. Neither is waited for: a reader that is stuck
        /// costs lines, not the time of who logs.
        case standardError(isSocket: Bool)
        case syslog(fd: Int32)
    }

    let destination: Destination
    /// Standard error is journald's: it wants a priority in front and adds the time itself.
    let isJournal: Bool

    init(_ settings: LogSettings) {
        var status = stat()
        let isOpen = fstat(2, &status) == 0
        if settings.format == .syslog, let fd = Self.inheritedSyslog() ?? Self.connectSyslog() {
            tzset()
            destination = .syslog(fd: fd)
            isJournal = false
        } else {
            destination = .standardError(isSocket: isOpen && status.st_mode & S_IFMT == S_IFSOCK)
            let stream = getenv("JOURNAL_STREAM").map { String(cString: $0) }
            isJournal = isOpen && stream == "\(status.st_dev):\(status.st_ino)"
        }
    }

    /// What a forked child must keep in order to log, besides standard error.
    var descriptor: Int32? { if case .syslog(let fd) = destination { fd } else { nil } }

    func write(_ line: String) {
        // Longer than any reader's limit; a datagram of /dev/log must not be refused.
        var line = line.utf8.count > 8192 ? String(decoding: line.utf8.prefix(8190), as: UTF8.self) + "\n" : line
        line.withUTF8 { bytes in
            let count = bytes.count
            switch destination {
            case .standardError(true): _ = send(2, bytes.baseAddress, count, Self.sendFlags)
            case .standardError(false): writeWithoutWaiting(UnsafeRawBufferPointer(bytes).prefix(count))
            case .syslog(let fd):
                if send(fd, bytes.baseAddress, count, Self.sendFlags) >= 0 || errno == EAGAIN { return }
                // The log daemon was started anew.
                guard Self.reconnect(fd) else { return Self.isCutOff.store(true, ordering: .relaxed) }
                _ = send(fd, bytes.baseAddress, count, Self.sendFlags)
            }
        }
    }

    /// A line was lost because no log daemon was there, or because this process may not look for one.
    private static let isCutOff = Atomic<Bool>(false)

    static func takeLoss() -> Bool { isCutOff.exchange(false, ordering: .relaxed) }

    /// Looks for the log daemon again, for every process that has this socket.
    static func reconnect(_ fd: Int32) -> Bool { clinux_unix_connect(fd, syslogPath) == 0 }

    private func writeWithoutWaiting(_ bytes: Slice<UnsafeRawBufferPointer>) {
        var rest = bytes
        while !rest.isEmpty {
            var poll = pollfd(fd: 2, events: Int16(POLLOUT), revents: 0)
            guard Glibc.poll(&poll, 1, 0) == 1, poll.revents & Int16(POLLOUT) != 0 else { return }
            // A pipe with room takes so much at once.
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(4096))
            let count = Glibc.write(2, piece.baseAddress, piece.count)
            if count <= 0 { return }
            rest = rest.dropFirst(count)
        }
    }

    private static let syslogPath = "/dev/log"
    private static let sendFlags = Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)

    /// Standard error, where whoever started this process has put its own socket to syslog there: who cannot see
    /// /dev/log can use it all the same, and one that connects it anew does so for all.
    private static func inheritedSyslog() -> Int32? {
        func option(_ name: Int32) -> Int32 {
            var value: Int32 = -1
            var size = socklen_t(MemoryLayout<Int32>.size)
            return getsockopt(2, SOL_SOCKET, name, &value, &size) == 0 ? value : -1
        }
        return option(SO_DOMAIN) == AF_UNIX && option(SO_TYPE) == Int32(SOCK_DGRAM.rawValue) ? 2 : nil
    }

    private static func connectSyslog() -> Int32? {
        let fd = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { return nil }
        guard clinux_unix_connect(fd, syslogPath) == 0 else {
            close(fd)
            return nil
        }
        // Clear of the descriptors that processes are handed at their start.
        let lifted = fcntl(fd, F_DUPFD_CLOEXEC, 64)
        guard lifted >= 0 else { return fd }
        close(fd)
        return lifted
    }
}
