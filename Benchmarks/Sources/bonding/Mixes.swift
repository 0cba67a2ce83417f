import ArgumentParser
import BenchmarkKit
import Foundation
import TunnelTestKit

struct Mixes: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Goodput over each line alone and over the bond.",
        discussion: """
            For each mix of lines the tunnel is laid over each line alone and over all of them, and iperf3 measures TCP \
            goodput inside. Lines have a drop-tail queue of 100 ms. The varying mix alternates each line between its \
            rate and half of it, period 10 s: let --duration be a multiple of that.
            """)

    @OptionGroup var ends: EndOptions

    @Option(help: "Which mixes, with commas.")
    var mixes = Mix.all.map(\.name).joined(separator: ",")

    @Option(help: "Numbers of TCP streams, with commas.")
    var streams = "8,1"

    @Option(help: "Congestion control inside, with commas.")
    var congestion = "cubic,bbr"

    @Option(help: "down (to the customer) or up.")
    var direction = "down"

    @Option(help: "Seconds measured.")
    var duration = 20

    @Option(help: "Seconds before them that do not count.")
    var warmUp = 5

    @Option(help: "Measurements of each kind; the median counts.")
    var repeats = 3

    @Option(help: "Seed of the lines' chance.")
    var seed: UInt64 = 1

    @OptionGroup var output: OutputOptions

    func validate() throws {
        _ = try selectedMixes()
        _ = try streamCounts()
        guard ["up", "down"].contains(direction) else { throw ValidationError("--direction is up or down.") }
        guard (1...3600).contains(duration), (0...600).contains(warmUp), (1...100).contains(repeats) else {
            throw ValidationError("--duration, --warm-up or --repeats is out of range.")
        }
    }

    func run() throws {
        interruptible()
        var results: [MixResult] = []
        for mix in try selectedMixes() {
            results += try measure(mix)
        }
        try output.show(presentation(results), report: MixReport(ends: ends.ends.rawValue, results: results))
    }

    /// The tunnel over each line alone and then over all, in each repetition anew.
    private func measure(_ mix: Mix) throws -> [MixResult] {
        var goodput: [Workload: [[Int]: [Double]]] = [:]
        for round in 1...repeats {
            try NetworkRig.with { rig in
                var emulated: [EmulatedLink] = []
                let site = try Site(in: rig, name: mix.name, links: mix.lines.count) { number, server, client in
                    let line = mix.lines[number - 1]
                    emulated.append(
                        try line.lay(number: number, a: server, b: client, rig: rig, seed: seed &+ UInt64(round * 100)))
                }
                let all = Array(1...mix.lines.count)
                for links in all.map({ [$0] }) + [all] {
                    var processes = try ends.start(at: site, links: links, lines: mix.lines)
                    let server = try rig.start(["iperf3", "-s", "--forceflush"], in: site.server)
                    try waitUntil("iperf3", within: .seconds(10)) { server.output.contains("listening") }
                    processes.append(server)
                    for workload in try workloads() {
                        let rate = try run(workload, at: site)
                        let name = links.count == 1 ? "line \(links[0])" : "bond"
                        progress("\(round)/\(repeats) \(mix.name) \(workload.text) \(name): \(rate.text(2)) Mbit/s")
                        goodput[workload, default: [:]][links, default: []].append(rate)
                    }
                    for process in processes.reversed() { process.stop() }
                }
            }
        }
        return try workloads().map { workload in
            let byLinks = (goodput[workload] ?? [:]).compactMapValues(median)
            let alone = mix.lines.indices.map { byLinks[[$0 + 1]] ?? 0 }
            return MixResult(
                mix: mix, workload: workload, alone: alone, bond: byLinks[Array(1...mix.lines.count)] ?? 0)
        }
    }

    /// Mbit/s of payload.
    private func run(_ workload: Workload, at site: Site) throws -> Double {
        var command = [
            "iperf3", "-c", site.serverAddress, "-t", "\(duration)", "-O", "\(warmUp)", "-P", "\(workload.streams)",
            "-C", workload.congestion, "-J",
        ]
        if direction == "down" { command.append("-R") }
        let output = try site.rig.run(command, in: site.client, within: .seconds(duration + warmUp + 60))
        return try Iperf(json: output).receivedBitsPerSecond / 1e6
    }

    private func presentation(_ results: [MixResult]) -> Presentation {
        var table = TextTable(["mix", "TCP", "each line alone", "bond", "to best", "to sum", "goal", "met"])
        var chart = BarChart(
            title: "The bond beside its lines, \(ends.ends.rawValue)", unit: "Mbit/s of TCP payload",
            series: ["best line alone", "bond", "sum of the lines"])
        for result in results {
            table.add([
                result.mix.name, result.workload.text, result.alone.map { $0.text(1) }.joined(separator: " + "),
                result.bond.text(1), result.toBest.text(3), result.toSum.text(3),
                result.goal.map { "\($0.text(2)) of \(result.mix.reference.rawValue)" } ?? "",
                result.isMet.map { $0 ? "yes" : "no" } ?? "",
            ])
            chart.groups.append(
                .init(
                    "\(result.mix.name), \(result.workload.text)",
                    [result.alone.max(), result.bond, result.alone.reduce(0, +)]))
        }
        let names = Set(results.map(\.mix.name))
        let lines = Mix.all.filter { names.contains($0.name) }.map { mix in
            "\(mix.name): \(mix.lines.map(\.description).joined(separator: " | "))"
        }
        let note =
            "Mbit/s of TCP payload, \(direction); ends: \(ends.ends.rawValue); medians of \(repeats), "
            + "\(duration) s after \(warmUp) s"
        return Presentation(preface: lines, tables: [table], notes: [note], chart: chart)
    }

    private func workloads() throws -> [Workload] {
        let counts = try streamCounts()
        return congestion.split(separator: ",").flatMap { algorithm in
            counts.map { Workload(streams: $0, congestion: String(algorithm)) }
        }
    }

    private func streamCounts() throws -> [Int] {
        try streams.split(separator: ",").map { text in
            guard let count = Int(text), (1...128).contains(count) else {
                throw ValidationError("--streams: '\(text)' is not a number from 1 to 128.")
            }
            return count
        }
    }

    private func selectedMixes() throws -> [Mix] { try Mix.named(mixes) }
}

struct Workload: Hashable, Encodable {
    var streams: Int
    var congestion: String

    var text: String { "\(streams) × \(congestion)" }
}

struct MixResult {
    var mix: Mix
    var workload: Workload
    /// Mbit/s over each line alone.
    var alone: [Double]
    /// Mbit/s over all.
    var bond: Double

    var toBest: Double { bond / (alone.max() ?? .nan) }
    var toSum: Double { bond / alone.reduce(0, +) }
    var goal: Double? { mix.goals[workload.streams] }
    var isMet: Bool? { goal.map { (mix.reference == .sum ? toSum : toBest) >= $0 } }
}

private struct MixReport: Encodable {
    struct Row: Encodable {
        var mix: String
        var streams: Int
        var congestion: String
        var alone: [Double]
        var bond: Double
        var toBest: Double
        var toSum: Double
        var goal: Double?
        var met: Bool?
    }
    var machine = Machine()
    var ends: String
    var rows: [Row]

    init(ends: String, results: [MixResult]) {
        self.ends = ends
        rows = results.map { result in
            Row(
                mix: result.mix.name, streams: result.workload.streams, congestion: result.workload.congestion,
                alone: result.alone, bond: result.bond, toBest: result.toBest, toSum: result.toSum, goal: result.goal,
                met: result.isMet)
        }
    }
}
