import ArgumentParser
import BenchmarkKit
import Foundation
import StockClients
import TunnelTestKit

struct Many: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "How long commands take by the number of tunnels.",
        discussion: """
            A daemon is given N tunnels of two links by one mlvpn-admin import; then list, status, reload, and a change and \
            a removal of one tunnel are timed, from the command's start to its end. The customers are there, simulated.
            """)

    @Option(help: "Where this project's executables are.")
    var programs = "../.build/release"

    @Option(help: "Numbers of tunnels, with commas.")
    var tunnels = "250,500,1000"

    @Option(help: "How often each command is run.")
    var repeats = 15

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...1000).contains(repeats) else { throw ValidationError("--repeats is 1 to 1000.") }
    }

    private struct Row: Encodable {
        var tunnels: Int
        var importSeconds: Double
        /// Milliseconds, by command.
        var commands: [String: [Double]] = [:]
    }

    private static let commands = [
        "list", "status", "--json status", "status t7", "reload", "reload t7", "set-tunnel t7", "GET /v1/tunnels",
        "GET /v1/status", "GET /metrics",
    ]

    func run() throws {
        interruptible()
        let directory = try executables(programs)
        var rows: [Row] = []
        for text in tunnels.split(separator: ",") {
            guard let count = Int(text), (10...8000).contains(count) else {
                throw ValidationError("--tunnels: '\(text)' is not a number from 10 to 8000.")
            }
            rows.append(try NetworkRig.with { rig in try measure(count, directory, rig) })
            progress("\(count) tunnels: imported in \(rows.last?.importSeconds.text(2) ?? "") s")
        }
        var table = TextTable(["tunnels", "import s", "import ms/tunnel"] + Self.commands.map { "\($0) ms" })
        let chart = BarChart(
            title: "Commands by number of tunnels", unit: "ms, median", series: rows.map { "\($0.tunnels) tunnels" },
            groups: Self.commands.map { command in .init(command, rows.map { median($0.commands[command] ?? []) }) })
        for row in rows {
            table.add(
                ["\(row.tunnels)", row.importSeconds.text(2), (row.importSeconds * 1000 / Double(row.tunnels)).text(2)]
                    + Self.commands.map { (median(row.commands[$0] ?? []) ?? 0).text(1) })
        }
        try output.show(
            Presentation(tables: [table], notes: ["medians of \(repeats), by wall clock, all links up"], chart: chart),
            report: ManyReport(rows: rows))
    }

    private struct ManyReport: Encodable {
        var machine = Machine()
        var rows: [Row]
    }

    private func importAll(_ files: [String], _ daemon: Daemon) throws {
        do throws(RigError) {
            try daemon.admin(["import"] + files, within: .seconds(600))
        } catch .commandFailed(_, let status, let output) {
            // Without its thousand arguments.
            throw RigError.commandFailed(command: "mlvpn-admin import", status: status, output: output)
        }
    }

    private func measure(_ count: Int, _ directory: String, _ rig: NetworkRig) throws -> Row {
        let site = try Site(in: rig, name: "many", links: Plan.links)
        let daemon = try Daemon(in: rig, site.server, programs: directory, name: "server")
        let customers = try rig.start(
            [
                try BuiltProgram.path("operation"), "customers", "--first", "0", "--end", "0", "--others", "\(count)",
                "--rate", "1", "--size", "100",
            ], in: site.client, withInput: true)
        let files = try (0..<count).map { tunnel in
            var text = """
                [general]
                mode = "server"
                interface_name = "op\(tunnel)"
                password = "\(Plan.password(tunnel))"
                ip4 = "\(Plan.text(Plan.server(tunnel)))/30"

                """
            for link in 1...Plan.links {
                text += "[link\(link)]\nbindhost = \"\(Site.serverWire(link))\"\n"
                text += "bindport = \(Plan.port(tunnel, link: link))\n"
            }
            return try rig.file("\(Plan.name(tunnel)).conf", text)
        }
        var row = Row(
            tunnels: count,
            importSeconds: try milliseconds { try importAll(files, daemon) } / 1000)
        try waitUntil("all links to be up", within: .seconds(60)) {
            let lines = customers.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
            return lines.last == "up \(count * Plan.links)"
        }
        usleep(2_000_000)
        let api = APIConnection("\(daemon.runDirectory)/control.sock")
        for number in 0..<repeats {
            for command in Self.commands {
                var words = command.split(separator: " ").map(String.init)
                if words[0] == "set-tunnel" { words += ["--timeout", "\(20 + number)"] }
                row.commands[command, default: []].append(
                    try milliseconds {
                        if words[0] == "GET" { try api.send("GET", words[1]) } else { try daemon.admin(words) }
                    })
            }
        }
        try customers.send(line: "end")
        daemon.stop()
        return row
    }
}
