import ArgumentParser
import CommandRunner
import FilterCompiler
import Glibc
import Helper
import LinuxSystem
import Logging
import ProcessChannel
import Supervisor
import TunnelModel

@main
struct Mlvpn: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mlvpn",
        abstract: "Runs one tunnel from one mlvpn.conf, as MLVPN does.",
        discussion: """
            The configuration file must be owned by root and closed to everyone else (mode 0600). SIGHUP to any of its \
            processes reads it again; SIGTERM, SIGINT and SIGQUIT tell the peer and end it.
            """)

    @Option(name: .shortAndLong, help: ArgumentHelp("Path of the configuration file.", valueName: "path"))
    var config = "mlvpn.conf"
    @Option(
        name: [.customShort("u"), .customLong("user"), .customLong("user", withSingleDash: true)],
        help: ArgumentHelp("Drop privileges to this user.", valueName: "username"))
    var user = "mlvpn"
    @Option(name: .shortAndLong, help: "Show this name in the process titles and the log.")
    var name: String?
    @Flag(help: "Do not change process titles.")
    var naturalTitle = false
    @Flag(help: "Log to standard error instead of syslog.")
    var debug = false
    @Option(
        name: [.customShort("D", allowingJoined: true)],
        help: ArgumentHelp(
            "Log what concerns one of: \(DebugTokens.names.joined(separator: ", ")). Implies --debug.",
            valueName: "token"))
    var token: [String] = []
    @Flag(name: .shortAndLong, help: "Log more; may be repeated.")
    var verbose: Int
    @Flag(name: .shortAndLong, help: "Log less; may be repeated.")
    var quiet: Int
    @Flag(name: [.customShort("V"), .long], help: "Show the version.")
    var version = false
    @Flag(help: "Accepted for MLVPN's sake: nothing that reads packets runs as root here; without --user, as nobody.")
    var yesRunAsRoot = false

    static func main() { Glibc.exit(runProgram(Mlvpn.self) { try $0.serve() }) }

    func serve() throws -> Int32 {
        if version {
            print("mlvpn version \(productVersion).")
            return 0
        }
        if !naturalTitle { ProcessTitle.makeRoom(4096) }
        var settings = try makeSettings()
        settings.logDescriptor = Log.bootstrap(settings.log)
        let log = Logger(label: "supervisor")
        do {
            let tunnelName = try tunnelName()
            let path = ConfigurationFile.absolute(config)
            if !naturalTitle { ProcessTitle.set("mlvpn: \(tunnelName) [supervisor]") }
            let supervisor = try Supervisor(
                settings: settings, source: .file { try load(path, as: tunnelName, log) }, log: log)
            return try supervisor.run()
        } catch {
            // Where a service looks for it, and where whoever has typed the command does.
            if settings.logDescriptor != nil {
                for line in "\(error)".split(separator: "\n") { log.critical("\(line)") }
            }
            throw error
        }
    }

    private func makeSettings() throws -> SupervisorSettings {
        var settings = SupervisorSettings()
        for word in token {
            guard let one = DebugTokens(name: word) else {
                let known = DebugTokens.names.joined(separator: ", ")
                throw StartFailure("-D \(quoted(word)) is no token; the tokens are \(known)")
            }
            settings.debugTokens.insert(one)
        }
        let logsToStandardError = debug || !token.isEmpty
        let verbosity = verbose - quiet
        settings.log = LogSettings(
            format: logsToStandardError ? .text : .syslog,
            level: LogSettings.level(verbosity: token.isEmpty ? verbosity : max(2, verbosity)), ident: name ?? "mlvpn")
        settings.engineUser = user
        if yesRunAsRoot && Account(user: user) == nil { settings.engineUser = "nobody" }
        settings.helperTitle = naturalTitle ? .natural : .name
        settings.engineTitle = naturalTitle ? nil : try tunnelName().text
        return settings
    }

    /// As given, or after the file: `/etc/mlvpn/home.conf` is `home`.
    private func tunnelName() throws -> TunnelName {
        if let name { return try TunnelName(name) }
        var base = config.split(separator: "/").last.map(String.init) ?? ""
        if base.hasSuffix(".conf") { base.removeLast(5) }
        return try (try? TunnelName(base)) ?? TunnelName("mlvpn")
    }

    private func load(_ path: String, as name: TunnelName, _ log: Logger) throws -> CompiledTunnel {
        let bytes = try ConfigurationFile.read(path, trust: .secret)
        do {
            let (definition, warnings) = try MlvpnConf.parse(
                bytes, tunnelName: name, strictness: .lenient,
                checkFilter: { expression, device throws(DefinitionError) in
                    _ = try FilterCompiler.compile(expression: expression, device: device)
                })
            for warning in warnings { log.warning("\(path): \(warning)") }
            let programs = try definition.filters.map {
                try FilterCompiler.compile(expression: $0.expression, device: definition.device)
            }
            return CompiledTunnel(definition: definition, filterPrograms: programs)
        } catch let error as ConfError {
            throw StartFailure(error.problems.map { "\(path): \($0)" }.joined(separator: "\n"))
        }
    }
}
