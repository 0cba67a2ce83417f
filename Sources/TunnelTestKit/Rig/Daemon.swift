import Glibc

/// An `mlvpnd` of a rig, with state and control socket of its own.
public final class Daemon {
    public private(set) var process: RunningProcess
    /// Its database and its socket lie here; they outlive ``stop()`` and ``start()``.
    public let stateDirectory: String
    public let runDirectory: String
    private let rig: NetworkRig
    private let namespace: NetworkNamespace
    private let programs: String
    private let flags: [String]

    /// Starts the daemon and waits until it answers.
    ///
    /// - Parameters:
    ///   - programs: the directory of the executables.
    ///   - name: of its directories, unique in the rig.
    public init(
        in rig: NetworkRig, _ namespace: NetworkNamespace, programs: String, name: String, flags: [String] = []
    ) throws(RigError) {
        self.rig = rig
        self.namespace = namespace
        self.programs = programs
        self.flags = flags
        stateDirectory = "\(rig.directory)/\(name)-state"
        runDirectory = "\(rig.directory)/\(name)-run"
        process = try Daemon.launch(rig, namespace, programs, stateDirectory, runDirectory, flags)
        try waitUntilItAnswers()
    }

    /// Starts it again after ``stop()`` or its death, with the same state.
    public func start() throws(RigError) {
        try launch()
        try waitUntilItAnswers()
    }

    /// The same without waiting for anything.
    public func launch() throws(RigError) {
        process = try Daemon.launch(rig, namespace, programs, stateDirectory, runDirectory, flags)
    }

    public func stop(within limit: Duration = .seconds(60)) {
        process.stop(within: limit)
    }

    /// The command that administers this daemon, without the administrator's words.
    public var adminCommand: [String] {
        ["\(programs)/mlvpn-admin", "--socket", "\(runDirectory)/control.sock"]
    }

    /// What `mlvpn-admin` prints; an exit code other than 0 is an error.
    @discardableResult
    public func admin(_ arguments: String..., within limit: Duration = .seconds(60)) throws(RigError) -> String {
        try rig.run(adminCommand + arguments, within: limit)
    }

    @discardableResult
    public func admin(_ arguments: [String], within limit: Duration = .seconds(60)) throws(RigError) -> String {
        try rig.run(adminCommand + arguments, within: limit)
    }

    private static func launch(
        _ rig: NetworkRig, _ namespace: NetworkNamespace, _ programs: String, _ state: String, _ run: String,
        _ flags: [String]
    ) throws(RigError) -> RunningProcess {
        try rig.start(
            ["\(programs)/mlvpnd", "--foreground", "--state-dir", state, "--run-dir", run] + flags, in: namespace)
    }

    private func waitUntilItAnswers() throws(RigError) {
        try waitUntil("mlvpnd", within: .seconds(30)) { () throws(RigError) -> Bool in
            if let status = process.exitStatus {
                throw .commandFailed(command: "mlvpnd", status: status, output: process.output)
            }
            return try rig.succeeds(adminCommand + ["list"])
        }
    }
}
