import Glibc
import LinuxSystem
import TunnelModel

/// Looks host names up, each in a process of its own: getaddrinfo(3) may block for minutes, and what it reads comes from
/// the network. That process is this program, executed anew: it has nothing of what its parents know, and is nobody.
public final class Resolver {
    private static let timeLimit = UInt64.seconds(10)
    private static let maximumAddresses = 16
    /// Its first argument; then come the family, as in ``familyWord(_:)``, and the name.
    private static let program = "mlvpn-resolver"

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
        var launch = ChildProcess.Launch(
            path: "/proc/self/exe", arguments: [Self.program, Self.familyWord(isIPv6), name],
            environment: Self.environment)
        launch.standardOutput = lookup.pipe.writeEnd
        launch.standardError = -1
        let pid = try ChildProcess.start(launch)
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

    private static func familyWord(_ isIPv6: Bool?) -> String { isIPv6.map { $0 ? "6" : "4" } ?? "any" }

    /// What the C library heeds (resolv.conf(5)), and where a build directory's libraries are.
    private static var environment: [String] {
        ["RES_OPTIONS", "LOCALDOMAIN", "LD_LIBRARY_PATH"].compactMap { (name: String) in
            getenv(name).map { "\(name)=\(String(cString: $0))" }
        }
    }

    /// To be called first of all by every program that has helpers: does what ``resolve(_:isIPv6:done:)`` has started this
    /// process for.
    ///
    /// - Returns: the exit code, getaddrinfo's error with its sign changed; nil: this process is another one.
    public static func serveIfAsked() -> Int32? {
        let arguments = CommandLine.arguments
        guard arguments.count == 3, arguments[0] == program else { return nil }
        if getuid() == 0 {
            let nobody = Account(name: "nobody", userID: 65534, groupID: 65534)
            guard (try? Privileges.drop(to: nobody, chroot: nil)) != nil else { return -EAI_SYSTEM }
        }
        return lookUp(arguments[2], arguments[1] == "any" ? nil : arguments[1] == "6")
    }

    private static func lookUp(_ name: String, _ isIPv6: Bool?) -> Int32 {
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
        return write(STDOUT_FILENO, bytes, bytes.count) == bytes.count ? 0 : -EAI_SYSTEM
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
