import Glibc
import Helper
import LinuxSystem
import Logging
import ProgramOptions
import Supervisor
import TunnelModel

@main
struct Mlvpnd {
    private static let syntax = ProgramSyntax(
        name: "mlvpnd", abstract: "Hosts MLVPN tunnels: one server for many link-bonding peers.",
        discussion: """
            Tunnels are added and changed with mlvpn-admin. Every long flag is also a key of the configuration file; a \
            flag wins. SIGHUP reads the definitions again; SIGTERM, SIGINT and SIGQUIT tell every peer and end it.
            """,
        options: [
            ProgramOption(
                "config", value: "file",
                help: "Configuration file (default: \(DaemonConfig.defaultPath), if it is there)."),
            ProgramOption("state-dir", value: "dir", help: "Where the database is (default: /var/lib/mlvpn)."),
            ProgramOption("run-dir", value: "dir", help: "Where control.sock is (default: /run/mlvpn)."),
            ProgramOption(
                "script-dir", value: "dir",
                help: "The only directory whose status commands are run (default: /etc/mlvpn)."),
            ProgramOption("user", value: "user", help: "Whom the data plane runs as (default: mlvpn)."),
            ProgramOption(
                "control-user", value: "user", help: "Whom the API and the database run as (default: mlvpn-control)."),
            ProgramOption(
                "admin-group", value: "group", help: "Whose members may use mlvpn-admin (default: mlvpn-admin)."),
            ProgramOption("foreground", help: "Stay in the foreground and log to standard error."),
            ProgramOption(
                "workers", value: "n", help: "Worker threads of the data plane (default: auto, one for each processor)."
            ),
            ProgramOption(
                "priority", value: "priority", help: "Of the data plane: auto (default), realtime, high or normal."),
            ProgramOption("log-format", value: "format", help: "text or json, on standard error."),
            ProgramOption("verbose", or: ["-v"], help: "Log more; may be repeated."),
            ProgramOption("version", help: "Show the version."),
        ])
    /// Options whose value is a key of the configuration file, and those of them that are paths.
    private static let keys = [
        "state-dir", "run-dir", "script-dir", "user", "control-user", "admin-group", "workers", "priority",
        "log-format",
    ]
    private static let paths: Set = ["state-dir", "run-dir", "script-dir"]

    private let options: ParsedOptions

    static func main() {
        if let code = Resolver.serveIfAsked() { Glibc.exit(code) }
        let code = runProgram(syntax) { options in
            if options.has("version") {
                print("mlvpnd \(productVersion)")
                return 0
            }
            return try Mlvpnd(options: options).serve()
        }
        Glibc.exit(code)
    }

    func serve() throws -> Int32 {
        ProcessTitle.makeRoom(4096)
        var config = try readConfig()
        try apply(to: &config)
        let isService = getenv("NOTIFY_SOCKET") != nil
        var background: Background?
        if !config.foreground && !isService { background = try Background.begin() }

        var settings = SupervisorSettings(config)
        settings.log = LogSettings(
            format: background != nil ? .syslog : config.logFormat == .json ? .json : .text,
            level: LogSettings.level(verbosity: config.verbose), ident: "mlvpnd")
        settings.logDescriptor = Log.bootstrap(settings.log)
        // Without a log daemon, standard error is all there is.
        let logsToStandardError = settings.logDescriptor == nil
        settings.childrenShareStandardError = logsToStandardError
        if let path = configPath { settings.controlArguments = ["--config", path] }
        let log = Logger(label: "supervisor")
        do {
            let supervisor = try Supervisor(settings: settings, source: .control, log: log)
            let release = Release(background.take())
            supervisor.whenReady = { release.ready(keepsStandardError: logsToStandardError) }
            return try supervisor.run()
        } catch {
            if !logsToStandardError {
                for line in "\(error)".split(separator: "\n") { log.critical("\(line)") }
            }
            throw error
        }
    }

    /// Nil when there is none: then every setting has its default.
    private var configPath: String? {
        if let config = options.value("config") { return ConfigurationFile.absolute(config) }
        return ConfigurationFile.exists(DaemonConfig.defaultPath) ? DaemonConfig.defaultPath : nil
    }

    private func readConfig() throws -> DaemonConfig {
        guard let path = configPath else { return DaemonConfig() }
        do {
            return try DaemonConfig.parse(try ConfigurationFile.read(path, trust: .rootOwned))
        } catch let error as ConfError {
            throw StartFailure(error.problems.map { "\(path): \($0)" }.joined(separator: "\n"))
        }
    }

    private func apply(to config: inout DaemonConfig) throws {
        for key in Self.keys {
            guard let value = options.value(key) else { continue }
            try config.set(key, to: Self.paths.contains(key) ? ConfigurationFile.absolute(value) : value)
        }
        if options.has("foreground") { config.foreground = true }
        config.verbose += options.count("verbose")
        let problems = config.problems
        guard problems.isEmpty else { throw StartFailure(problems.map(\.description).joined(separator: "\n")) }
    }
}

/// Holds the way to the background until the moment when it is taken.
private final class Release {
    private var background: Background?

    init(_ background: consuming Background?) { self.background = background }

    func ready(keepsStandardError: Bool) {
        if let background = background.take() { background.ready(keepsStandardError: keepsStandardError) }
    }
}

extension SupervisorSettings {
    fileprivate init(_ config: DaemonConfig) {
        self.init()
        stateDirectory = config.stateDir
        runDirectory = config.runDir
        scriptDirectory = config.scriptDir
        engineUser = config.user
        controlUser = config.controlUser
        adminGroup = config.adminGroup
        workers = UInt32(config.workers ?? 0)
        // Auto is none of them.
        priority = ProcessorPriority(rawValue: config.priority.rawValue)
    }
}
