import ArgumentParser
import CommandRunner
import Glibc
import LinuxSystem
import Logging
import Supervisor
import TunnelModel

@main
struct Mlvpnd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mlvpnd",
        abstract: "Hosts MLVPN tunnels: one server for many link-bonding peers.",
        discussion: """
            Tunnels are added and changed with mlvpn-admin. Every long flag is also a key of the configuration file; a \
            flag wins. SIGHUP reads the definitions again; SIGTERM, SIGINT and SIGQUIT tell every peer and end it.
            """,
        version: "mlvpnd \(productVersion)")

    @Option(help: ArgumentHelp("Configuration file; the default may be missing.", valueName: "file"))
    var config: String?
    @Option(help: ArgumentHelp("Where the database is (default: /var/lib/mlvpn).", valueName: "dir"))
    var stateDir: String?
    @Option(help: ArgumentHelp("Where control.sock is (default: /run/mlvpn).", valueName: "dir"))
    var runDir: String?
    @Option(
        help: ArgumentHelp("The only directory whose status commands are run (default: /etc/mlvpn).", valueName: "dir"))
    var scriptDir: String?
    @Option(help: ArgumentHelp("Whom the data plane runs as (default: mlvpn).", valueName: "user"))
    var user: String?
    @Option(help: ArgumentHelp("Whom the API and the database run as (default: mlvpn-control).", valueName: "user"))
    var controlUser: String?
    @Option(help: ArgumentHelp("Whose members may use mlvpn-admin (default: mlvpn-admin).", valueName: "group"))
    var adminGroup: String?
    @Flag(help: "Stay in the foreground and log to standard error.")
    var foreground = false
    @Option(help: ArgumentHelp("Worker threads of the data plane (default: one for each processor).", valueName: "n"))
    var workers: String?
    @Option(help: ArgumentHelp("text or json, on standard error.", valueName: "format"))
    var logFormat: String?
    @Flag(name: .shortAndLong, help: "Log more; may be repeated.")
    var verbose: Int

    static func main() { Glibc.exit(runProgram(Mlvpnd.self) { try $0.serve() }) }

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
        if let config { return ConfigurationFile.absolute(config) }
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
        let flags: [(String, String?)] = [
            ("state-dir", stateDir.map(ConfigurationFile.absolute)),
            ("run-dir", runDir.map(ConfigurationFile.absolute)),
            ("script-dir", scriptDir.map(ConfigurationFile.absolute)), ("user", user), ("control-user", controlUser),
            ("admin-group", adminGroup), ("workers", workers), ("log-format", logFormat),
        ]
        for (key, value) in flags {
            if let value { try config.set(key, to: value) }
        }
        if foreground { config.foreground = true }
        config.verbose += verbose
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
    }
}
