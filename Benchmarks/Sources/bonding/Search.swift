import ArgumentParser
import BenchmarkKit
import TunnelTestKit

struct Search: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Random mixes of lines in virtual time: where does a bond carry less than its best line?",
        discussion: """
            Each seed draws 2 to 4 lines and 1 or 8 TCP flows; the bond is compared with each line alone. The flows begin \
            when the bond has been up for 15 s. Needs no privileges and no network. The worst cases are printed, each with its seed.
            """)

    @Option(help: "The first seed.")
    var seed: UInt64 = 1

    @Option(help: "Mixes to try.")
    var count = 100

    @Option(help: "Worst cases to print.")
    var worst = 10

    @Option(
        help: ArgumentHelp(
            "Instead of random mixes: this one, lines apart by '|', in the emulator's words.", valueName: "lines"))
    var lines: String?

    @Option(
        help: ArgumentHelp(
            "What becomes of one of --lines: milliseconds from when the flows begin, its number from 1, the emulator's words, as in "
                + "'6000 2 delay=40ms'. May be given several times.", valueName: "change"))
    var change: [String] = []

    @Option(help: "TCP flows through --lines.")
    var flows = 8

    @Flag(help: "The receiver is stock MLVPN.")
    var stock = false

    @Option(help: "Virtual seconds before measuring.")
    var warmUp: Int64 = 4

    @Option(help: "Virtual seconds of measuring.")
    var duration: Int64 = 8

    @Option(help: "Measurements of each, of which the median counts; each has other losses.")
    var repeats = 1

    private var time: BondTrial.Time {
        .init(warmUp: warmUp * 1_000_000_000, duration: duration * 1_000_000_000, repeats: repeats)
    }

    private var peer: BondSimulation.Peer { stock ? .stock : .ours }

    func validate() throws {
        guard (1...128).contains(flows) else { throw ValidationError("--flows is 1 to 128.") }
        guard (1...1_000_000).contains(count) else { throw ValidationError("--count is 1 to 1000000.") }
        guard (0...3600).contains(warmUp), (1...3600).contains(duration) else {
            throw ValidationError("--warm-up is 0 to 3600, --duration 1 to 3600.")
        }
        guard (1...99).contains(repeats) else { throw ValidationError("--repeats is 1 to 99.") }
        guard worst >= 1 else { throw ValidationError("--worst is at least 1.") }
    }

    private func lineChange(_ text: String, count: Int) throws -> BondSimulation.LineChange {
        let words = text.split(separator: " ", maxSplits: 2)
        guard words.count == 3, let time = Int64(words[0]), (0...86_400_000).contains(time), let line = Int(words[1]),
            (1...count).contains(line)
        else { throw ValidationError("--change is 'MILLISECONDS LINE WORDS', lines being 1 to \(count): '\(text)'") }
        return .init(at: time * 1_000_000, line: line - 1, settings: try PathSetting.parse(words[2]))
    }

    func run() throws {
        guard change.isEmpty || lines != nil else { throw ValidationError("--change needs --lines.") }
        if let lines {
            let conditions = try lines.split(separator: "|").map { try PathConditions($0) }
            guard !conditions.isEmpty else { throw ValidationError("--lines names no line.") }
            let changes = try change.map { try lineChange($0, count: conditions.count) }
            let trial = BondTrial(
                lines: conditions, changes: changes, flows: flows, peer: peer, time: time, seed: seed)
            return print(trial.description)
        }
        var trials: [BondTrial] = []
        for number in 0..<UInt64(count) { trials.append(BondTrial(seed: seed &+ number, peer: peer, time: time)) }
        trials.sort { $0.ratio < $1.ratio }
        for trial in trials.prefix(worst) { print(trial.description) }
        let below = trials.count { $0.ratio < 0.98 }
        print("\(below) of \(count) below 0.98 of the best line; median \(median(trials.map(\.ratio))?.text(3) ?? "-")")
    }
}
