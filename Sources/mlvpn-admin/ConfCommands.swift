import AdminAPI
import ArgumentParser
import TunnelModel

struct Import: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Define tunnels from mlvpn.conf files, one each.",
        discussion: """
            A tunnel is named after its file, without .conf. Whatever stock MLVPN would ignore is an error here. Nothing is \
            changed unless every file can be imported; a file called mlvpnd.conf, the daemon's own, is left out.
            """)

    @Argument(help: "mlvpn.conf files.", completion: .file(extensions: ["conf"])) var file: [String]
    @Option(help: "The tunnel's name; for one file.") var name: Name?
    @Flag(help: "Check everything, and change nothing.") var dryRun = false
    @OptionGroup var common: CommonOptions

    func validate() throws {
        if name != nil && file.count > 1 { throw ValidationError("--name is for one file") }
    }

    func run() async throws {
        let files = file.filter { path in
            guard file.count > 1, ImportPlan.isDaemonsOwn(path) else { return true }
            Output.standardError("\(path): is the daemon's own; left out")
            return false
        }
        let plan = try ImportPlan(files.map { ($0, try readFile($0, limit: 1 << 20)) }, name: name)
        for warning in plan.warnings { Output.standardError(warning) }
        // What the daemon finds is found before anything is changed, too.
        var results: [JSONValue] = []
        var problems: [String] = []
        for tunnel in plan.tunnels {
            // A trial may be made while what is to be replaced runs.
            let query: KeyValuePairs<String, String?> = ["dry_run": "1", "host": dryRun ? nil : "1"]
            do { results.append(try await send(tunnel, query)) } catch let problem as Problem {
                guard problem.kind == .refused else { throw problem }
                problems.append(problem.detail)
            }
        }
        if !problems.isEmpty { throw Problem(.refused, problems.joined(separator: "\n")) }
        if !dryRun { results = try await define(plan) }
        if common.json {
            try Output.json(results)
        } else if dryRun {
            for tunnel in plan.tunnels { Output.standardError("\(tunnel.path): tunnel \(tunnel.name) can be imported") }
        }
    }

    /// All of them, or none.
    private func define(_ plan: ImportPlan) async throws -> [JSONValue] {
        var results: [JSONValue] = []
        for tunnel in plan.tunnels {
            do { results.append(try await send(tunnel)) } catch {
                let problem = error as? Problem ?? Problem(.failed, "tunnel \(tunnel.name): \(error)")
                throw await takingBack(results, after: problem, of: tunnel.name)
            }
        }
        if !common.json {
            for tunnel in plan.tunnels { Output.standardError("\(tunnel.path): tunnel \(tunnel.name) imported") }
        }
        return results
    }

    /// Removes what was imported before `problem`, unless it was changed since, and tells of what was not.
    private func takingBack(_ imported: [JSONValue], after problem: Problem, of name: String) async -> Problem {
        var left: [String] = []
        // Of a daemon that does not answer, nothing more is asked.
        var isThere = problem.kind != .unreachable
        for tunnel in imported {
            let name = tunnel["name"]?.text ?? ""
            guard isThere else {
                left.append(name)
                continue
            }
            do {
                try await common.client.send(
                    .DELETE, Target("tunnels", name), version: tunnel["version"]?.text.flatMap { Int64($0) })
            } catch {
                left.append(name)
                isThere = (error as? Problem)?.kind != .unreachable
            }
        }
        var problem = problem
        if !left.isEmpty { problem.detail += "\nimported before that: \(left.joined(separator: ", "))" }
        if problem.kind == .unreachable || problem.kind == .failed {
            problem.detail += "\nwhether tunnel \(name) was imported is not known: 'mlvpn-admin list' will tell"
        } else if left.isEmpty {
            problem.detail += "\nnothing was imported"
        }
        return problem
    }

    private func send(
        _ tunnel: ImportPlan.Tunnel, _ query: KeyValuePairs<String, String?> = [:]
    ) async throws -> JSONValue {
        do {
            return try await common.client.send(.POST, Target("tunnels", query: query), body: tunnel.body)
        } catch var problem as Problem {
            problem.detail = "\(tunnel.path): \(problem.detail)"
            throw problem
        }
    }
}

/// What an import will ask of the daemon, once every file is sound and none is in another's way.
struct ImportPlan {
    struct Tunnel {
        var path: String
        var name: String
        var body: JSONValue
    }

    private(set) var tunnels: [Tunnel] = []
    private(set) var warnings: [String] = []

    /// - Throws: everything that is wrong with any of the files.
    init(_ files: [(path: String, bytes: [UInt8])], name: String? = nil) throws {
        var problems: [String] = []
        var definitions: [(path: String, definition: TunnelDefinition)] = []
        for (path, bytes) in files {
            do {
                let name = try TunnelName(name ?? Self.baseName(path))
                let content = try MlvpnConf.read(bytes, tunnelName: name, strictness: .strict)
                warnings += content.warnings.map { "\(path): \($0)" }
                var definition = content.definition
                guard case .object(var members) = JSONValue(definition, version: nil, secrets: true) else { continue }
                if !content.keys.contains("interface_name") {
                    // Without the key, every file would be for the same device; the daemon chooses one for each.
                    members["interface"] = .null
                    warnings.append(
                        "\(path): interface_name is not set; the device is named after the tunnel, where MLVPN has mlvpn0"
                    )
                    definition.interface = .automatic(
                        for: name, taken: Set(definitions.map(\.definition.interface.text)))
                }
                for other in definitions {
                    problems += definition.conflicts(with: [other.definition]).map { "\(path): \($0) (\(other.path))" }
                }
                definitions.append((path, definition))
                tunnels.append(Tunnel(path: path, name: name.text, body: .object(members)))
            } catch let error as ConfError {
                problems += error.problems.map { "\(path): \($0)" }
                if Self.isDaemonsOwn(path) { problems.append("\(path): is the daemon's own file, and no tunnel's") }
            } catch {
                problems.append("\(path): \(error)")
            }
        }
        if !problems.isEmpty { throw Problem(.refused, problems.joined(separator: "\n")) }
    }

    /// It lies beside the tunnels' files.
    static func isDaemonsOwn(_ path: String) -> Bool { baseName(path) == "mlvpnd" }

    private static func baseName(_ path: String) -> String {
        let last = path.split(separator: "/").last.map(String.init) ?? path
        return last.hasSuffix(".conf") ? String(last.dropLast(5)) : last
    }
}

struct Export: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print a tunnel as an mlvpn.conf, for this end or for the other.",
        discussion: "The file holds the password; MLVPN wants it to be root's, with mode 0600.")

    @Argument var name: Name
    @Option(name: .customLong("for"), help: ArgumentHelp("server or client; its own if not given.", valueName: "end"))
    var role: String?
    @Option(help: ArgumentHelp("Where the client finds the server.", valueName: "host")) var remote: String?
    @OptionGroup var common: CommonOptions

    func validate() throws {
        if let role, TunnelMode(rawValue: role) == nil { throw ValidationError("--for takes server or client") }
    }

    func run() async throws {
        let shown: JSONValue = try await common.client.send(.GET, Target("tunnels", name, query: ["secrets": "1"]))
        let tunnel = try TunnelChange(shown).newTunnel(interfaces: [])
        let conf = try MlvpnConf.write(tunnel, for: role.flatMap(TunnelMode.init) ?? tunnel.mode, remoteHost: remote)
        if common.json {
            try Output.json(["name": name, "conf": conf])
        } else {
            Output.line(conf.hasSuffix("\n") ? String(conf.dropLast()) : conf)
        }
    }
}
