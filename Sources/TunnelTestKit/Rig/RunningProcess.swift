import CTestKit
import Glibc

/// A child process with its output in a file, in a process group of its own.
///
/// Made by ``NetworkRig/start(_:in:)``; the rig ends it at the latest when the rig is torn down.
public final class RunningProcess {
    public let command: [String]
    public let pid: pid_t
    /// Standard output and standard error together.
    public let outputPath: String
    private let input: Int32?
    private var status: ExitStatus?

    public enum ExitStatus: Equatable, Sendable, CustomStringConvertible {
        case exited(Int32)
        case signalled(Int32)

        public var description: String {
            switch self {
            case .exited(let code): "exit code \(code)"
            case .signalled(let signal): "signal \(signal)"
            }
        }
    }

    /// Starts `command` (its first word is looked up in PATH) with `environment` added to this process's own.
    ///
    /// - Parameter withInput: keeps a pipe to its standard input, see ``send(line:)``; otherwise that is /dev/null.
    init(_ command: [String], environment: [String: String], outputPath: String, withInput: Bool) throws(RigError) {
        self.command = command
        self.outputPath = outputPath
        var pipeEnds: [Int32] = [-1, -1]
        if withInput, case let code = spawn_pipe(&pipeEnds), code != 0 {
            throw .system(operation: "make a pipe for", object: command[0], code: code)
        }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if withInput {
            posix_spawn_file_actions_adddup2(&actions, pipeEnds[0], STDIN_FILENO)
        } else {
            posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        }
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, outputPath, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)
        // Descriptors of other tests and of the test runner are no business of the child.
        spawn_close_from(&actions, 3)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var noSignals = sigset_t()
        sigemptyset(&noSignals)
        var defaults = sigset_t()
        sigemptyset(&defaults)
        for signal in [SIGINT, SIGTERM, SIGPIPE, SIGHUP] {
            sigaddset(&defaults, signal)
        }
        posix_spawnattr_setsigmask(&attributes, &noSignals)
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        posix_spawnattr_setpgroup(&attributes, 0)
        let flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
        posix_spawnattr_setflags(&attributes, Int16(flags))

        var child: pid_t = 0
        let code = withCStrings(command) { argv in
            withCStrings(RunningProcess.environment(adding: environment)) { envp in
                posix_spawnp(&child, command[0], &actions, &attributes, argv, envp)
            }
        }
        if withInput { close(pipeEnds[0]) }
        guard code == 0 else {
            if withInput { close(pipeEnds[1]) }
            throw .system(operation: "start", object: command.joined(separator: " "), code: code)
        }
        pid = child
        input = withInput ? pipeEnds[1] : nil
    }

    deinit {
        if let input { close(input) }
    }

    /// What the process has written so far.
    public var output: String {
        readWholeFile(outputPath) ?? ""
    }

    /// How it ended; nil while it runs.
    public var exitStatus: ExitStatus? {
        if let status { return status }
        var raw: Int32 = 0
        guard waitpid(pid, &raw, WNOHANG) == pid else { return nil }
        let signal = raw & 0x7f
        status = signal == 0 ? .exited((raw >> 8) & 0xff) : .signalled(signal)
        return status
    }

    public var isRunning: Bool { exitStatus == nil }

    /// Sends a signal to the process alone; one that has ended gets none.
    public func signal(_ number: Int32) {
        if isRunning { _ = kill(pid, number) }
    }

    /// Sends a signal to the process and to its descendants that stayed in its process group.
    public func signalGroup(_ number: Int32) {
        _ = kill(-pid, number)
    }

    /// Writes a line to its standard input (only if it was started with one).
    public func send(line: String) throws(RigError) {
        let bytes = Array((line + "\n").utf8)
        guard let input, bytes.withUnsafeBytes({ write(input, $0.baseAddress, $0.count) }) == bytes.count else {
            throw .system(operation: "write to the standard input", object: command[0], code: errno)
        }
    }

    /// Waits for its end.
    public func waitForExit(within limit: Duration) throws(RigError) -> ExitStatus {
        try poll("end of \(command.joined(separator: " "))", within: limit) { exitStatus }
    }

    /// Asks it to end (SIGTERM), and after `limit` ends it and its process group.
    public func stop(within limit: Duration = .seconds(5)) {
        signal(SIGTERM)
        let ended = try? waitForExit(within: limit)
        signalGroup(SIGKILL)
        if ended == nil {
            _ = try? waitForExit(within: .seconds(5))
        }
    }

    private static func environment(adding added: [String: String]) -> [String] {
        var result: [String] = []
        var variable = environ
        while let text = variable.pointee {
            let entry = String(cString: text)
            if added[String(entry.prefix { $0 != "=" })] == nil { result.append(entry) }
            variable += 1
        }
        return result + added.map { "\($0.key)=\($0.value)" }
    }
}

/// Calls `body` with a null-terminated array of C strings.
private func withCStrings<Result>(
    _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
) -> Result {
    let copies = strings.map { strdup($0) }
    defer { copies.forEach { free($0) } }
    return body(copies + [nil])
}

/// The whole text of a file; nil if it cannot be read.
func readWholeFile(_ path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var text: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while case let count = read(file, &buffer, buffer.count), count > 0 {
        text += buffer.prefix(count)
    }
    return String(decoding: text, as: UTF8.self)
}
