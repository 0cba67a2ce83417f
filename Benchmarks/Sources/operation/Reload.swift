import ArgumentParser
import BenchmarkKit
import Foundation
import TunnelTestKit

struct Reload: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Random changes under traffic: no stream may lose a packet.",
        discussion: """
            Tunnels carry numbered UDP packets in both directions while tunnels are changed at random: these ones in \
            place, others in every way there is. A packet that does not arrive is told of with the change before it, and \
            what the kernel dropped and how late the generator was is told as well. Exit code 1 if anything was lost.
            """)

    @OptionGroup var traffic: TrafficOptions

    @Option(help: "Tunnels without a stream, which come, go and change.")
    var others = 16

    @Option(help: "Changes; 0: traffic without any, for --pause milliseconds.")
    var changes = 1000

    @Option(help: "Milliseconds between a change and the next.")
    var pause = 20

    @Option(help: "Of the random changes; default: another one each time.")
    var seed: UInt64?

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (0...4000).contains(others) else { throw ValidationError("--others is 0 to 4000.") }
        guard (0...1_000_000).contains(changes) else { throw ValidationError("--changes is 0 to 1000000.") }
        guard (0...3_600_000).contains(pause) else { throw ValidationError("--pause is 0 to 3600000.") }
    }

    func run() throws {
        interruptible()
        let directory = try traffic.directory()
        let seed = seed ?? UInt64.random(in: 1...999_999)
        progress("seed \(seed)")
        let (result, made) = try NetworkRig.with { rig in
            let stage = try Stage(traffic.shape(others: others), programs: directory, rig: rig)
            var made = Changes(stage, seed: seed)
            let result = try stage.whileStreaming {
                for number in 0..<changes {
                    try made.make()
                    if number % 100 == 99 { progress("\(number + 1) changes") }
                    usleep(UInt32(pause) * 1000)
                }
                if changes == 0 { usleep(UInt32(pause) * 1000) }
            }
            stage.daemon.stop()
            return (result, made)
        }
        var streams = TextTable(["tunnels", "changes"] + StreamResult.header)
        streams.add(["\(traffic.tunnels)", "\(changes)"] + result.row)
        var kinds = TextTable(["change", "number", "median ms", "most ms"])
        var chart = BarChart(title: "Changes under traffic", unit: "ms", series: ["median", "most"])
        for (kind, entries) in Dictionary(grouping: made.log, by: { $0.kind }).sorted(by: { $0.key < $1.key }) {
            let times = entries.map { Double($0.to - $0.from) / 1e6 }
            chart.groups.append(.init(kind, [median(times), times.max()]))
            kinds.add([kind, "\(times.count)", (median(times) ?? 0).text(1), (times.max() ?? 0).text(1)])
        }
        let losses = result.losses.map { loss in
            "tunnel \(Plan.name(loss.tunnel)) \(loss.isUpward ? "up" : "down"): \(loss.missing) lost, "
                + (loss.at.map(made.activity) ?? "")
        }
        try output.show(
            Presentation(
                preface: ["seed \(seed), \(result.seconds.text(1)) s"], tables: [streams, kinds],
                notes: losses + result.dropNotes, chart: chart),
            report: ReloadReport(
                seed: seed, changes: changes, packets: result.sent, lost: result.lost, unsent: result.unsent,
                losses: losses))
        if result.lost != 0 || result.unsent != 0 { throw ExitCode.failure }
    }
}

private struct ReloadReport: Encodable {
    var machine = Machine()
    var seed: UInt64
    var changes: Int
    var packets: Int
    var lost: Int
    var unsent: Int
    var losses: [String]
}

/// The tunnels with streams.
struct TrafficOptions: ParsableArguments {
    @Option(help: "Where this project's executables are.")
    var programs = "../.build/release"

    @Option(help: "Tunnels with a stream in each direction.")
    var tunnels = 64

    @Option(help: "How many of their customers run mlvpn; the others are simulated, as of the stock protocol.")
    var real = 4

    @Option(help: "Packets per second in each direction of each tunnel.")
    var rate = 200

    @Option(help: "Bytes of each packet's payload.")
    var size = 100

    func validate() throws {
        guard (1...4000).contains(tunnels) else { throw ValidationError("--tunnels is 1 to 4000.") }
        guard (0...min(tunnels, 64)).contains(real) else {
            throw ValidationError("--real is 0 to 64, and at most --tunnels.")
        }
        guard (1...2000).contains(rate) else { throw ValidationError("--rate is 1 to 2000.") }
        guard (Streams.headerSize...1300).contains(size) else {
            throw ValidationError("--size is \(Streams.headerSize) to 1300.")
        }
    }

    func directory() throws -> String { try executables(programs) }

    func shape(others: Int) -> Stage.Shape {
        Stage.Shape(tunnels: tunnels, others: others, real: real, rate: rate, size: size)
    }
}

/// The directory of the executables, which are all there.
func executables(_ programs: String) throws -> String {
    let directory = URL(fileURLWithPath: programs).standardizedFileURL.path
    if let obstacle = Concentrator(directory: directory).obstacle { throw RigError.unexpected(obstacle) }
    return directory
}
