import ArgumentParser
import BenchmarkKit
import Foundation
import StockClients
import TunnelTestKit

struct FirstPing: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "first-ping",
        abstract: "From mlvpn-admin add-tunnel to the first ping through the tunnel, its client waiting.",
        discussion: """
            A customer tries to connect before the tunnel is defined. Clients try once a second, in their own time; a \
            simulated one of the stock protocol tells when its successful try was, so that what is the client's is told \
            from what is the concentrator's. Customers with one and with two links, and ones that run mlvpn -c.
            """)

    @Option(help: "Where this project's executables are.")
    var programs = "../.build/release"

    @Option(help: "Tunnels added in each way.")
    var repeats = 50

    @Option(help: "Tunnels that are there before.")
    var among = 0

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...10_000).contains(repeats) else { throw ValidationError("--repeats is 1 to 10000.") }
        guard (0...4000).contains(among) else { throw ValidationError("--among is 0 to 4000.") }
    }

    private enum Customer: String, CaseIterable, Encodable {
        case stockOneLink = "stock protocol, 1 link"
        case stockTwoLinks = "stock protocol, 2 links"
        case own = "mlvpn -c, 1 link"
    }

    private struct Times {
        /// Milliseconds since the command's start.
        var command: Double
        var asked: Double?
        var answered: Double
    }

    func run() throws {
        interruptible()
        let directory = try executables(programs)
        var times: [Customer: [Times]] = [:]
        try NetworkRig.with { rig in
            let shape = Stage.Shape(tunnels: 1, others: among)
            let stage = try Stage(shape, programs: directory, rig: rig)
            var tunnel = shape.tunnels + among
            for round in 0..<repeats {
                for customer in Customer.allCases {
                    times[customer, default: []].append(try measure(customer, tunnel, stage, directory))
                    try stage.daemon.admin("remove-tunnel", Plan.name(tunnel))
                    tunnel += 1
                }
                if round % 10 == 9 { progress("\(round + 1) of \(repeats)") }
            }
            stage.daemon.stop()
        }
        try show(times)
    }

    private func measure(_ customer: Customer, _ tunnel: Int, _ stage: Stage, _ directory: String) throws -> Times {
        let program = try BuiltProgram.path("operation")
        let links = customer == .stockTwoLinks ? 2 : 1
        var client: RunningProcess?
        let watcher: RunningProcess
        if customer == .own {
            client = try stage.startClient(tunnel, links: 1)
            watcher = try stage.rig.start(
                [program, "pinger", "--tunnel", "\(tunnel)"], in: stage.site.client, withInput: true)
        } else {
            watcher = try stage.rig.start(
                [program, "waiting", "--tunnel", "\(tunnel)", "--links", "\(links)"], in: stage.site.client,
                withInput: true)
        }
        defer {
            client?.stop()
            watcher.stop()
        }
        // It has tried in vain; where in its second it is now is chance.
        usleep(UInt32.random(in: 1_200_000..<2_200_000))
        let password = try stage.rig.file("password", Plan.password(tunnel))
        var command = [
            "add-tunnel", Plan.name(tunnel), "--password-file", password, "--ip4",
            "\(Plan.text(Plan.server(tunnel)))/30",
        ]
        for link in 1...links {
            command += ["--link", "link\(link),bind=\(Site.serverWire(link)):\(Plan.port(tunnel, link: link))"]
        }
        let start = StockClients.now()
        try stage.daemon.admin(command)
        func since(_ time: Int64) -> Double { Double(time - start) / 1e6 }
        let done = since(StockClients.now())
        let line = try poll("the first ping", within: .seconds(10)) {
            watcher.output.split(separator: "\n").last { $0.contains("answered ") }
        }
        let words = line.split(separator: " ")
        func number(_ word: String) -> Double? {
            words.firstIndex(of: word[...]).flatMap { Int64(words[$0 + 1]) }.map(since)
        }
        guard let answered = number("answered") else { throw RigError.unexpected("'\(line)'") }
        return Times(command: done, asked: number("asked"), answered: answered)
    }

    private func show(_ times: [Customer: [Times]]) throws {
        var table = TextTable([
            "customer", "command ms, median", "first ping ms, median", "p90", "most", "below 1 s %",
            "from the client's try, median", "most",
        ])
        var chart = BarChart(title: "First ping through a new tunnel", unit: "ms", series: ["median", "p90", "most"])
        var report = FirstPingReport()
        for customer in Customer.allCases {
            let all = times[customer] ?? []
            let answered = all.map(\.answered).sorted()
            chart.groups.append(
                .init(
                    customer.rawValue,
                    [median(answered), answered.isEmpty ? nil : answered[answered.count * 9 / 10], answered.last]))
            let ours = all.compactMap { times in times.asked.map { times.answered - $0 } }.sorted()
            table.add([
                customer.rawValue, (median(all.map(\.command)) ?? 0).text(0), (median(answered) ?? 0).text(0),
                (answered.isEmpty ? 0 : answered[answered.count * 9 / 10]).text(0), (answered.last ?? 0).text(0),
                (Double(answered.count { $0 < 1000 }) / Double(max(1, answered.count)) * 100).text(0),
                median(ours)?.text(1) ?? "", ours.last?.text(1) ?? "",
            ])
            report.firstPing[customer.rawValue] = answered
        }
        try output.show(
            Presentation(
                tables: [table],
                notes: [
                    "\(repeats) tunnels each, \(among) others there; ms from the start of the command mlvpn-admin, but in "
                        + "the last columns from the moment at which the client asked to be let in and was"
                ], chart: chart), report: report)
    }
}

private struct FirstPingReport: Encodable {
    var machine = Machine()
    /// Milliseconds.
    var firstPing: [String: [Double]] = [:]
}
