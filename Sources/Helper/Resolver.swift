import CLinux
import Glibc
import LinuxSystem
import TunnelModel

/// Looks host names up, each in a process of its own: getaddrinfo(3) may block for minutes, and what it reads comes from
/// the network, so it runs as nobody.
final class Resolver {
    private static let timeLimit = UInt64.seconds(10)
    private static let nobody: UInt32 = 65534
    private static let maximumAddresses = 16

    private let loop: EventLoop
    private let children: Children
    private var lookups: [pid_t: Lookup] = [:]

    private final class Lookup {
        let pipe: OutputPipe
        let done: (Result<[IPAddress], LookupFailure>) -> Void
        var timer: EventLoop.TimerID?
        var isLate = false
        init(pipe: OutputPipe, done: @escaping (Result<[IPAddress], LookupFailure>) -> Void) {
            self.pipe = pipe
            self.done = done
        }
    }

    init(loop: EventLoop, children: Children) {
        self.loop = loop
        self.children = children
    }

    /// - Parameter isIPv6: only addresses of this family; nil: of both, in the order of preference (RFC 6724).
    func resolve(
        _ name: String, isIPv6: Bool?, done: @escaping (Result<[IPAddress], LookupFailure>) -> Void
    ) throws(SystemError) {
        let lookup = Lookup(pipe: try OutputPipe(), done: done)
        let output = lookup.pipe.writeEnd
        let pid = try ChildProcess.fork(keeping: [output]) { Self.lookUp(name, isIPv6, output) }
        lookup.pipe.closeWriteEnd()
        lookups[pid] = lookup
        lookup.timer = loop.after(Self.timeLimit) {
            lookup.isLate = true
            kill(pid, SIGKILL)
        }
        children.add(pid) { [weak self] end in self?.ended(pid, end) }
    }

    /// Asks no more: what runs is ended, and nobody is told.
    func stop() {
        for (pid, lookup) in lookups {
            if let timer = lookup.timer { loop.cancel(timer) }
            kill(pid, SIGKILL)
        }
        lookups = [:]
    }

    private func ended(_ pid: pid_t, _ end: ProcessEnd) {
        guard let lookup = lookups.removeValue(forKey: pid) else { return }
        if let timer = lookup.timer { loop.cancel(timer) }
        if lookup.isLate { return lookup.done(.failure(.late)) }
        guard end == .exited(0) else {
            if case .exited(let code) = end { return lookup.done(.failure(.refused(code: -code))) }
            return lookup.done(.failure(.crashed(end)))
        }
        var bytes: [UInt8] = []
        while let more = lookup.pipe.read(), !more.isEmpty { bytes += more }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        let addresses = lines.prefix(Self.maximumAddresses).compactMap { IPAddress($0) }
        lookup.done(addresses.isEmpty ? .failure(.refused(code: EAI_NONAME)) : .success(addresses))
    }

    /// In the child. The exit code is getaddrinfo's error with its sign changed.
    private static func lookUp(_ name: String, _ isIPv6: Bool?, _ output: Int32) -> Int32 {
        if getuid() == 0 {
            guard setgroups(0, nil) == 0, clinux_set_group(nobody) == 0, clinux_set_user(nobody) == 0 else {
                return -EAI_SYSTEM
            }
        }
        var hints = addrinfo()
        hints.ai_family = isIPv6.map { $0 ? AF_INET6 : AF_INET } ?? AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(name, nil, &hints, &list)
        guard code == 0 else { return -code }
        var text = ""
        var next = list
        var count = 0
        while let entry = next?.pointee, count < maximumAddresses {
            var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            if getnameinfo(entry.ai_addr, entry.ai_addrlen, &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST) == 0 {
                text += String(decoding: host.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self) + "\n"
                count += 1
            }
            next = entry.ai_next
        }
        // Far below what a pipe takes in one piece.
        let bytes = Array(text.utf8)
        return write(output, bytes, bytes.count) == bytes.count ? 0 : -EAI_SYSTEM
    }
}

enum LookupFailure: Error, Equatable, CustomStringConvertible {
    case late
    /// An `EAI_…` value.
    case refused(code: Int32)
    case crashed(ProcessEnd)

    var description: String {
        switch self {
        case .late: "no answer within 10 seconds; check /etc/resolv.conf and the name servers"
        case .refused(let code): gai_strerror(code).map { String(cString: $0) } ?? "error \(code)"
        case .crashed(let end): "the look-up \(end)"
        }
    }
}
