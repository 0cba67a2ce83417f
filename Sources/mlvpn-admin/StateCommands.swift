import AdminAPI
import ArgumentParser
import NIOCore
import TunnelModel

struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "One line for each tunnel.")

    @OptionGroup var common: CommonOptions

    func run() async throws {
        let tunnels: [TunnelSummary] = try await common.client.send(.GET, Target("tunnels"))
        if common.json {
            try Output.json(tunnels)
            return
        }
        var table = TextTable(["NAME", "MODE", "INTERFACE", "STATE", "LINKS"])
        table.rows = tunnels.map { [$0.name, $0.mode, $0.interface, $0.state, "\($0.linksUp)/\($0.links)"] }
        Output.line(table.text)
    }
}

struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "A tunnel's definition.")

    @Argument var name: Name
    @Flag(help: "With the password.") var secrets = false
    @OptionGroup var common: CommonOptions

    func run() async throws {
        let shown: JSONValue = try await common.client.send(
            .GET, Target("tunnels", name, query: ["secrets": secrets ? "1" : nil]))
        if common.json {
            try Output.json(shown)
            return
        }
        for key in TunnelChange.keys + ["version"] where key != "links" && key != "filters" && key != "route" {
            guard let value = shown[key], value != .null else { continue }
            Output.line(Self.pad(key) + printable(value.text ?? ""))
        }
        for route in Self.items(shown["route"]) { Output.line(Self.pad("route") + (route.text ?? "")) }
        for link in Self.items(shown["links"]) { Output.line(Self.pad("link") + Self.spec(link)) }
        for filter in Self.items(shown["filters"]) {
            let text = "\(filter["link"]?.text ?? "")=\(filter["expression"]?.text ?? "")"
            Output.line(Self.pad("filter") + printable(text))
        }
    }

    private static func pad(_ key: String) -> String {
        key + String(repeating: " ", count: max(1, 20 - key.count))
    }

    private static func items(_ value: JSONValue?) -> [JSONValue] {
        if case .array(let items)? = value { items } else { [] }
    }

    /// As add-link takes it.
    private static func spec(_ link: JSONValue) -> String {
        var spec = link["name"]?.text ?? ""
        for key in LinkSpec.keys {
            guard let value = link[String(key.map { $0 == "-" ? "_" : $0 })], let text = value.text else { continue }
            if key == "fallback" {
                if value == .bool(true) { spec += ",fallback" }
            } else {
                spec += ",\(key)=\(text)"
            }
        }
        return spec
    }
}

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "How tunnels and their links are doing.")

    @Argument var name: Name?
    @Flag(help: "Show it again every second, until interrupted.") var watch = false
    @OptionGroup var common: CommonOptions

    func run() async throws {
        while true {
            let tunnels: [TunnelStatus] = try await common.client.send(
                .GET, Target("status", query: ["tunnel": name]))
            if common.json {
                try Output.json(tunnels)
            } else {
                // Home, and clear what is below: no flicker.
                if watch && Output.isTerminal {
                    Output.line("\u{1b}[H\u{1b}[J" + Self.text(tunnels))
                } else {
                    Output.line(Self.text(tunnels))
                }
            }
            guard watch, Output.isComplete else { return }
            try await Task.sleep(for: .seconds(1))
        }
    }

    static func text(_ tunnels: [TunnelStatus]) -> String {
        var table = TextTable(
            ["TUNNEL", "LINK", "STATE", "SINCE", "PEER", "RTT", "LOSS", "RATE", "RX", "TX"],
            rightAligned: [5, 6, 7, 8, 9])
        var remarks: [String] = []
        for tunnel in tunnels {
            table.rows.append([
                tunnel.name, "", tunnel.state, seconds(tunnel.since), tunnel.interface, "", "", "",
                byteText(tunnel.rxBytes), byteText(tunnel.txBytes),
            ])
            if let problem = tunnel.problem { remarks.append("tunnel \(tunnel.name): \(problem)") }
            for link in tunnel.links {
                table.rows.append([
                    "", link.name, link.state, seconds(link.since), link.peer ?? "-",
                    link.rttMS.map { "\(decimal($0, places: 1)) ms" } ?? "-",
                    "\(decimal(link.lossPercent, places: 1)) %",
                    link.rateBPS.map(rateText) ?? "-", byteText(link.rxBytes), byteText(link.txBytes),
                ])
                if let problem = link.problem {
                    remarks.append("tunnel \(tunnel.name), link \(link.name): \(problem)")
                }
            }
        }
        // For one tunnel there is room to say how it works.
        if tunnels.count == 1, let tunnel = tunnels.first {
            let active = [("device", tunnel.offloads)] + tunnel.links.map { ($0.name, $0.offloads) }
            let words = active.map { "\($0.0) \($0.1.isEmpty ? "none" : $0.1.joined(separator: "+"))" }
            remarks.append("offloads: \(words.joined(separator: ", "))")
        }
        return ([table.text] + remarks).joined(separator: "\n")
    }

    /// Without the milliseconds.
    private static func seconds(_ time: String?) -> String { time.map { "\($0.prefix(19))Z" } ?? "-" }
}

