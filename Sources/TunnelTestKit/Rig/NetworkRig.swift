import Glibc

/// Network namespaces, wires between them and processes inside them, all gone when the rig is torn down.
///
///     try NetworkRig.with { rig in
///         let server = try rig.namespace("server")
///         let client = try rig.namespace("client")
///         try rig.wire(.init(server, "eth0", "10.1.0.1/24"), .init(client, "eth0", "10.1.0.2/24"))
///         try rig.run(["ping", "-c1", "10.1.0.1"], in: client)
///     }
///
/// Names of namespaces carry the process's id and start time; a rig that was killed is cleaned up by the next one.
/// Needs root. Not for use by two threads at a time; several rigs may exist side by side.
public final class NetworkRig {
    /// A directory for files of this rig, removed with it. Others may enter it, since daemons drop their privileges.
    public let directory: String
    private let prefix: String
    private var namespaces: [NetworkNamespace] = []
    private var processes: [RunningProcess] = []
    private var started = 0

    /// Makes a rig, runs `body` and tears the rig down, also after an error.
    public static func with<Result>(_ body: (NetworkRig) throws -> Result) throws -> Result {
        let rig = try NetworkRig()
        defer { rig.tearDown() }
        return try body(rig)
    }

    public init() throws(RigError) {
        guard geteuid() == 0 else { throw .notRoot }
        NetworkRig.removeLeftovers()
        prefix = "\(RigName.prefix(of: getpid()))\(RigName.nextNumber())-"
        directory = "/tmp/\(prefix)files"
        guard mkdir(directory, 0o755) == 0 else {
            throw .system(operation: "make the directory", object: directory, code: errno)
        }
    }

    deinit {
        tearDown()
    }

    /// Ends every process, then deletes the namespaces with all that is in them, and the directory. Harmless twice.
    public func tearDown() {
        for process in processes.reversed() where process.isRunning {
            process.stop(within: .seconds(3))
        }
        processes.removeAll()
        for namespace in namespaces {
            NetworkRig.delete(namespace.name)
        }
        namespaces.removeAll()
        removeTree(directory)
    }

    // MARK: Namespaces and wires

    /// A new namespace with its loopback up.
    public func namespace(_ role: String) throws(RigError) -> NetworkNamespace {
        let namespace = NetworkNamespace(name: prefix + role)
        try run(["ip", "netns", "add", namespace.name])
        namespaces.append(namespace)
        try ip(namespace, "link", "set", "dev", "lo", "up")
        return namespace
    }

    /// A veth pair between two namespaces, both ends up and with their addresses, usable at once.
    public func wire(_ a: WireEnd, _ b: WireEnd, mtu: Int = 1500) throws(RigError) {
        try run([
            "ip", "-n", a.namespace.name, "link", "add", "name", a.interface, "mtu", "\(mtu)", "type", "veth",
            "peer", "name", b.interface, "mtu", "\(mtu)", "netns", b.namespace.name,
        ])
        for end in [a, b] {
            for address in end.addresses {
                // Duplicate address detection would keep an IPv6 address unusable for a second or two.
                let noDAD = address.contains(":") ? ["nodad"] : []
                try ip(end.namespace, ["addr", "add", address, "dev", end.interface] + noDAD)
            }
            try ip(end.namespace, "link", "set", "dev", end.interface, "up")
        }
    }

    /// Runs `ip` inside a namespace.
    public func ip(_ namespace: NetworkNamespace, _ arguments: String...) throws(RigError) {
        try ip(namespace, arguments)
    }

    public func ip(_ namespace: NetworkNamespace, _ arguments: [String]) throws(RigError) {
        try run(["ip", "-n", namespace.name] + arguments)
    }

    // MARK: Processes

