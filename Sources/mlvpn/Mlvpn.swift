import FilterCompiler
import Glibc
import Helper
import LinuxSystem
import Logging
import ProcessChannel
import ProgramOptions
import Supervisor
import TunnelModel

@main
struct Mlvpn {
    private static let syntax = ProgramSyntax(
        name: "mlvpn", abstract: "Runs one tunnel from one mlvpn.conf, as MLVPN does.",
        discussion: """
            The configuration file must be owned by root and closed to everyone else (mode 0600). SIGHUP to any of its \
            processes reads it again; SIGTERM, SIGINT and SIGQUIT tell the peer and end it.
            """,
        options: [
            ProgramOption("config", or: ["-c"], value: "path", help: "The configuration file (default: mlvpn.conf)."),
            ProgramOption(
                "user", or: ["-u", "-user"], value: "user", help: "Who handles the packets (default: mlvpn)."),
            ProgramOption(
                "name", or: ["-n"], value: "name", help: "Name in process titles and in the log (default: the file's)."),
            ProgramOption("natural-title", help: "Do not change process titles."),
            ProgramOption("debug", help: "Log to standard error instead of syslog."),
            ProgramOption(
                "debug-token", or: ["-D"], value: "token",
                help:
                    "Log what concerns one of: \(DebugTokens.names.joined(separator: ", ")); may be repeated. Implies --debug."
            ),
            ProgramOption("verbose", or: ["-v"], help: "Log more; may be repeated."),
            ProgramOption("quiet", or: ["-q"], help: "Log less; may be repeated."),
            ProgramOption("version", or: ["-V"], help: "Show the version."),
            ProgramOption(
                "yes-run-as-root",
                help: """
                    Accepted for MLVPN's sake: nothing that reads packets runs as root here. Without the account of --user, \
                    as nobody.
                    """),
        ])

    private let config: String
    private let user: String
    private let name: String?
    private let naturalTitle: Bool
    private let debug: Bool
    private let token: [String]
    private let verbosity: Int
    private let yesRunAsRoot: Bool

    private init(_ options: ParsedOptions) {
        config = options.value("config") ?? "mlvpn.conf"
        user = options.value("user") ?? "mlvpn"
        name = options.value("name")
        naturalTitle = options.has("natural-title")
        debug = options.has("debug")
        token = options.values("debug-token")
        verbosity = options.count("verbose") - options.count("quiet")
        yesRunAsRoot = options.has("yes-run-as-root")
    }

    static func main() {
        let code = runProgram(syntax) { options in
            if options.has("version") {
                print("mlvpn version \(productVersion).")
                return 0
            }
            return try Mlvpn(options).serve()
        }
        Glibc.exit(code)
    }

    func serve() throws -> Int32 {
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
        // A tunnel is one worker's.
        settings.workers = 1
        for word in token {
            guard let one = DebugTokens(name: word) else {
                let known = DebugTokens.names.joined(separator: ", ")
                throw StartFailure("-D \(quoted(word)) is no token; the tokens are \(known)")
            }
            settings.debugTokens.insert(one)
        }
        let logsToStandardError = debug || !token.isEmpty
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
            let compiled = CompiledTunnel(definition: definition, filterPrograms: programs)
            if let problem = compiled.sizeProblem { throw StartFailure("\(path): \(problem)") }
            return compiled
        } catch let error as ConfError {
            throw StartFailure(error.problems.map { "\(path): \($0)" }.joined(separator: "\n"))
        }
    }
}
