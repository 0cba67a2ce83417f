import CLinux
import Glibc
import LinuxSystem

/// Tells systemd how we are (sd_notify(3)), where it asked to be told; its protocol is one datagram of text.
struct ServiceManager {
    private let path: String?

    /// Takes the address out of the environment: no child has business with it.
    init() {
        path = getenv("NOTIFY_SOCKET").map { String(cString: $0) }
        unsetenv("NOTIFY_SOCKET")
    }

    func ready(_ status: String) { tell("READY=1\nSTATUS=\(status)") }
    func status(_ text: String) { tell("STATUS=\(text)") }
    func stopping() { tell("STOPPING=1\nSTATUS=stopping") }

    func reloading() {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        tell("RELOADING=1\nMONOTONIC_USEC=\(Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000)")
    }

    private func tell(_ text: String) {
        guard let path else { return }
        let fd = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { return }
        defer { close(fd) }
        guard clinux_unix_connect(fd, path) == 0 else { return }
        let bytes = Array(text.utf8)
        _ = send(fd, bytes, bytes.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
    }
}