    /// Starts a process, inside a namespace if one is given. Its output goes to a file, see ``RunningProcess/output``.
    @discardableResult
    public func start(
        _ command: [String], in namespace: NetworkNamespace? = nil, environment: [String: String] = [:],
        withInput: Bool = false
    ) throws(RigError) -> RunningProcess {
        started += 1
        let whole = (namespace.map { ["ip", "netns", "exec", $0.name] } ?? []) + command
        let program = command[0].split(separator: "/").last ?? "process"
        let process = try RunningProcess(
            whole, environment: environment, outputPath: "\(directory)/\(started)-\(program).log",
            withInput: withInput)
        processes.append(process)
        return process
    }

    /// Runs a command to its end and returns its output; an exit code other than 0 is an error.
    @discardableResult
    public func run(
        _ command: [String], in namespace: NetworkNamespace? = nil, environment: [String: String] = [:],
        within limit: Duration = .seconds(30)
    ) throws(RigError) -> String {
        let process = try start(command, in: namespace, environment: environment)
        defer { forget(process) }
        let status: RunningProcess.ExitStatus
        do {
            status = try process.waitForExit(within: limit)
        } catch {
            process.stop(within: .seconds(1))
            throw error
        }
        let output = process.output
        guard status == .exited(0) else {
            throw .commandFailed(command: command.joined(separator: " "), status: status, output: output)
        }
        return output
    }

    /// Whether a command ends with exit code 0.
    public func succeeds(
        _ command: [String], in namespace: NetworkNamespace? = nil, within limit: Duration = .seconds(30)
    ) throws(RigError) -> Bool {
        do {
            try run(command, in: namespace, within: limit)
            return true
        } catch RigError.commandFailed {
            return false
        }
    }

    /// Writes a file into the rig's directory, readable by root alone, and returns its path.
    public func file(_ name: String, _ text: String, mode: mode_t = 0o600) throws(RigError) -> String {
        let path = "\(directory)/\(name)"
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        guard descriptor >= 0 else {
            throw .system(operation: "create", object: path, code: errno)
        }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        guard bytes.withUnsafeBytes({ write(descriptor, $0.baseAddress, $0.count) }) == bytes.count,
            fchmod(descriptor, mode) == 0
        else {
            throw .system(operation: "write", object: path, code: errno)
        }
        return path
    }

    private func forget(_ process: RunningProcess) {
        processes.removeAll { $0 === process }
        unlink(process.outputPath)
    }

    // MARK: Leftovers

    /// Deletes the namespaces and directories of rigs whose process is gone.
    static func removeLeftovers() {
        for name in directoryEntries("/run/netns") where RigName.isAbandoned(name) {
            delete(name)
        }
        for name in directoryEntries("/tmp") where RigName.isAbandoned(name) {
            removeTree("/tmp/\(name)")
        }
    }

    /// Ends what runs in a namespace, and deletes it.
    private static func delete(_ name: String) {
        for pid in NetworkNamespace(name: name).processes {
            _ = kill(pid, SIGKILL)
        }
        _ = try? runQuietly(["ip", "netns", "delete", name])
    }
}

/// One end of a wire: an interface to make in a namespace, and its addresses in CIDR notation.
public struct WireEnd {
    public var namespace: NetworkNamespace
    public var interface: String
    public var addresses: [String]

    public init(_ namespace: NetworkNamespace, _ interface: String, _ addresses: String...) {
        self.namespace = namespace
        self.interface = interface
        self.addresses = addresses
    }
}

/// A network namespace known to `ip netns`.
public struct NetworkNamespace: Sendable, Equatable {
    public let name: String

    public init(name: String) {
        self.name = name
    }

    /// The processes in it.
    public var processes: [pid_t] {
        var identity = stat()
        guard stat("/run/netns/\(name)", &identity) == 0 else { return [] }
        return directoryEntries("/proc").compactMap { pid_t($0) }.filter { pid in
            var candidate = stat()
            return stat("/proc/\(pid)/ns/net", &candidate) == 0 && candidate.st_ino == identity.st_ino
                && candidate.st_dev == identity.st_dev
        }
    }
}
