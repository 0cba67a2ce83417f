import AdminAPI
import ArgumentParser
import TunnelModel

struct Import: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Define tunnels from mlvpn.conf files, one each.",
        discussion: """
            A tunnel is named after its file, without .conf. Whatever stock MLVPN would ignore is an error here. Files are \
            imported in order, and the first that is refused ends it.
            """)

    @Argument(help: "mlvpn.conf files.") var file: [String]
    @Option(help: "The tunnel's name; for one file.") var name: Name?
    @Flag(help: "Check everything, and change nothing.") var dryRun = false
    @OptionGroup var common: CommonOptions

    func validate() throws {
        if name != nil && file.count > 1 { throw ValidationError("--name is for one file") }
    }

    func run() async throws {
        // Every file is read before anything is changed.
        let bodies = try file.map { try Self.body(of: $0, name: name) }
        var results: [JSONValue] = []
        for (path, body) in zip(file, bodies) {
            let shown: JSONValue
            do {
                shown = try await common.client.send(
                    .POST, Target("tunnels", query: ["dry_run": dryRun ? "1" : nil]), body: body)
            } catch var problem as Problem {
                problem.detail = "\(path): \(problem.detail)"
                throw problem
            }
            let tunnel = shown["name"]?.text ?? ""
            results.append(shown)
            if !common.json {
                Output.standardError("\(path): tunnel \(tunnel) \(dryRun ? "can be imported" : "imported")")
            }
        }
        if common.json { try Output.json(results) }
    }

    private static func body(of path: String, name: String?) throws -> JSONValue {
        let bytes = try readFile(path, limit: 1 << 20)
        let name = try TunnelName(name ?? baseName(path))
        do throws(ConfError) {
            let (definition, warnings) = try MlvpnConf.parse(bytes, tunnelName: name, strictness: .strict)
            for warning in warnings { Output.standardError("\(path): \(warning)") }
            guard case .object(var members) = JSONValue(definition, version: nil, secrets: true) else { return .null }
            // Without the key, every file would be for the same device.
            if bytes.firstRange(of: Array("interface_name".utf8)) == nil { members["interface"] = .null }
            return .object(members)
        } catch {
            throw Problem(.refused, error.problems.map { "\(path): \($0)" }.joined(separator: "\n"))
        }
    }

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
