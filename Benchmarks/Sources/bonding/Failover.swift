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
        var chart = BarChart(
            title: "A silent blackhole of one of two lines", unit: "ms", series: ["longest gap", "at return"])
        var table = TextTable(["cut", "gap ms", "lost", "TCP back s", "gap at return ms", "lost at return"])
        for cut in try selectedCuts() {
            for round in 1...repeats {
                let (cutGap, mendedGap, result) = try measure(cut.direction)
                chart.groups.append(.init("\(cut.name) \(round)", [cutGap, mendedGap]))
                progress("\(round)/\(repeats) \(cut.name): \(result)")
                table.add([cut.name] + result)
                rows.append([cut.name] + result)
            }
        }
        let note = "gap: the longest time without an answer; ends: \(ends.ends.rawValue)"
        try output.show(Presentation(tables: [table], notes: [note], chart: chart), report: rows)
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

    private func measure(_ direction: PathDirection) throws -> (cutGap: Double, mendedGap: Double, row: [String]) {
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
            return (
                cut.gapMilliseconds, mended.gapMilliseconds,
                [
                    cut.gapMilliseconds.text(0), "\(cut.lost)", back.map { $0.text(1) } ?? "never",
                    mended.gapMilliseconds.text(0), "\(mended.lost)",
                ]
            )
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
        return try TrafficRecord(
            ping: ping.output, sent: seconds * 100, iperf: iperf.output, startDate: startDate)
    }
}

/// What the ping and the stream saw; times are seconds since the start.
private struct TrafficRecord {
    private var answers: [(sequence: Int, time: Double)] = []
    /// The number of the last request.
    private let sent: Int
    private var intervals: [(end: Double, megabits: Double)] = []

    init(ping: String, sent: Int, iperf: String, startDate: Double) throws {
        self.sent = sent
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

    /// The longest time without an answer within a span of time, and the requests of that span that never had one.
    ///
    /// What is missing at the end of the span counts as well: answers may have stopped for good.
    func disturbance(from: Double, to: Double) -> (gapMilliseconds: Double, lost: Int) {
        let times = [from] + answers.map(\.time).filter { (from...to).contains($0) }.sorted() + [to]
        let gap = zip(times, times.dropFirst()).map { $1 - $0 }.max() ?? 0
        let first = (answers.filter { $0.time < from }.map(\.sequence).max() ?? 0) + 1
        let next = answers.filter { $0.time > to }.map(\.sequence).min() ?? sent + 1
        let answered = Set(answers.map(\.sequence))
        return (gap * 1000, first < next ? (first..<next).count { !answered.contains($0) } : 0)
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
