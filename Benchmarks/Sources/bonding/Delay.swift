import ArgumentParser
import BenchmarkKit
import Foundation
import TunnelTestKit

struct Delay: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Ping through a bond that TCP saturates, beside the best line's idle round trip.",
        discussion: """
            For each mix of lines a ping through the tunnel over each line alone, without other traffic, gives the best \
            line's round trip; then the tunnel is laid over all lines and saturated with TCP, and pings are sent beside \
            it. Lines have a drop-tail queue of 100 ms. The goal is at most 30 ms more than the best line's, at the 99th \
            percentile.
            """)

    static let goalMilliseconds = 30.0

    @OptionGroup var ends: EndOptions

    @Option(help: "Which mixes, with commas.")
    var mixes = Mix.all.map(\.name).joined(separator: ",")

    @Option(help: "TCP streams.")
    var streams = 8

    @Option(help: "Congestion control inside.")
    var congestion = "cubic"

    @Option(help: "down (to the customer) or up.")
    var direction = "down"

    @Option(help: "Seconds of pings under load, 50 each second.")
    var duration = 10

    @Option(help: "Seconds of load before them.")
    var warmUp = 4

    @Option(help: "Measurements of each mix; each is shown.")
    var repeats = 1

    @Option(help: "Seed of the lines' chance.")
    var seed: UInt64 = 1

    @OptionGroup var output: OutputOptions

    func validate() throws {
        _ = try Mix.named(mixes)
        guard ["up", "down"].contains(direction) else { throw ValidationError("--direction is up or down.") }
        guard (1...128).contains(streams) else { throw ValidationError("--streams is 1 to 128.") }
        guard (1...3600).contains(duration), (0...600).contains(warmUp), (1...100).contains(repeats) else {
            throw ValidationError("--duration, --warm-up or --repeats is out of range.")
        }
    }

    func run() throws {
        interruptible()
        var table = TextTable([
            "mix", "best line idle ms", "bond idle", "loaded p50", "p99", "most", "p99 more by", "lost", "Mbit/s",
            "met",
        ])
        var chart = BarChart(
            title: "Ping under load, \(ends.ends.rawValue)", unit: "ms",
            series: ["best line, idle", "bond, loaded, median", "bond, loaded, p99"])
        var rows: [DelayReport.Row] = []
        for mix in try Mix.named(mixes) {
            for round in 1...repeats {
                let row = try measure(mix, round: round)
                progress("\(round)/\(repeats) \(mix.name): p99 \(row.p99.text(1)) ms, idle \(row.bestIdle.text(1)) ms")
                table.add([
                    mix.name, row.bestIdle.text(1), row.bondIdle.text(1), row.p50.text(1), row.p99.text(1),
                    row.most.text(1), row.added.text(1), "\(row.lost)", row.megabitsPerSecond.text(1),
                    row.isMet ? "yes" : "no",
                ])
                chart.groups.append(.init(mix.name, [row.bestIdle, row.p50, row.p99]))
                rows.append(row)
            }
        }
        let note =
            "\(streams) × \(congestion) \(direction); ends: \(ends.ends.rawValue); goal: p99 at most "
            + "\(Delay.goalMilliseconds.text(0)) ms above the best line's idle median"
        try output.show(
            Presentation(tables: [table], notes: [note], chart: chart), report: DelayReport(rows: rows))
    }

    private func measure(_ mix: Mix, round: Int) throws -> DelayReport.Row {
        try NetworkRig.with { rig in
            var emulated: [EmulatedLink] = []
            let site = try Site(in: rig, name: mix.name, links: mix.lines.count) { number, server, client in
                emulated.append(
                    try mix.lines[number - 1].lay(
                        number: number, a: server, b: client, rig: rig, seed: seed &+ UInt64(round * 100)))
            }
            let all = Array(1...mix.lines.count)
            var idle: [Double] = []
            for link in all {
                let processes = try ends.start(at: site, links: [link], lines: mix.lines)
                idle.append(try Pings(at: site, count: 40).percentile(50))
                for process in processes.reversed() { process.stop() }
            }
            _ = try ends.start(at: site, links: all, lines: mix.lines)
            let bondIdle = try Pings(at: site, count: 40).percentile(50)

            let server = try rig.start(["iperf3", "-s", "--forceflush"], in: site.server)
            try waitUntil("iperf3", within: .seconds(10)) { server.output.contains("listening") }
            var command = [
                "iperf3", "-c", site.serverAddress, "-t", "\(warmUp + duration + 2)", "-P", "\(streams)", "-C",
                congestion, "-J",
            ]
            if direction == "down" { command.append("-R") }
            let iperf = try rig.start(command, in: site.client)
            let start = ContinuousClock.now
            try waitUntil("the warm-up", within: .seconds(warmUp + 10)) {
                ContinuousClock.now - start >= .seconds(warmUp)
            }
            let pings = try Pings(at: site, count: duration * 50)
            let status = try iperf.waitForExit(within: .seconds(warmUp + duration + 60))
            guard status == .exited(0) else {
                throw RigError.commandFailed(command: "iperf3", status: status, output: iperf.output)
            }
            let rate = try Iperf(json: iperf.output).receivedBitsPerSecond / 1e6
            return DelayReport.Row(
                mix: mix.name, bestIdle: idle.min() ?? .nan, bondIdle: bondIdle, p50: pings.percentile(50),
                p99: pings.percentile(99), most: pings.percentile(100), lost: pings.lost, megabitsPerSecond: rate)
        }
    }
}

/// The round trips of some pings from the customer, 20 ms apart.
private struct Pings {
    /// Milliseconds, sorted.
    private let times: [Double]
    let lost: Int

    init(at site: Site, count: Int) throws {
        let process = try site.rig.start(
            ["ping", "-i", "0.02", "-c", "\(count)", "-W", "2", site.serverAddress], in: site.client)
        _ = try process.waitForExit(within: .seconds(count / 50 + 30))
        var seen: [Int: Double] = [:]
        for line in process.output.split(separator: "\n") where !line.contains("DUP!") {
            guard let number = line.split(separator: "icmp_seq=").dropFirst().first?.prefix(while: \.isNumber),
                let time = line.split(separator: "time=").dropFirst().first?.prefix(while: { $0 != " " }),
                let sequence = Int(number), let milliseconds = Double(time)
            else { continue }
            seen[sequence] = milliseconds
        }
        guard !seen.isEmpty else { throw RigError.unexpected("no ping was answered: \(process.output.suffix(500))") }
        times = seen.values.sorted()
        lost = count - seen.count
    }

    func percentile(_ percent: Int) -> Double { times[min(times.count - 1, times.count * percent / 100)] }
}

private struct DelayReport: Encodable {
    struct Row: Encodable {
        var mix: String
        var bestIdle: Double
        var bondIdle: Double
        var p50: Double
        var p99: Double
        var most: Double
        var lost: Int
        var megabitsPerSecond: Double

        var added: Double { p99 - bestIdle }
        var isMet: Bool { added <= Delay.goalMilliseconds }
    }
    var machine = Machine()
    var rows: [Row]
}
