import ArgumentParser
import BenchmarkKit
import Foundation
import Synchronization
import TunnelCrypto

struct Workers: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What several workers do together, compared with one.",
        discussion: """
            Each thread carries packets of a tunnel of its own from a device's read to a device's write, with two links \
            and all crypto at both ends, but without system calls. What is missing to the number of threads is shared \
            memory bandwidth, shared cores, and whatever else the machine does.
            """)

    @Option(help: "Numbers of threads, with commas.")
    var workers = "1,2"

    @Option(help: "Seconds of each measurement.")
    var duration = 2

    @Option(help: "Measurements of each kind; the median counts.")
    var repeats = 5

    @OptionGroup var output: OutputOptions

    func validate() throws {
        _ = try counts()
        guard (1...600).contains(duration) else { throw ValidationError("--duration is 1 to 600.") }
        guard (1...100).contains(repeats) else { throw ValidationError("--repeats is 1 to 100.") }
    }

    func run() throws {
        precondition(SessionCipher.start(), "libsodium cannot be started")
        let counts = try counts()
        var rates: [Int: [Double]] = [:]
        // In turn, so that all share whatever the machine does meanwhile.
        for _ in 1...repeats {
            for count in counts { rates[count, default: []].append(measure(count)) }
        }
        var table = TextTable(["workers", "Gbit/s", "least", "most", "to \(counts[0])"])
        var chart = BarChart(title: "Workers", unit: "Gbit/s of inner packets, whole way", series: ["all together"])
        let first = median(rates[counts[0]] ?? []) ?? .nan
        var rows: [WorkerReport.Row] = []
        for count in counts {
            let values = rates[count] ?? []
            let middle = median(values) ?? .nan
            table.add([
                "\(count)", middle.text(2), (values.min() ?? .nan).text(2), (values.max() ?? .nan).text(2),
                (middle / first).text(2),
            ])
            chart.groups.append(.init("\(count) worker\(count == 1 ? "" : "s")", [middle]))
            rows.append(.init(workers: count, gigabitsPerSecond: middle, ratio: middle / first))
        }
        let note = "medians of \(repeats), \(duration) s each"
        try output.show(
            Presentation(tables: [table], notes: [note], chart: chart), report: WorkerReport(rows: rows))
    }

    private func counts() throws -> [Int] {
        try workers.split(separator: ",").map { text in
            guard let count = Int(text), (1...256).contains(count) else {
                throw ValidationError("--workers: '\(text)' is not a number from 1 to 256.")
            }
            return count
        }
    }

    /// Gbit/s of inner packets, all threads together.
    private func measure(_ count: Int) -> Double {
        let total = Mutex(0)
        let clock = ContinuousClock()
        let start = clock.now
        let end = start + .seconds(duration)
        let threads = (0..<count).map { _ in
            Thread {
                let way = PipelineStage()
                var packets = 0
                while ContinuousClock().now < end {
                    way.prepare()
                    way.run()
                    packets += way.packets
                }
                total.withLock { $0 += packets }
            }
        }
        for thread in threads { thread.start() }
        // A thread has no join of its own.
        for thread in threads { while !thread.isFinished { usleep(2000) } }
        let elapsed = clock.now - start
        let seconds = Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
        return total.withLock { Double($0) } * Double(Packets.mtu) * 8 / seconds / 1e9
    }
}

private struct WorkerReport: Encodable {
    struct Row: Encodable {
        var workers: Int
        var gigabitsPerSecond: Double
        var ratio: Double
    }
    var machine = Machine()
    var rows: [Row]
}
