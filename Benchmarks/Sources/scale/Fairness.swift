import ArgumentParser
import BenchmarkKit
import Foundation
import TunnelTestKit

struct Fairness: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "One bulk tunnel and many quiet ones on one worker: what the bulk costs the others' pings.",
        discussion: """
            The daemon has one worker. The quiet tunnels' customers are simulated by one process, of real-time \
            priority since it stands for other machines, and ping the server's inner address; the bulk tunnel's customer \
            runs mlvpn, and TCP through it. The quiet tunnels' round trips are taken without the bulk, then with it up \
            and down. The goal is at most 1 ms more at the 99th percentile. Both ends, TCP's included, share this \
            machine's processors, and waiting for one of them counts as well: --bulk-rate leaves some of them idle.
            """)

    private static let goalMilliseconds = 1.0

    @Option(help: "Where this project's executables are.")
    var programs = "../.build/release"

    @Option(help: "Quiet tunnels.")
    var quiet = 99

    @Option(help: "Pings per second through each.")
    var rate = 10

    @Option(help: "TCP streams through the bulk tunnel.")
    var streams = 4

    @Option(help: "Mbit/s of the bulk; 0: as much as goes.")
    var bulkRate = 0

    @Option(help: "Seconds of each measurement.")
    var duration = 10

    @Option(help: "Measurements of each kind, of which the medians count.")
    var repeats = 3

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...4000).contains(quiet) else { throw ValidationError("--quiet is 1 to 4000.") }
        guard (1...1000).contains(rate) else { throw ValidationError("--rate is 1 to 1000.") }
        guard (1...128).contains(streams) else { throw ValidationError("--streams is 1 to 128.") }
        guard (0...100_000).contains(bulkRate) else { throw ValidationError("--bulk-rate is 0 to 100000.") }
        guard (1...3600).contains(duration), (1...100).contains(repeats) else {
            throw ValidationError("--duration or --repeats is out of range.")
        }
    }

    func run() throws {
        interruptible()
        let directory = try executables(programs)
        let kinds = ["without", "bulk up", "bulk down"]
        var results: [String: [Measurement]] = [:]
        try NetworkRig.with { rig in
            let site = try Site(in: rig, name: "fair", links: 2)
            let server = try Daemon(
                in: rig, site.server, programs: directory, name: "server", flags: ["--workers", "1"])
            try server.importTunnels(quiet + 1, rig: rig)
            let clients = try rig.start(
                [
                    "chrt", "--rr", "10", try BuiltProgram.path("scale"), "clients", "--tunnels", "\(quiet)", "--rate",
                    "\(rate)", "--size", "84", "--delays",
                ], in: site.client)
            // The last tunnel of the plan.
            let conf = try rig.file("bulk.conf", Plan.configuration(quiet, isServer: false))
            _ = try rig.start(
                ["\(directory)/mlvpn", "--debug", "-n", "bulk", "-c", conf, "-u", "mlvpn"], in: site.client)
            let address = Plan.text(Plan.inner(quiet) + 1)
            try waitUntil("the bulk tunnel", within: .seconds(30)) { () throws(RigError) in
                try rig.succeeds(["ping", "-q", "-c1", "-W1", address], in: site.client)
            }
            let iperf = try rig.start(["iperf3", "-s", "--forceflush", "-B", address], in: site.server)
            try waitUntil("iperf3", within: .seconds(10)) { iperf.output.contains("listening") }
            try waitUntil("all links to be up", within: .seconds(60)) { () throws(RigError) -> Bool in
                if let status = clients.exitStatus {
                    throw .commandFailed(command: "scale clients", status: status, output: clients.output)
                }
                return clients.output.contains("up \(quiet * 2) ")
            }
            for round in 1...repeats {
                for kind in kinds {
                    let measurement = try measure(kind, clients, site, address)
                    progress("\(round)/\(repeats) \(kind): \(measurement.text)")
                    results[kind, default: []].append(measurement)
                }
            }
        }
        try show(kinds, results)
    }

    private func measure(
        _ kind: String, _ clients: RunningProcess, _ site: Site, _ address: String
    ) throws -> Measurement {
        var command = ["iperf3", "-c", address, "-t", "\(duration + 2)", "-P", "\(streams)", "-J"]
        if kind == "bulk down" { command.append("-R") }
        if bulkRate > 0 { command += ["-b", "\(bulkRate * 1_000_000 / streams)"] }
        let bulk = kind == "without" ? nil : try site.rig.start(command, in: site.client)
        // The bulk needs a moment to be one.
        try pause(1)
        let before = clients.output.utf8.count
        try pause(Double(duration))
        let delays = clients.output.utf8.dropFirst(before).split(separator: UInt8(ascii: "\n"))
            .filter { $0.starts(with: "delays".utf8) }
            .flatMap { String(Substring($0)).split(separator: " ").compactMap { Double($0) } }.sorted()
        guard delays.count > quiet else { throw RigError.unexpected("\(delays.count) pings were answered") }
        var gigabits: Double?
        if let bulk {
            let status = try bulk.waitForExit(within: .seconds(duration + 60))
            guard status == .exited(0) else {
                throw RigError.commandFailed(command: "iperf3", status: status, output: bulk.output)
            }
            gigabits = try Iperf(json: bulk.output).receivedBitsPerSecond / 1e9
        }
        func percentile(_ percent: Int) -> Double { delays[min(delays.count - 1, delays.count * percent / 100)] / 1000 }
        return Measurement(
            p50: percentile(50), p99: percentile(99), most: percentile(100),
            answered: Double(delays.count) / Double(duration * quiet * rate) * 100, bulk: gigabits)
    }

    private func pause(_ seconds: Double) throws {
        let start = ContinuousClock.now
        try waitUntil("the end of the measurement", within: .seconds(seconds + 30)) {
            usleep(20_000)
            return elapsed(since: start) >= seconds
        }
    }

    private func show(_ kinds: [String], _ results: [String: [Measurement]]) throws {
        var table = TextTable([
            "quiet pings", "p50 ms", "p99", "most", "answered %", "p99 more by", "bulk Gbit/s", "met",
        ])
        var chart = BarChart(
            title: "Pings of \(quiet) quiet tunnels beside one bulk tunnel, one worker", unit: "ms",
            series: ["median", "p99"])
        func middle(_ kind: String, _ value: (Measurement) -> Double?) -> Double {
            median((results[kind] ?? []).compactMap(value)) ?? .nan
        }
        for kind in kinds {
            let added = middle(kind, \.p99) - middle(kinds[0], \.p99)
            let isFirst = kind == kinds[0]
            table.add([
                kind, middle(kind, \.p50).text(2), middle(kind, \.p99).text(2), middle(kind, \.most).text(1),
                middle(kind, \.answered).text(1), isFirst ? "" : added.text(2),
                isFirst ? "" : middle(kind, \.bulk).text(2),
                isFirst ? "" : added <= Fairness.goalMilliseconds ? "yes" : "no",
            ])
            chart.groups.append(.init(kind, [middle(kind, \.p50), middle(kind, \.p99)]))
        }
        let load = bulkRate > 0 ? "\(bulkRate) Mbit/s" : "as much as goes"
        let note =
            "medians of \(repeats), \(duration) s each; \(quiet) tunnels with \(rate) pings/s; the bulk: \(streams) TCP "
            + "streams, \(load); goal: p99 at most \(Fairness.goalMilliseconds.text(0)) ms more"
        try output.show(
            Presentation(tables: [table], notes: [note], chart: chart), report: FairnessReport(results: results))
    }

    private struct Measurement: Encodable {
        /// Milliseconds.
        var p50: Double
        var p99: Double
        var most: Double
        /// Percent of the pings that were due.
        var answered: Double
        /// Gbit/s.
        var bulk: Double?

        var text: String {
            "p50 \(p50.text(2)), p99 \(p99.text(2)), most \(most.text(1)) ms"
                + (bulk.map { ", bulk \($0.text(2)) Gbit/s" } ?? "")
        }
    }

    private struct FairnessReport: Encodable {
        var machine = Machine()
        var results: [String: [Measurement]]
    }
}
