import Testing
import TunnelCore

@Suite("Burst scheduler")
struct BurstSchedulerTests {
    /// The largest burst and packet: how far a link's share may be off at any moment.
    private static let slack = 2 * (64_000 + 1500)

    @Test func `without an eligible link there is none`() {
        var scheduler = BurstScheduler()
        #expect(pick(&scheduler, 100) == -1)
        configure(&scheduler, [1, 1], eligible: 0)
        #expect(scheduler.isEmpty)
        #expect(pick(&scheduler, 100) == -1)
        configure(&scheduler, [1, 1], eligible: 2)
        #expect(pick(&scheduler, 100) == 1)
        configure(&scheduler, [1, 1], eligible: 0)
        #expect(pick(&scheduler, 100) == -1)
    }

    @Test func `weights out of all bounds are survived`() {
        for weight in [0, 1, 1 << 34, 1 << 60, .max] as [UInt64] {
            var scheduler = BurstScheduler()
            let weights = (0..<32).map { (link: $0, weight: weight) }
            scheduler.configure(weights: weights + [(link: 32, weight: 1), (link: 1000, weight: .max)], eligible: .max)
            var bytes = [Int](repeating: 0, count: 32)
            for _ in 0..<3200 { bytes[pick(&scheduler, 1500)] += 1500 }
            #expect(bytes.allSatisfy { $0 > 0 })
        }
    }

    @Test func `an eligible link without a weight takes part`() {
        var scheduler = BurstScheduler()
        scheduler.configure(weights: [], eligible: 0b101)
        var links: Set<Int> = []
        for _ in 0..<20 { links.insert(pick(&scheduler, 1500)) }
        #expect(links == [0, 2])
    }

    @Test func `equal links take turns`() {
        var scheduler = BurstScheduler()
        configure(&scheduler, [7, 7, 7], eligible: 7)
        #expect((0..<9).map { _ in pick(&scheduler, 1500) } == [0, 1, 2, 0, 1, 2, 0, 1, 2])
    }

    @Test func `small weights are told apart`() {
        var scheduler = BurstScheduler()
        configure(&scheduler, [1, 3], eligible: 3)
        var bytes = [0, 0]
        for _ in 0..<4000 { bytes[pick(&scheduler, 1500)] += 1500 }
        #expect(bytes == [1_500_000, 4_500_000])
    }

    @Test func `a link a thousandfold slower than the other gets its part`() {
        var scheduler = BurstScheduler()
        configure(&scheduler, [8_000, 125_000_000], eligible: 3)
        var bytes = [0, 0]
        for _ in 0..<200_000 { bytes[pick(&scheduler, 1400)] += 1400 }
        let expected = 280_000_000 / 15_626
        #expect(abs(bytes[0] - expected) <= 2 * 1400 + 1500)
    }

    @Test func `packets of two sizes by turns do not favour a link`() {
        var scheduler = BurstScheduler()
        configure(&scheduler, [10, 10], eligible: 3)
        var bytes = [0, 0]
        for number in 0..<20_000 {
            let size = number % 2 == 0 ? 1500 : 60
            bytes[pick(&scheduler, size)] += size
        }
        #expect(abs(bytes[0] - bytes[1]) <= 6000)
    }

    @Test func `a link that returns gets no arrears`() {
        var scheduler = BurstScheduler()
        let weights = [(link: 0, weight: 10 as UInt64), (link: 1, weight: 10)]
        scheduler.configure(weights: weights, eligible: 1)
        for _ in 0..<10_000 { #expect(pick(&scheduler, 1500) == 0) }
        scheduler.configure(weights: weights, eligible: 3)
        var bytes = [0, 0]
        for _ in 0..<100 { bytes[pick(&scheduler, 1500)] += 1500 }
        #expect(bytes == [75_000, 75_000])
    }

    @Test func `bursts follow the rate, from one packet to 64 kB`() {
        var scheduler = BurstScheduler()
        configure(&scheduler, [10, 10], eligible: 3)
        #expect(longestRun(&scheduler) <= 2)
        // 10 ms at 10 Gbit/s, several times over.
        var now: Int64 = 0
        for _ in 0..<50 {
            for _ in 0..<8334 { _ = pick(&scheduler, 1500) }
            now += 10 * millisecond
            scheduler.observe(now: now)
        }
        let fast = longestRun(&scheduler)
        #expect(fast > 30)
        #expect(fast <= 64_000 / 1500 + 1)
        scheduler.observe(now: now + second)
        _ = longestRun(&scheduler)
        #expect(longestRun(&scheduler) <= 2)
    }

    @Test(arguments: 1...24 as ClosedRange<UInt64>)
    func `shares stay in proportion while links come and go`(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var scheduler = BurstScheduler()
        var now: Int64 = 0
        for round in 0..<12 {
            let count = random.number(1...32)
            let weights = (0..<count).map { (link: $0, weight: UInt64(random.number(1...1_000_000))) }
            var eligible = UInt32(truncatingIfNeeded: random.next() & (1 << UInt64(count)) &- 1)
            if random.oneIn(6) { eligible = 0 }
            scheduler.configure(weights: weights, eligible: eligible)
            let chosen = weights.filter { eligible & 1 << UInt32($0.link) != 0 }
            let total = chosen.reduce(0) { $0 + Double($1.weight) }
            var sent = [Int](repeating: 0, count: 32)
            var sum = 0
            for step in 0..<random.number(0...3000) {
                let size = random.number(60...1500)
                let link = pick(&scheduler, size)
                guard eligible != 0 else {
                    #expect(link == -1, "seed \(seed), round \(round), step \(step)")
                    continue
                }
                guard link >= 0, eligible & 1 << UInt32(link) != 0 else {
                    Issue.record("seed \(seed), round \(round), step \(step): link \(link) is not eligible")
                    return
                }
                sent[link] += size
                sum += size
                if random.oneIn(50) {
                    now += Int64(random.number(1...30)) * millisecond
                    scheduler.observe(now: now)
                }
            }
            for (link, weight) in chosen {
                let share = Double(sum) * Double(weight) / total
                #expect(
                    abs(Double(sent[link]) - share) <= Double(Self.slack), "seed \(seed), round \(round), link \(link)")
            }
        }
    }

    private func configure(_ scheduler: inout BurstScheduler, _ weights: [UInt64], eligible: UInt32) {
        scheduler.configure(weights: weights.enumerated().map { (link: $0, weight: $1) }, eligible: eligible)
    }

    private func pick(_ scheduler: inout BurstScheduler, _ size: Int) -> Int { scheduler.pick(size) }

    /// Packets of 1500 bytes in a row on one link.
    private func longestRun(_ scheduler: inout BurstScheduler) -> Int {
        var longest = 0
        var run = 0
        var last = -1
        for _ in 0..<500 {
            let link = scheduler.pick(1500)
            run = link == last ? run + 1 : 1
            last = link
            longest = max(longest, run)
        }
        return longest
    }
}
