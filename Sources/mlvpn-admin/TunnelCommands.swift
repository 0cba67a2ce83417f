import AdminAPI
import ArgumentParser
import TunnelModel

/// A name as it was given, checked by the daemon.
typealias Name = String

struct AddTunnel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Define a new tunnel, and run it.")

    @Argument var name: Name
    @OptionGroup var flags: TunnelFlags
    @OptionGroup var common: CommonOptions

    func run() async throws {
        var (members, generated) = try flags.fields()
        if members["password"] == nil && members["password_base64"] == nil {
            throw ValidationError(
                "a tunnel needs a password: give --password-file, --password-stdin or --generate-password")
        }
        members["name"] = .string(name)
        let shown: JSONValue = try await common.client.send(.POST, Target("tunnels"), body: .object(members))
        try report(shown, generated: generated, done: "tunnel \(name) added", common)
    }
}

struct SetTunnel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Change a tunnel.",
        discussion: "Only what is named changes. --no-FLAG unsets; a repeated flag replaces the whole list.")

    @Argument var name: Name
    @Option(help: ArgumentHelp("Another name.", valueName: "new")) var rename: String?
    @OptionGroup var flags: TunnelFlags
    @OptionGroup var version: VersionOption
    @OptionGroup var common: CommonOptions

    func run() async throws {
        var (members, generated) = try flags.fields()
        if let rename { members["name"] = .string(rename) }
        if members.isEmpty { throw ValidationError("nothing is named that should change") }
        let shown: JSONValue = try await common.client.send(
            .PATCH, Target("tunnels", name), body: .object(members), version: version.ifVersion)
        try report(shown, generated: generated, done: "tunnel \(name) changed", common)
    }
}

struct RemoveTunnel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "End a tunnel and forget its definition. Its history stays.")

    @Argument var name: Name
    @OptionGroup var version: VersionOption
    @OptionGroup var common: CommonOptions

    func run() async throws {
        try await common.client.send(.DELETE, Target("tunnels", name), version: version.ifVersion)
        try reportDone("tunnel \(name) removed", ["removed": .string(name)], common)
    }
}

struct AddLink: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Add a link to a tunnel.", discussion: specHelp)

    @Argument var tunnel: Name
    @Argument(help: "NAME,bind=HOST:PORT,…") var spec: String
    @OptionGroup var version: VersionOption
    @OptionGroup var common: CommonOptions

    func run() async throws {
        let shown: JSONValue = try await common.client.send(
            .POST, Target("tunnels", tunnel, "links"), body: .string(spec), version: version.ifVersion)
        try report(shown, generated: nil, done: "link added to tunnel \(tunnel)", common)
    }
}

struct SetLink: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Change a link of a tunnel.",
        discussion: "Only what is named changes; limit=none, timeout=default and the like unset.\n\n\(specHelp)")

    @Argument var tunnel: Name
    @Argument(help: "NAME,bind=HOST:PORT,…") var spec: String
    @Option(help: ArgumentHelp("Another name.", valueName: "new")) var rename: String?
    @OptionGroup var version: VersionOption
    @OptionGroup var common: CommonOptions

    func run() async throws {
        // Read here only to know which link it is; what it says is the daemon's to judge.
        let link = try LinkSpec(spec).name.text
        var body = JSONValue.string(spec)
        if let rename { body = .object(LinkFields.members(spec).merging(["name": .string(rename)]) { _, new in new }) }
        let shown: JSONValue = try await common.client.send(
            .PATCH, Target("tunnels", tunnel, "links", link), body: body, version: version.ifVersion)
        try report(shown, generated: nil, done: "link \(link) of tunnel \(tunnel) changed", common)
    }
}

struct RemoveLink: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Remove a link from a tunnel. Its history stays.")

    @Argument var tunnel: Name
    @Argument var name: Name
    @OptionGroup var version: VersionOption
    @OptionGroup var common: CommonOptions

    func run() async throws {
        let shown: JSONValue = try await common.client.send(
            .DELETE, Target("tunnels", tunnel, "links", name), version: version.ifVersion)
        try report(shown, generated: nil, done: "link \(name) removed from tunnel \(tunnel)", common)
    }
}

struct SetFilters: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Replace the filters of a tunnel; without --filter, take them all away.")

    @Argument var tunnel: Name
    @Option(
        help: ArgumentHelp(
            "LINK=EXPR or LINK+LINK=EXPR (pcap-filter(7)), in order; may be repeated.", valueName: "link=expr"))
    var filter: [String] = []
    @OptionGroup var version: VersionOption
    @OptionGroup var common: CommonOptions

    func run() async throws {
        let shown: JSONValue = try await common.client.send(
            .PUT, Target("tunnels", tunnel, "filters"), body: .array(filter.map(JSONValue.string)),
            version: version.ifVersion)
        try report(shown, generated: nil, done: "filters of tunnel \(tunnel) set", common)
    }
}

struct Enable: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Run a disabled tunnel again.")

    @Argument var name: Name
    @OptionGroup var version: VersionOption
    @OptionGroup var common: CommonOptions

    func run() async throws {
        let shown: JSONValue = try await common.client.send(
            .POST, Target("tunnels", name, "enable"), version: version.ifVersion)
        try report(shown, generated: nil, done: "tunnel \(name) enabled", common)
    }
}

struct Disable: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "End a tunnel, and keep its definition.")

    @Argument var name: Name
    @OptionGroup var version: VersionOption
    @OptionGroup var common: CommonOptions

    func run() async throws {
        let shown: JSONValue = try await common.client.send(
            .POST, Target("tunnels", name, "disable"), version: version.ifVersion)
        try report(shown, generated: nil, done: "tunnel \(name) disabled", common)
    }
}

/// For changes that must not undo someone else's.
struct VersionOption: ParsableArguments {
    @Option(help: ArgumentHelp("Change nothing unless the tunnel is at this version (see show).", valueName: "n"))
    var ifVersion: Int64?
}

private let specHelp = """
    SPEC is NAME,bind=HOST:PORT,remote=HOST:PORT,bandwidth=RATE|auto,limit=RATE,timeout=S,loss-tolerance=P,\
    latency-tolerance=MS,fallback; RATE is bytes per second, or has a unit: 20mbit, 2MB.
    """

/// Tells what a change has made.
private func report(_ shown: JSONValue, generated: Password?, done: String, _ common: CommonOptions) throws {
    var shown = shown
    if case .object(var members) = shown, let generated {
        members.merge(JSONValue.password(generated)) { _, new in new }
        shown = .object(members)
    }
    if common.json {
        try Output.json(shown)
        return
    }
    // Alone on standard output, so that a script can take it.
    if let generated { Output.line(String(decoding: generated.bytes, as: UTF8.self)) }
    Output.standardError(done)
}

func reportDone(_ done: String, _ members: [String: JSONValue], _ common: CommonOptions) throws {
    if common.json { try Output.json(JSONValue.object(members)) } else { Output.standardError(done) }
}

/// A SPEC as an object, for when a name is to be added.
enum LinkFields {
    static func members(_ spec: String) -> [String: JSONValue] {
        var members: [String: JSONValue] = [:]
        for part in spec.split(separator: ",").dropFirst() {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            members[String(pair[0])] = .string(pair.count == 2 ? String(pair[1]) : "yes")
        }
        return members
    }
}
