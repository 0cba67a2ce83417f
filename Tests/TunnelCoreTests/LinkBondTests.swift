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

    /// An idle bond is reviewed less often.
    @Test func aBondKnowsWhetherAnythingWasSentSinceTheLastChoice() {
        var bond = bond(.adaptive, weights: [0, 0])
        let ways: [(inout LinkBond) -> Void] = [
            { _ = $0.pick(1400) }, { $0.charge(0b10, 1400) }, { _ = $0.pickSparse(100, flow: 7, now: second) },
        ]
        for send in ways {
            _ = bond.choose(among: 0b11, now: second)
            bond.begin(now: second)
            let before = bond.wasUsed
            send(&bond)
            let after = bond.wasUsed
            #expect(!before && after)
        }
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

    /// Of peers that drop copies, and with weights, as stock does; the adaptive policy spares a stock peer's buffer.
    @Test(arguments: [(LinkBond.Policy.adaptive, true), (.adaptive, false), (.weighted, true), (.weighted, false)])
    func whoIsToPutPacketsInOrder(_ policy: LinkBond.Policy, _ isOurs: Bool) {
        var bond = bond(policy, weights: [0, 0])
        for link in 0...1 {
            bond.observe(
                link, .init(roundTrip: 10_000, incomingLossPermille: 0, reports: isOurs, takesCopies: isOurs))
        }
        _ = bond.choose(among: 0b11, now: second)
        let isOrdered = bond.ordersAtPeer
        #expect(isOrdered == (isOurs || policy == .weighted))
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

    // MARK: Flows that send little

    private static let call: UInt32 = 0x1234_5678

    /// An adaptive bond of links with these round trips, milliseconds.
    private func bond(roundTrips: [Int64], limit: Double = 0) -> LinkBond {
        var bond = bond(.adaptive, weights: roundTrips.map { _ in 1_000_000 }, limit: limit)
        for (link, roundTrip) in roundTrips.enumerated() {
            bond.observe(
                link, .init(roundTrip: roundTrip * 1000, incomingLossPermille: 0, reports: true, takesCopies: true))
        }
        _ = bond.choose(among: (1 << UInt32(roundTrips.count)) - 1, now: second)
        bond.begin(now: second)
        return bond
    }

    @Test func aFlowThatSendsLittleTakesTheNearestLink() {
        var bond = bond(roundTrips: [40, 10])
        let links = (0..<500).map { tick in
            bond.pickSparse(200, flow: Self.call, now: second + tick * 20 * millisecond)
        }
        #expect(Set(links) == [1])
    }

    @Test func aFlowThatSendsMuchIsPutInOrderUntilItHasBeenQuiet() {
        var bond = bond(roundTrips: [40, 10])
        let burst = (0..<20).map { _ in bond.pickSparse(1400, flow: Self.call, now: second) }
        #expect(burst == Array(repeating: 1, count: 3) + Array(repeating: -1, count: 17))
        let soon = bond.pickSparse(100, flow: Self.call, now: second + 900 * millisecond)
        let other = bond.pickSparse(100, flow: ~Self.call, now: second + 900 * millisecond)
        let later = bond.pickSparse(100, flow: Self.call, now: second + 2000 * millisecond)
        #expect(soon == -1 && other == 1 && later == 1)
    }

    @Test func equalLinksShareWhatIsFarApartAndNotABurst() {
        var bond = bond(roundTrips: [10, 10])
        var now = second
        var links: Set<Int> = []
        for _ in 0..<20 {
            let first = bond.pickSparse(100, flow: Self.call, now: now)
            let next = bond.pickSparse(100, flow: Self.call, now: now)
            #expect(first >= 0 && first == next)
            links.insert(first)
            now += 20 * millisecond
        }
        #expect(links == [0, 1])
    }

    @Test func aLinkWithoutRoomLeavesAFlowToTheNextAndThenToTheQueue() {
        var bond = bond(roundTrips: [40, 10], limit: 100_000)
        var links: [Int] = []
        // So many callers that caps are used up.
        for caller in 0..<200 as Range<UInt32> {
            links.append(bond.pickSparse(1000, flow: caller << 24, now: second))
        }
        let nearest = links.prefix { $0 == 1 }.count
        let farther = links.dropFirst(nearest).prefix { $0 == 0 }.count
        #expect(nearest > 0 && farther > 0 && links.dropFirst(nearest + farther).allSatisfy { $0 == -1 }, "\(links)")
        #expect(links.last == -1)
    }

    @Test func oneLinkAndGivenWeightsKeepEverythingInOrder() {
        var alone = bond(roundTrips: [10])
        let one = alone.pickSparse(100, flow: Self.call, now: second)
        var weighted = bond(.weighted, weights: [1, 1])
        _ = weighted.choose(among: 0b11, now: second)
        let given = weighted.pickSparse(100, flow: Self.call, now: second)
        #expect(one == -1 && given == -1)
    }
}
