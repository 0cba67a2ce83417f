import TunnelCore

/// A random mix of lines, and how a bond of them compares with the best of them.
public struct BondTrial: Sendable {
    /// Nanoseconds of virtual time before the measurement, and of it; and how often it is made, each time with other losses.
    /// What counts is the median.
    public struct Time: Sendable {
        public var warmUp: Int64
        public var duration: Int64
        public var repeats: Int

        public init(warmUp: Int64 = 4 * second, duration: Int64 = 8 * second, repeats: Int = 1) {
            self.warmUp = warmUp
            self.duration = duration
            self.repeats = repeats
        }
    }

    public var seed: UInt64
    public var lines: [PathConditions]
    public var flows: Int
    public var peer: BondSimulation.Peer
    public var time: Time
    public var changes: [BondSimulation.LineChange] = []
    /// Bits per second over each line alone, and over all.
    public var alone: [Double]
    public var bond: Double

    /// To the best line alone.
    public var ratio: Double { bond / (alone.max() ?? .nan) }

    /// Draws 2 to 4 lines that somebody might have: ADSL to fibre, LTE, satellite, each with a drop-tail queue.
    ///
    /// - Parameter mostMegabits: of the fastest line; what is faster takes longer to simulate.
    public init(seed: UInt64, mostMegabits: Double = 60, peer: BondSimulation.Peer = .ours, time: Time = Time()) {
        self.time = time
        self.peer = peer
        var generator = SeededGenerator(seed: seed)
        let count = generator.chance(0.6) ? 2 : generator.chance(0.6) ? 3 : 4
        lines = (0..<count).map { _ in
            var line = PathConditions()
            line.rate = UInt64(Self.spread(&generator, 2, mostMegabits) * 1e6)
            line.delay = UInt64(Self.spread(&generator, 1, 200) * 1e6)
            line.queue = .duration(UInt64(Self.spread(&generator, 20, 300) * 1e6))
            if generator.chance(0.3) { line.jitter = UInt64(Double(line.delay) * generator.unit() * 0.3) }
            if generator.chance(0.3) { line.loss = Self.spread(&generator, 0.0005, 0.05) }
            return line
        }
        flows = generator.chance(0.5) ? 1 : 8
        self.seed = seed
        alone = []
        bond = 0
        run()
    }

    /// Given lines.
    public init(
        lines: [PathConditions], changes: [BondSimulation.LineChange] = [], flows: Int,
        peer: BondSimulation.Peer = .ours, time: Time = Time(), seed: UInt64
    ) {
        self.changes = changes
        self.time = time
        self.peer = peer
        self.lines = lines
        self.flows = flows
        self.seed = seed
        alone = []
        bond = 0
        run()
    }

    private mutating func run() {
        alone = lines.enumerated().map { index, line in
            let own = changes.filter { $0.line == index }
            return goodput([line], own.map { .init(at: $0.at, line: 0, settings: $0.settings) })
        }
        bond = goodput(lines, changes)
    }

    private func goodput(_ lines: [PathConditions], _ changes: [BondSimulation.LineChange]) -> Double {
        let results = (0..<UInt64(time.repeats)).map { number in
            var simulation = BondSimulation(lines: lines, flows: flows, peer: peer, seed: seed &+ number &* 1_000_003)
            simulation.warmUp = time.warmUp
            simulation.duration = time.duration
            simulation.changes = changes
            return simulation.goodput()
        }
        return results.sorted()[time.repeats / 2]
    }

    /// Spread evenly over orders of magnitude.
    private static func spread(_ generator: inout SeededGenerator, _ least: Double, _ most: Double) -> Double {
        var value = least
        // 2^(unit * log2(most / least)) without a mathematics library: in 64 equal steps of ratio.
        var ratio = most / least
        var step = 0.5
        while step > 1.0 / 4096 {
            ratio = ratio.squareRoot()
            if generator.unit() < 0.5 { value *= ratio }
            step /= 2
        }
        return value
    }

    public var description: String {
        let texts = lines.map { line in
            var text = "\(Self.tenths(Double(line.rate) / 1e6)) Mbit/s \(Self.tenths(Double(line.delay) / 1e6)) ms"
            if line.jitter > 0 { text += " jitter \(Self.tenths(Double(line.jitter) / 1e6)) ms" }
            if line.loss > 0 { text += " loss \(Self.tenths(line.loss * 100)) %" }
            if case .duration(let queue) = line.queue { text += " queue \(Self.tenths(Double(queue) / 1e6)) ms" }
            return text
        }
        let rates = alone.map { Self.tenths($0 / 1e6) }.joined(separator: " + ")
        return "seed \(seed), \(flows) flow(s), \(texts.joined(separator: " | ")): alone \(rates), "
            + "bond \(Self.tenths(bond / 1e6)), \(Self.tenths(ratio * 100)) % of the best"
    }

    private static func tenths(_ value: Double) -> String {
        guard value.isFinite else { return "-" }
        let scaled = Int((value * 10).rounded())
        return "\(scaled / 10).\(scaled % 10)"
    }
}
