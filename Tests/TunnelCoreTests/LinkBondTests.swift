import Testing
import TunnelCore

struct LinkBondTests {
    private func bond(_ policy: LinkBond.Policy, weights: [UInt64], limit: Double = 0) -> LinkBond {
        var bond = LinkBond()
        bond.policy = policy
        for (link, weight) in weights.enumerated() { bond.configure(link, weight: weight, limit: limit) }
        return bond
    }

    @Test func onlyLinksThatMayBeUsedArePicked() {
        var bond = bond(.weighted, weights: [1_000_000, 1_000_000, 1_000_000])
        let changed = bond.choose(among: 0b101, now: second)
        let eligible = bond.eligible
        #expect(changed && eligible == 0b101)
        bond.begin(now: second)
        let picked = Set((0..<300).map { _ in bond.pick(1400) })
        #expect(picked == [0, 2])
        bond.remove(2)
        let again = Set((0..<300).map { _ in bond.pick(1400) })
        #expect(again == [0])
        let last = bond.choose(among: 0, now: second)
        let none = bond.pick(1400)
        #expect(last && none == -1)
    }

    @Test func weightsShareTheTraffic() {
        var bond = bond(.weighted, weights: [3_000_000, 1_000_000])
        _ = bond.choose(among: 0b11, now: second)
        bond.begin(now: second)
        var counts = [0, 0]
        for _ in 0..<4000 { counts[bond.pick(1400)] += 1 }
        #expect((2700...3300).contains(counts[0]), "\(counts)")
    }

    @Test func aCapHoldsEvenWhereNothingIsMeasured() {
        var bond = bond(.weighted, weights: [0], limit: 1_000_000)
        _ = bond.choose(among: 1, now: second)
        var sent = 0
        for tick in 0..<2000 as Range<Int64> {
            let now = second + tick * millisecond
            bond.begin(now: now)
            while bond.pick(1000) == 0 { sent += 1000 }
            let deadline = bond.deadline(now: now)
            #expect(deadline < .max)
        }
        // Two seconds at 1 MB/s, and what a cap lets through at once.
        #expect((1_950_000...2_150_000).contains(sent), "\(sent)")
    }

    @Test func aLinkThatBeginsAnewKeepsItsWeightAndCap() {
        var bond = bond(.weighted, weights: [5_000_000], limit: 0)
        bond.reset(0)
        let kept = bond.weights.map(\.weight)
        #expect(kept == [5_000_000])
        bond.configure(1, weight: 0, limit: 0)
        // One without any makes all equal.
        let equal = bond.weights.map(\.weight)
        #expect(equal.count == 2 && Set(equal).count == 1)
    }
}
