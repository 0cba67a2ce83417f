import CLinux
import Glibc

/// Starting and burying other processes.
public enum ChildProcess {
    /// What a started program gets. Every descriptor not named here is closed in it; signals are at their defaults.
    public struct Launch: Sendable {
        /// Absolute; executed as it is.
        public var path: String
        /// With the name of the program first.
        public var arguments: [String]
        public var environment: [String]
        /// -1: /dev/null.
        public var standardInput: Int32 = -1
        public var standardOutput: Int32 = 1
        public var standardError: Int32 = 2
        /// Becomes descriptor 3, unless negative.
        public var channel: Int32 = -1
        public var leadsSession = false

        public init(path: String, arguments: [String], environment: [String]) {
            self.path = path
            self.arguments = arguments
            self.environment = environment
        }
    }

    /// The pid. A program that cannot be executed is an error here, not an exit code later.
    public static func start(_ launch: Launch) throws(SystemError) -> pid_t {
        let pid = withCStrings(launch.arguments) { arguments in
            withCStrings(launch.environment) { environment in
                launch.path.withCString { path in
                    var request = clinux_spawn_request(
                        path: path, arguments: arguments, environment: environment,
                        standard_input: launch.standardInput, standard_output: launch.standardOutput,
                        standard_error: launch.standardError, channel: launch.channel,
                        new_session: launch.leadsSession ? 1 : 0)
                    return clinux_spawn(&request)
                }
            }
        }
        return try checked(pid, "start \(launch.path)")
    }

    /// Runs `body` in a forked child, which leaves the parent's descriptors alone except those in `keeping` (0 to 2 are
    /// always kept), and ends with the exit code that `body` returns. Only while this process has a single thread.
    public static func fork(keeping: [Int32], _ body: () -> Int32) throws(SystemError) -> pid_t {
        let pid = try checked(clinux_fork(), "start another process")
        if pid > 0 { return pid }
        let kept = keeping.filter { $0 > 2 }.sorted()
        if clinux_close_all_but(3, kept, kept.count) < 0 { _exit(1) }
        let code = body()
        _exit(code)
    }

    /// How child `pid` has ended; nil while it runs. Asked again, a child that is buried already counts as ended.
    static func bury(_ pid: pid_t) -> ProcessEnd? {
        var status: Int32 = 0
        var result: pid_t
        repeat { result = waitpid(pid, &status, WNOHANG) } while result < 0 && errno == EINTR
        if result == 0 { return nil }
        return result == pid ? ProcessEnd(status: status) : .exited(0)
    }

    /// Executes another program in this process; returns only when it cannot.
    static func replaceProgram(path: String, arguments: [String], environment: [String]) {
        _ = withCStrings(arguments) { arguments in
            withCStrings(environment) { environment in clinux_execute(path, arguments, environment) }
        }
    }

    private static func withCStrings<R>(
        _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> R
    ) -> R {
        var copies: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
        defer { for copy in copies { free(copy) } }
        copies.append(nil)
        return copies.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { preconditionFailure("an array with an element has an address") }
            return body(base)
        }
    }
}

/// How a process ended.
public enum ProcessEnd: Equatable, Sendable, CustomStringConvertible {
    case exited(Int32)
    case killed(signal: Int32)

    init(status: Int32) {
        let signal = status & 0x7f
        self = signal == 0 ? .exited((status >> 8) & 0xff) : .killed(signal: signal)
    }

    public var isSuccess: Bool { self == .exited(0) }

    public var description: String {
        switch self {
        case .exited(let code): "exited with code \(code)"
        case .killed(SIGSYS): "was ended by its system-call filter (SIGSYS)"
        case .killed(let signal): "was ended by \(signalName(signal))"
        }
    }
}
