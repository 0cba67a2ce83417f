import ArgumentParser
import BenchmarkKit
import CAllocations
import Foundation

struct Stages: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Nanoseconds and allocations per packet of each stage.",
        discussion: """
            Each stage runs alone and repeatedly over packets of 1400 bytes that lie in the cache: compare stages and \
            versions, not machines. Times are medians of batches; allocations are counted over all of them, after one \
            batch to warm up. --check compares the allocations with a file of thresholds, and times with nothing.
            """)

    @Option(help: "Which stages: the beginnings of their names, with commas.")
    var stages: String?

    @Option(help: "Milliseconds for each stage.")
    var duration = 300

    @Flag(help: "Fail if a stage allocates more than the thresholds allow, or has none.")
    var check = false

    @Option(help: ArgumentHelp("Allocations per packet that are allowed, by stage.", valueName: "file"))
    var thresholds = "thresholds.json"

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...60_000).contains(duration) else { throw ValidationError("--duration is 1 to 60000.") }
        if stages != nil, check { throw ValidationError("--check is about all stages; leave out --stages.") }
    }

    func run() throws {
        let limits = check ? try Thresholds(path: thresholds) : nil
        let chosen = try selected()
        let costs = chosen.map(measure)
        try output.show(presentation(costs), report: StageReport(stages: costs))
        guard let limits else { return }
        let problems = limits.problems(with: costs)
        guard problems.isEmpty else {
            for problem in problems { progress(problem) }
            throw ExitCode.failure
        }
    }

    private func selected() throws -> [any Stage] {
        let all = allStages()
        guard let stages else { return all }
        let beginnings = stages.split(separator: ",")
        for beginning in beginnings where !all.contains(where: { $0.name.hasPrefix(beginning) }) {
            let known = all.map(\.name).joined(separator: "; ")
            throw ValidationError("--stages: no stage begins with '\(beginning)': \(known).")
        }
        return all.filter { stage in beginnings.contains { stage.name.hasPrefix($0) } }
    }

    private func measure(_ stage: any Stage) -> StageCost {
        let clock = ContinuousClock()
        var times: [Double] = []
        times.reserveCapacity(1 << 20)
        stage.prepare()
        stage.run()
        var allocations: UInt64 = 0
        let end = clock.now + .milliseconds(duration)
        repeat {
            stage.prepare()
            let before = allocation_count()
            let start = clock.now
            stage.run()
            let elapsed = clock.now - start
            allocations += allocation_count() - before
            times.append(Double(elapsed.components.attoseconds) / 1e9 / Double(stage.packets))
        } while clock.now < end && times.count < 1 << 20
        return StageCost(
            stage: stage.name, nanosecondsPerPacket: median(times) ?? .nan, least: times.min() ?? .nan,
            allocationsPerPacket: Double(allocations) / Double(times.count * stage.packets))
    }

    private func presentation(_ costs: [StageCost]) -> Presentation {
        var table = TextTable(["stage", "ns/packet", "least", "allocations/packet"])
        var chart = BarChart(
            title: "The data plane's parts", unit: "ns per packet of 1400 bytes, unless another size is said",
            series: ["median"])
        for cost in costs {
            table.add([
                cost.stage, cost.nanosecondsPerPacket.text(1), cost.least.text(1), cost.allocationsPerPacket.text(4),
            ])
            chart.groups.append(.init(cost.stage, [cost.nanosecondsPerPacket]))
        }
        return Presentation(tables: [table], chart: chart)
    }
}

private struct StageReport: Encodable {
    var machine = Machine()
    var stages: [StageCost]
}

/// The file that says how often a stage may allocate.
struct Thresholds: Decodable {
    var allocationsPerPacket: [String: Double]

    init(path: String) throws {
        let data: Data
        do { data = try Data(contentsOf: URL(fileURLWithPath: path)) } catch {
            throw ValidationError("--thresholds: \(path) cannot be read: \(error.localizedDescription)")
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do { self = try decoder.decode(Thresholds.self, from: data) } catch {
            throw ValidationError(
                "--thresholds: \(path) is not {\"allocations_per_packet\": {\"STAGE\": NUMBER, …}}: \(error)")
        }
    }

    func problems(with costs: [StageCost]) -> [String] {
        var problems: [String] = []
        for cost in costs {
            guard let limit = allocationsPerPacket[cost.stage] else {
                problems.append("\(cost.stage): no threshold; add it to allocations_per_packet")
                continue
            }
            if cost.allocationsPerPacket > limit {
                let found = cost.allocationsPerPacket.text(4)
                problems.append("\(cost.stage): \(found) allocations per packet, \(limit.text(4)) allowed")
            }
        }
        let known = Set(costs.map(\.stage))
        for stage in allocationsPerPacket.keys.sorted() where !known.contains(stage) {
            problems.append("\(stage): has a threshold but is no stage; remove it from allocations_per_packet")
        }
        return problems
    }
}
