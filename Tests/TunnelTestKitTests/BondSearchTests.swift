import Testing
import TunnelCore
import TunnelTestKit

/// The schedule against random mixes of lines, in virtual time.
struct BondSearchTests {
    private func line(_ words: String) throws -> PathConditions { try PathConditions(words) }

    @Test func aLineCarriesWhatItsRateAllows() throws {
        let goodput = BondSimulation(lines: [try line("rate=20mbit delay=10ms queue=100ms")], flows: 8, seed: 1)
            .goodput()
        // 1348 of 1472 bytes are payload; pacing keeps 2 % free, probing and filling cost a little more.
        #expect((0.86...0.916).contains(goodput / 20e6), "\(goodput / 20e6)")
    }

    @Test func equalLinesAddUp() throws {
        let line = try line("rate=10mbit delay=10ms queue=100ms")
        let trial = BondTrial(lines: [line, line], flows: 8, seed: 1)
        #expect(trial.ratio > 1.9, "\(trial.description)")
    }

    @Test func aLossyLineLimitsASingleFlow() throws {
        let clean = BondSimulation(lines: [try line("rate=20mbit delay=20ms queue=100ms")], flows: 1, seed: 1)
        let lossy = BondSimulation(lines: [try line("rate=20mbit delay=20ms queue=100ms loss=2%")], flows: 1, seed: 1)
        #expect(lossy.goodput() < clean.goodput() / 2)
    }

    /// Another route adds 30 ms that are no queue.
    @Test(arguments: [BondSimulation.Peer.ours, .stock])
    func aLineWhoseDelayGrowsCarriesWhatItDid(_ peer: BondSimulation.Peer) throws {
        var simulation = BondSimulation(lines: [try line("rate=20mbit delay=10ms")], flows: 8, peer: peer, seed: 1)
        simulation.changes = [.init(at: 4 * second, line: 0, settings: [.delay(UInt64(40 * millisecond))])]
        #expect(simulation.goodput() > 16e6)
        // And back.
        simulation.changes.append(.init(at: 7 * second, line: 0, settings: [.delay(UInt64(10 * millisecond))]))
        #expect(simulation.goodput() > 16e6)
    }

    @Test func jitterIsNoQueue() throws {
        let lines = [try line("rate=20mbit delay=30ms jitter=15ms queue=200ms")]
        var simulation = BondSimulation(lines: lines, flows: 8, seed: 1)
        simulation.warmUp = 8 * second
        #expect(simulation.goodput() > 16e6)
    }

    @Test func aLineThatBecomesSlowIsNotTakenForAFarOne() throws {
        var simulation = BondSimulation(
            lines: [try line("rate=20mbit delay=10ms queue=300ms"), try line("rate=10mbit delay=20ms")], flows: 8,
            seed: 1)
        simulation.changes = [.init(at: 2 * second, line: 0, settings: [.rate(4_000_000)])]
        #expect(simulation.goodput() > 11.5e6)
    }

    /// What trains tell before anything is sent: a flow that began on the nearer line would take it for all that there is.
    @Test(arguments: [
        ["rate=1mbit delay=5ms queue=100ms", "rate=20mbit delay=70ms queue=100ms"],
        ["rate=2mbit delay=2ms loss=0.5% queue=100ms", "rate=18mbit delay=38ms queue=50ms"],
        // The train has to be short for the second, and is of no use on the first.
        ["rate=20mbit delay=80ms jitter=20ms queue=100ms", "rate=0.7mbit delay=2ms queue=50ms"],
    ])
    func aSingleFlowBeginsWhereItCanGrow(_ words: [String]) throws {
        let trial = BondTrial(lines: try words.map(line), flows: 1, seed: 1)
        #expect(trial.ratio > 0.95, "\(trial.description)")
    }

    /// Nothing of the traffic would show it: the bond left that line alone.
    @Test func aLineThatBecomesFasterWhileItRestsIsTakenUp() throws {
        var simulation = BondSimulation(
            lines: [
                try line("rate=8mbit delay=10ms queue=100ms"), try line("rate=1mbit delay=90ms queue=100ms"),
            ], flows: 8, seed: 1)
        simulation.changes = [.init(at: 2 * second, line: 1, settings: [.rate(20_000_000)])]
        simulation.warmUp = 28 * second
        let found = simulation.goodput()
        simulation.answersTrains = false
        let unasked = simulation.goodput()
        #expect(found > 15e6 && unasked < 10e6, "\(found), \(unasked)")
    }

    /// Beside traffic that fills both lines, and that is put in order at the other end.
    @Test func whatSendsLittleDoesNotWaitForTheFartherLine() throws {
        let lines = [
            try line("rate=50mbit delay=5ms queue=100ms"), try line("rate=15mbit delay=30ms jitter=5ms queue=100ms"),
        ]
        var simulation = BondSimulation(lines: lines, flows: 8, seed: 1)
        simulation.probeInterval = 20 * millisecond
        let outcome = simulation.run()
        let delays = outcome.probeDelays.sorted()
        #expect(outcome.goodput > 57e6)
        #expect(delays.count > 390)
        #expect(delays[delays.count / 2] < 20 * millisecond)
        #expect(delays[delays.count * 99 / 100] < 30 * millisecond)
    }

    @Test func aSeedGivesTheSameTrialAgain() {
        let first = BondTrial(seed: 7, mostMegabits: 8)
        let second = BondTrial(seed: 7, mostMegabits: 8)
        #expect(first.alone == second.alone && first.bond == second.bond)
        #expect(first.bond != BondTrial(seed: 8, mostMegabits: 8).bond)
    }

    /// The aim is 0.98 of the best line for all of them. What is reached is held here; `bonding search` in Benchmarks tries
    /// as many mixes as one likes, and RESULTS.md says where it falls short.
    @Test func noMixIsFarWorseThanItsBestLine() {
        // Sixteen mixes, and two that are known to be hard.
        let seeds = Array(1...16 as ClosedRange<UInt64>) + [33, 36]
        let trials = seeds.map { BondTrial(seed: $0, mostMegabits: 8) }.sorted { $0.ratio < $1.ratio }
        for trial in trials.prefix(5) { print(trial.description) }
        #expect(trials[0].ratio >= 0.6, "\(trials[0].description)")
        #expect(trials[trials.count / 2].ratio >= 1, "\(trials[trials.count / 2].description)")
    }
}