struct Reload: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Apply what was changed in the database; what did not change is not disturbed.")

    @Argument var names: [Name] = []
    @Flag(help: "Every tunnel (default).") var all = false
    @Flag(help: "Say what would be done.") var dryRun = false
    @OptionGroup var common: CommonOptions

    func validate() throws {
        if all && !names.isEmpty { throw ValidationError("give names, or --all") }
    }

    func run() async throws {
        var body: [String: JSONValue] = ["dry_run": .bool(dryRun)]
        if !names.isEmpty { body["tunnels"] = .array(names.map(JSONValue.string)) }
        let report: ReloadReport = try await common.client.send(.POST, Target("reload"), body: .object(body))
        if common.json {
            try Output.json(report)
        } else {
            for (word, list) in [("add", report.added), ("change", report.changed), ("remove", report.removed)] {
                for name in list { Output.line("\(dryRun ? "would \(word)" : word) \(name)") }
            }
            Output.line("unchanged: \(report.unchanged)")
            for tunnel in report.rejected {
                Output.standardError("mlvpn-admin: tunnel \(tunnel.name): \(tunnel.problems.joined(separator: "; "))")
            }
        }
        if !report.rejected.isEmpty { throw ExitCode(1) }
    }
}

struct History: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Uptime by day or month, traffic by hour, or every change of state.",
        discussion: "Times: 2025-03-01, 2025-03-01T12:00 (UTC), or a time ago: 36h, 7d.")

    @Argument var tunnel: Name?
    @Argument var link: Name?
    @Option(help: ArgumentHelp("From then on.", valueName: "t")) var since: String?
    @Option(help: ArgumentHelp("Up to then.", valueName: "t")) var until: String?
    @Option(help: ArgumentHelp("hour (traffic), day or month (uptime).", valueName: "period")) var by: String?
    @Flag(help: "Changes of state, as they were seen.") var events = false
    @OptionGroup var common: CommonOptions

    func validate() throws {
        if let by, !["hour", "day", "month"].contains(by) { throw ValidationError("--by takes hour, day or month") }
        if events && by != nil { throw ValidationError("--events and --by exclude each other") }
    }

    func run() async throws {
        let table: Table = try await common.client.send(
            .GET,
            Target(
                "history",
                query: [
                    "tunnel": tunnel, "link": link, "since": since, "until": until, "by": by,
                    "events": events ? "1" : nil,
                ]))
        try show(table, common)
    }
}

struct Events: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "The latest changes of state, one per line.")

    @Flag(help: "Go on with those to come, until interrupted.") var follow = false
    @Option(help: "Of this tunnel alone.") var tunnel: Name?
    @OptionGroup var common: CommonOptions

    func run() async throws {
        if !follow {
            let table: Table = try await common.client.send(.GET, Target("events", query: ["tunnel": tunnel]))
            for row in table.objects { try line(row) }
            return
        }
        let lines = EventStreamReader()
        try await common.client.streamToOutput(
            Target("events", query: ["tunnel": tunnel, "follow": "1", "limit": "100"])
        ) { chunk in
            for event in try await lines.events(in: chunk) { try line(event) }
        }
        throw Problem(.unreachable, "the daemon has ended the stream")
    }

    private func line(_ event: [String: JSONValue]) throws {
        if common.json {
            try Output.json(event)
            return
        }
        func text(_ key: String) -> String { printable(event[key]?.text ?? "") }
        let place = text("link").isEmpty ? text("tunnel") : "\(text("tunnel")) \(text("link"))"
        let reason = text("reason").isEmpty ? "" : " (\(text("reason")))"
        Output.line("\(text("at")) \(place): \(text("previous")) -> \(text("state"))\(reason)")
    }
}

/// Takes server-sent events apart.
private actor EventStreamReader {
    private var rest: [UInt8] = []

    func events(in chunk: ByteBuffer) throws -> [[String: JSONValue]] {
        rest += chunk.readableBytesView
        var events: [[String: JSONValue]] = []
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            let line = rest[..<end]
            if line.starts(with: "data: ".utf8) { events.append(try JSON.decode(from: line.dropFirst(6))) }
            rest.removeFirst(end + 1)
        }
        return events
    }
}

func show(_ table: Table, _ common: CommonOptions) throws {
    if common.json { try Output.json(table.objects) } else { Output.line(TextTable(table).text) }
}
