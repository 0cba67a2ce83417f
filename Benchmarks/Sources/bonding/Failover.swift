import ArgumentParser
import BenchmarkKit
import Foundation
import TunnelTestKit

struct Failover: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "A silent blackhole of one of two lines in mid-transfer, and its end.",
        discussion: """
            Two lines of 50 Mbit/s and 10 ms. While a ping of 100 packets/s and a TCP stream to the customer run, the \
            first line swallows everything, in both directions or in one, and later carries packets again. Printed are \
            the longest gap in the answers and the packets lost around each change, and how long TCP took to reach 80 % \
            of one line's rate after the cut.
            """)

    @OptionGroup var ends: EndOptions

    @Option(help: "Directions that fail, with commas: both, to-customer, to-server.")
    var cuts = "both,to-customer,to-server"

    @Option(help: "Measurements of each kind.")
    var repeats = 1

    @OptionGroup var output: OutputOptions

    private static let lines = [Line(rate: 50, settings: "delay=10ms"), Line(rate: 50, settings: "delay=10ms")]
    /// Seconds: from the start of traffic to the cut, from there to the mending, from there to the end.
    private static let phases = (before: 6, cut: 10, after: 8)

    func validate() throws {
        _ = try selectedCuts()
    }

    func run() throws {
        interruptible()
        var rows: [[String]] = []
        var table = TextTable(["cut", "gap ms", "lost", "TCP back s", "gap at return ms", "lost at return"])
        for cut in try selectedCuts() {
            for round in 1...repeats {
                let result = try measure(cut.direction)
                progress("\(round)/\(repeats) \(cut.name): \(result)")
                table.add([cut.name] + result)
                rows.append([cut.name] + result)
            }
        }
        let note = "gap: the longest time between two answers; ends: \(ends.ends.rawValue)"
        try output.show(Presentation(tables: [table], notes: [note]), report: rows)
    }

    private func selectedCuts() throws -> [(name: String, direction: PathDirection)] {
        // End a of a line is the server's.
        let known: [String: PathDirection] = ["both": .both, "to-customer": .ab, "to-server": .ba]
        return try cuts.split(separator: ",").map { name in
            guard let direction = known[String(name)] else {
                throw ValidationError("--cuts: '\(name)' is none of both, to-customer, to-server.")
            }
            return (String(name), direction)
        }
    }

    private func measure(_ direction: PathDirection) throws -> [String] {
        try NetworkRig.with { rig in
            var emulated: [EmulatedLink] = []
            let site = try Site(in: rig, name: "failover", links: 2) { number, server, client in
                emulated.append(
                    try Failover.lines[number - 1].lay(number: number, a: server, b: client, rig: rig, seed: 1))
            }
            let server = try rig.start(["iperf3", "-s", "--forceflush"], in: site.server)
            try waitUntil("iperf3", within: .seconds(10)) { server.output.contains("listening") }
            _ = try ends.start(at: site, links: [1, 2], lines: Failover.lines)
            let phases = Failover.phases
            let traffic = try Traffic(at: site, seconds: phases.before + phases.cut + phases.after)

            try traffic.wait(until: Double(phases.before))
            let cutAt = traffic.elapsed
            try emulated[0].set("\(direction.rawValue) blackhole=on")
            try traffic.wait(until: Double(phases.before + phases.cut))
            let mendedAt = traffic.elapsed
            try emulated[0].set("\(direction.rawValue) blackhole=off")

            let record = try traffic.finish()
            let cut = record.disturbance(from: cutAt - 1, to: mendedAt)
            let mended = record.disturbance(from: mendedAt, to: mendedAt + Double(phases.after) - 1)
            let back = record.timeToReach(0.8 * 50 * 0.916, after: cutAt)
            return [
                cut.gapMilliseconds.text(0), "\(cut.lost)", back.map { $0.text(1) } ?? "never",
                mended.gapMilliseconds.text(0), "\(mended.lost)",
            ]
        }
    }
}

/// A ping and a TCP stream that run side by side, with the time since their start.
private struct Traffic {
    private let ping: RunningProcess
    private let iperf: RunningProcess
    private let start: ContinuousClock.Instant
    private let startDate: Double
    private let seconds: Int

    init(at site: Site, seconds: Int) throws {
        self.seconds = seconds
        ping = try site.rig.start(
            ["ping", "-D", "-i", "0.01", "-c", "\(seconds * 100)", "-W", "2", site.serverAddress], in: site.client)
        iperf = try site.rig.start(
            ["iperf3", "-c", site.serverAddress, "-R", "-t", "\(seconds)", "-i", "0.1", "-J"], in: site.client)
        start = .now
        startDate = Date().timeIntervalSince1970
    }

    var elapsed: Double {
        let components = (ContinuousClock.now - start).components
        return Double(components.seconds) + Double(components.attoseconds) / 1e18
    }

    func wait(until second: Double) throws {
        try waitUntil("second \(second) of the traffic", within: .seconds(seconds + 30)) { elapsed >= second }
    }

    func finish() throws -> TrafficRecord {
        let status = try iperf.waitForExit(within: .seconds(seconds + 60))
        guard status == .exited(0) else {
            throw RigError.commandFailed(command: "iperf3", status: status, output: iperf.output)
        }
        _ = try ping.waitForExit(within: .seconds(60))
        return try TrafficRecord(ping: ping.output, iperf: iperf.output, startDate: startDate)
    }
}

/// What the ping and the stream saw; times are seconds since the start.
private struct TrafficRecord {
    private var answers: [(sequence: Int, time: Double)] = []
    private var intervals: [(end: Double, megabits: Double)] = []

    init(ping: String, iperf: String, startDate: Double) throws {
        // [1700000000.123456] 64 bytes from 10.78.0.1: icmp_seq=17 ttl=64 time=20.3 ms
        for line in ping.split(separator: "\n") where line.contains("icmp_seq=") && !line.contains("DUP!") {
            let stamp = line.dropFirst().prefix { $0 != "]" }
            let sequence = line.split(separator: "icmp_seq=").last?.prefix { $0.isNumber }
            guard let time = Double(stamp), let sequence, let number = Int(sequence) else { continue }
            answers.append((number, time - startDate))
        }
        intervals = try Iperf(json: iperf).intervals.map { ($0.end, $0.bitsPerSecond / 1e6) }
        guard !answers.isEmpty, !intervals.isEmpty else {
            throw RigError.unexpected("no answers or no intervals: \(ping.suffix(500))")
        }
    }

    /// The longest time between two answers that followed each other, and the packets without answer, in a span of time.
    func disturbance(from: Double, to: Double) -> (gapMilliseconds: Double, lost: Int) {
        let inside = answers.filter { (from...to).contains($0.time) }
        let gaps = zip(inside, inside.dropFirst()).map { $1.time - $0.time }
        let sequences = Set(inside.map(\.sequence))
        guard let first = sequences.min(), let last = sequences.max() else { return (.nan, 0) }
        return ((gaps.max() ?? .nan) * 1000, last - first + 1 - sequences.count)
    }

    /// Seconds from a time to the end of the first half second in which the stream was at a rate or above.
    func timeToReach(_ megabits: Double, after time: Double) -> Double? {
        let later = intervals.filter { $0.end > time + 0.1 }
        for start in later.indices.dropLast(4) {
            let mean = later[start..<start + 5].reduce(0) { $0 + $1.megabits } / 5
            if mean >= megabits { return later[start + 4].end - 0.5 - time }
        }
        return nil
    }
}
