import ArgumentParser
import BenchmarkKit
import Foundation
import TunnelTestKit

struct Share: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Busy tunnels side by side: what they carry together, and what each gets of it.",
        discussion: """
            A daemon at either end with N tunnels of two links. One TCP stream runs through one of them alone, then one \
            through each at the same time. The goals are that all together carry at least 0.85 of what one does alone, \
            and that none gets less than 0.7 of its equal share.
            """)

    private static let goals = (total: 0.85, least: 0.70)

    @Option(help: "Where this project's executables are.")
    var programs = "../.build/release"

    @Option(help: "Busy tunnels.")
    var tunnels = 20

    @Option(help: "up (to the server) and down, with commas.")
    var directions = "up,down"

    @Option(help: "Seconds of each measurement.")
    var duration = 5

    @Option(help: "Measurements of each kind; the median counts.")
    var repeats = 3

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (2...200).contains(tunnels) else { throw ValidationError("--tunnels is 2 to 200.") }
        guard (1...3600).contains(duration), (1...100).contains(repeats) else {
            throw ValidationError("--duration or --repeats is out of range.")
        }
        _ = try selectedDirections()
    }

    func run() throws {
        interruptible()
        let directory = try executables(programs)
        let directions = try selectedDirections()
        var alone: [String: [Double]] = [:]
        var together: [String: [[Double]]] = [:]
        try NetworkRig.with { rig in
            let site = try Site(in: rig, name: "share", links: 2)
            let server = try Daemon(in: rig, site.server, programs: directory, name: "server")
            let client = try Daemon(in: rig, site.client, programs: directory, name: "client")
            try server.importTunnels(tunnels, rig: rig)
            try client.importTunnels(tunnels, isServer: false, rig: rig)
            for number in 0..<tunnels {
                let address = Plan.text(Plan.inner(number) + 1)
                try waitUntil("a ping of \(address)", within: .seconds(30)) { () throws(RigError) in
                    try rig.succeeds(["ping", "-q", "-c1", "-W1", address], in: site.client)
                }
                let iperf = try rig.start(["iperf3", "-s", "--forceflush", "-B", address], in: site.server)
                try waitUntil("iperf3", within: .seconds(10)) { iperf.output.contains("listening") }
            }
            for round in 1...repeats {
                for direction in directions {
                    let one = try measure([(round - 1) % tunnels], direction, site)[0]
                    let all = try measure(Array(0..<tunnels), direction, site)
                    alone[direction, default: []].append(one)
                    together[direction, default: []].append(all)
                    progress(
                        "\(round)/\(repeats) \(direction): one \(one.text(3)), all \(all.reduce(0, +).text(3)) Gbit/s")
                }
            }
        }
        try show(directions.map { Row($0, alone: alone[$0] ?? [], together: together[$0] ?? []) })
    }

    /// Gbit/s through each of some tunnels at the same time.
    private func measure(_ numbers: [Int], _ direction: String, _ site: Site) throws -> [Double] {
        let processes = try numbers.map { number in
            try site.rig.start(
                ["iperf3", "-c", Plan.text(Plan.inner(number) + 1), "-t", "\(duration)", "-J"]
                    + (direction == "down" ? ["-R"] : []), in: site.client)
        }
        return try processes.map { process in
            let status = try process.waitForExit(within: .seconds(duration + 60))
            guard status == .exited(0) else {
                throw RigError.commandFailed(command: "iperf3", status: status, output: process.output)
            }
            return try Iperf(json: process.output).receivedBitsPerSecond / 1e9
        }
    }

    private func show(_ rows: [Row]) throws {
        var table = TextTable([
            "direction", "one tunnel Gbit/s", "\(tunnels) tunnels", "to one", "least of its share", "most of it", "met",
        ])
        var chart = BarChart(
            title: "\(tunnels) busy tunnels", unit: "Gbit/s of payload",
            series: ["one tunnel", "\(tunnels) tunnels together"])
        for row in rows {
            let isMet = row.ratio >= Share.goals.total && row.least >= Share.goals.least
            table.add([
                row.direction, row.one.text(3), row.total.text(3), row.ratio.text(2), row.least.text(2),
                row.most.text(2), isMet ? "yes" : "no",
            ])
            chart.groups.append(.init(row.direction, [row.one, row.total]))
        }
        let note =
            "medians of \(repeats), \(duration) s each, one TCP stream a tunnel; goals: \(Share.goals.total.text(2)) of "
            + "one tunnel's, no share below \(Share.goals.least.text(2)) of an equal one"
        try output.show(
            Presentation(tables: [table], notes: [note], chart: chart), report: ShareReport(rows: rows))
    }

    private func selectedDirections() throws -> [String] {
        try directions.split(separator: ",").map { name in
            guard ["up", "down"].contains(name) else {
                throw ValidationError("--directions: '\(name)' is neither up nor down.")
            }
            return String(name)
        }
    }

    struct Row: Encodable {
        var direction: String
        /// Gbit/s.
        var one: Double
        var total: Double
        var ratio: Double
        /// Of an equal share, the tunnel with the least and the one with the most.
        var least: Double
        var most: Double

        init(_ direction: String, alone: [Double], together: [[Double]]) {
            self.direction = direction
            one = median(alone) ?? .nan
            total = median(together.map { $0.reduce(0, +) }) ?? .nan
            ratio = total / one
            let shares = together.map { rates in rates.map { $0 * Double(rates.count) / rates.reduce(0, +) } }
            least = median(shares.compactMap { $0.min() }) ?? .nan
            most = median(shares.compactMap { $0.max() }) ?? .nan
        }
    }

    private struct ShareReport: Encodable {
        var machine = Machine()
        var rows: [Row]
    }
}
