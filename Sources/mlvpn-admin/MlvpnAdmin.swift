import AdminAPI
import ArgumentParser
import Glibc
import TunnelModel

@main
struct MlvpnAdmin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mlvpn-admin",
        abstract: "Administers the tunnels of mlvpnd.",
        usage: "mlvpn-admin [--socket <path>] [--json] <command>",
        discussion: """
            Exit codes: 0 done; 1 refused or failed; 2 usage; 3 no such tunnel or link; 4 the daemon cannot be reached; \
            5 conflict with a concurrent change.
            """,
        version: Version.text,
        groupedSubcommands: [
            CommandGroup(
                name: "Tunnels:",
                subcommands: [
                    AddTunnel.self, SetTunnel.self, RemoveTunnel.self, AddLink.self, SetLink.self, RemoveLink.self,
                    SetFilters.self, Enable.self, Disable.self, Show.self, Import.self, Export.self,
                ]),
            CommandGroup(
                name: "What runs:", subcommands: [List.self, Status.self, Events.self, History.self, Reload.self]),
            CommandGroup(
                name: "The database:", subcommands: [Backup.self, Restore.self, Check.self, SQL.self, Audit.self]),
            CommandGroup(name: "Diagnosis:", subcommands: [Capture.self, Debug.self]),
            CommandGroup(name: "The rest:", subcommands: [NewToken.self, Completions.self]),
        ])

    static func main() async {
        signal(SIGPIPE, SIG_IGN)
        let given = CommandLine.arguments.dropFirst().map(notAnOption)
        let arguments = movingCommonOptions(given)
        let isJSON = given.prefix { $0 != "--" }.contains("--json")
        do {
            try requireCommand(arguments)
            var command = try parseAsRoot(arguments)
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
            Glibc.exit(Output.isComplete ? 0 : 1)
        } catch {
            Glibc.exit(report(error, isJSON: isJSON))
        }
    }

    /// An empty argument is a variable that was not set: it is no name, and does not mean all of them.
    static func requireCommand(_ arguments: [String]) throws {
        if arguments.contains("") { throw Problem(.usage, "an argument is empty; leave it out, or give a value") }
        if commonOptions(arguments).rest.isEmpty {
            throw Problem(.usage, "there is no command; 'mlvpn-admin --help' shows them all")
        }
    }

    /// An SQL file begins with a comment, which the parser would take for an option.
    static func notAnOption(_ argument: String) -> String {
        argument.hasPrefix("-- ") || argument.hasPrefix("--\n") ? " " + argument : argument
    }

    /// What every command takes may stand before it as well; the parser wants it behind.
    static func movingCommonOptions(_ arguments: [String]) -> [String] {
        let (moved, rest) = commonOptions(arguments)
        guard let first = rest.first else { return moved }
        // A word that is no command is to be named itself, not the options behind it.
        return commandNames.contains(first) ? [first] + moved + rest.dropFirst() : Array(rest)
    }

    /// Those that stand first, and what follows.
    private static func commonOptions(_ arguments: [String]) -> (options: [String], rest: ArraySlice<String>) {
        var moved: [String] = []
        var rest = arguments[...]
        while let first = rest.first {
            if first == "--json" || first.hasPrefix("--socket=") {
                moved.append(first)
                rest = rest.dropFirst()
            } else if first == "--socket", rest.count > 1 {
                moved += rest.prefix(2)
                rest = rest.dropFirst(2)
            } else {
                break
            }
        }
        return (moved, rest)
    }

    private static var commandNames: [String] {
        configuration.groupedSubcommands.flatMap(\.subcommands).map { $0._commandName }
    }

    /// Says what went wrong, and with which code to exit.
    static func report(_ error: any Error, isJSON: Bool) -> Int32 {
        if let code = error as? ExitCode { return code.rawValue }
        if exitCode(for: error) == .success {
            // Help, or the version.
            Output.line(fullMessage(for: error))
            return Output.isComplete ? 0 : 1
        }
        let problem: Problem
        var text: String
        switch error {
        case let error as Problem:
            problem = error
            text = "mlvpn-admin: \(error)"
        case let error as DefinitionError:
            problem = Problem(.refused, error.description)
            text = "mlvpn-admin: \(error)"
        case let error where exitCode(for: error) == .validationFailure:
            problem = Problem(.usage, message(for: error))
            text = fullMessage(for: error)
        default:
            problem = Problem(.failed, "\(error)")
            text = "mlvpn-admin: \(error)"
        }
        if isJSON { text = (try? String(decoding: JSON.encode(problem), as: UTF8.self)) ?? text }
        Output.standardError(text)
        return problem.kind?.exitCode ?? 1
    }
}

/// What every command takes.
struct CommonOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The daemon's control socket.", valueName: "path"))
    var socket = "/run/mlvpn/control.sock"

    @Flag(help: "Print one JSON document, errors included.")
    var json = false

    var client: APIClient { APIClient(path: socket) }
}
