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
                    Accepted for MLVPN's sake: nothing that reads packets runs as root here. If --user is root, or no \
                    account, as nobody.
                    """),
        ],
        // MLVPN does, and heeds none.
        takesOperands: true)

    private let config: String
    private let user: String
    private let name: String?
    private let naturalTitle: Bool
    private let debug: Bool
    private let token: [String]
    private let verbosity: Int
    private let yesRunAsRoot: Bool
    private let operands: [String]

    private init(_ options: ParsedOptions) {
        config = options.value("config") ?? "mlvpn.conf"
        user = options.value("user") ?? "mlvpn"
        name = options.value("name")
        naturalTitle = options.has("natural-title")
        debug = options.has("debug")
        token = options.values("debug-token")
        verbosity = options.count("verbose") - options.count("quiet")
        yesRunAsRoot = options.has("yes-run-as-root")
        operands = options.operands
    }

    static func main() {
        if let code = Resolver.serveIfAsked() { Glibc.exit(code) }
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
        let tunnelName = try tunnelName()
        // Where MLVPN goes on, so do we.
        var warnings = operands.map { "argument \(quoted($0)) has no meaning here and is passed over" }
        if let name, name != tunnelName.text { warnings.append("-n \(quoted(name)) is \(tunnelName) here") }
        var settings = makeSettings(tunnelName, &warnings)
        settings.logDescriptor = Log.bootstrap(settings.log)
        let log = Logger(label: "supervisor")
        for warning in warnings { log.warning("\(warning)") }
        do {
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

    private func makeSettings(_ tunnelName: TunnelName, _ warnings: inout [String]) -> SupervisorSettings {
        var settings = SupervisorSettings()
        // A tunnel is one worker's.
        settings.workers = 1
        // Whoever has chosen a niceness is left it.
        settings.priority = ProcessorPriority.niceness == 0 ? .high : .normal
        for word in token {
            if let one = DebugTokens(name: word) {
                settings.debugTokens.insert(one)
            } else {
                let known = DebugTokens.names.joined(separator: ", ")
                warnings.append("-D \(quoted(word)) is no token and has no effect; the tokens are \(known)")
            }
        }
        let logsToStandardError = debug || !token.isEmpty
        settings.log = LogSettings(
            format: logsToStandardError ? .text : .syslog,
            level: LogSettings.level(verbosity: token.isEmpty ? verbosity : max(2, verbosity)),
            ident: name == nil ? "mlvpn" : tunnelName.text)
        settings.engineUser = user
        if yesRunAsRoot, (Account(user: user)?.userID ?? 0) == 0 {
            settings.engineUser = "nobody"
            warnings.append("nothing that reads packets runs as root: nobody takes the place of \(quoted(user))")
        }
        settings.helperTitle = naturalTitle ? .natural : .name
        settings.engineTitle = naturalTitle ? nil : tunnelName.text
        return settings
    }

    /// As given, or after the file: `/etc/mlvpn/home.conf` is `home`. MLVPN takes any name.
    private func tunnelName() throws -> TunnelName {
        var base = config.split(separator: "/").last.map(String.init) ?? ""
        if base.hasSuffix(".conf") { base.removeLast(5) }
        let text = name ?? base
        return try (try? TunnelName(text)) ?? (try? TunnelName(tamedName(text))) ?? TunnelName("mlvpn")
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
