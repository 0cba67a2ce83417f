import Testing
import TunnelCore

struct UsefulLinksTests {
    private func link(_ megabits: Double, loss: Double = 0, ms: Int64 = 20, measured: Bool = true)
        -> UsefulLinks.Observation
    {
        .init(rate: megabits * 125_000, isMeasured: measured, lossPermille: loss * 10, roundTrip: ms * 1000)
    }

    /// The choice ten times a second for so long.
    private func run(
        _ useful: inout UsefulLinks, _ links: [UsefulLinks.Observation], from start: Int64 = 1, seconds: Int
    ) -> UInt32 {
        var last: UInt32 = 0
        for step in 0...Int64(seconds) * 10 {
            last =
                useful.choose(from: (1 << UInt32(links.count)) - 1, now: start + step * 100 * millisecond) {
                    links[$0]
                }.useful
            #expect(last != 0)
        }
        return last
    }

    @Test func goodLinksStay() {
        var useful = UsefulLinks()
        #expect(run(&useful, [link(100), link(30, ms: 70), link(10, loss: 0.5)], seconds: 60) == 0b111)
    }

    @Test func aLossyLinkLeavesOnceItsLossLasts() {
        var useful = UsefulLinks()
        #expect(run(&useful, [link(50), link(50, loss: 5)], seconds: 1) == 0b11)
        #expect(run(&useful, [link(50), link(50, loss: 5)], from: second, seconds: 2) == 0b01)
    }

    @Test func aLinkThatLeftIsTriedAgainEverLater() {
        var useful = UsefulLinks()
        let lossy = [link(50), link(50, loss: 5)]
        var returns: [Int64] = []
        for step in 1...12_000 as ClosedRange<Int64> {
            if useful.choose(from: 0b11, now: step * 100 * millisecond, { lossy[$0] }).returned != 0 {
                returns.append(step / 10)
            }
        }
        #expect(zip(returns, returns.dropFirst()).allSatisfy { $1 - $0 > 50 } && (3...5).contains(returns.count))
        // It has recovered: at the next try it stays.
        #expect(run(&useful, [link(50), link(50)], from: 1201 * second, seconds: 500) == 0b11)
    }

    @Test func aSmallLinkIsNoStandardForALargeOne() {
        var useful = UsefulLinks()
        #expect(run(&useful, [link(3), link(34, loss: 1.5)], seconds: 30) & 0b10 != 0)
        useful = UsefulLinks()
        #expect(run(&useful, [link(2.4, ms: 4), link(19.5, ms: 160)], seconds: 30) & 0b10 != 0)
    }

    @Test func neverIsEveryLinkLeftOut() {
        var useful = UsefulLinks()
        // One is lossy, the other late.
        #expect(run(&useful, [link(46, loss: 2.6, ms: 3), link(19, ms: 300)], seconds: 30) != 0)
    }

    @Test func aLateLinkLeavesOnceItHasShownWhatItCarries() {
        var useful = UsefulLinks()
        let satellite = [link(50, ms: 14), link(10, ms: 300)]
        #expect(run(&useful, satellite, seconds: 0) == 0b01)
        useful = UsefulLinks()
        let unknown = [link(50, ms: 14), link(4, ms: 300, measured: false)]
        #expect(run(&useful, unknown, seconds: 2) == 0b11)
        #expect(run(&useful, unknown, from: 2 * second, seconds: 2) == 0b01)
        useful = UsefulLinks()
        let idle = [link(50, ms: 14), link(0.01, ms: 300, measured: false)]
        #expect(run(&useful, idle, seconds: 60) == 0b11, "what carries nothing does no harm")
    }

    @Test func theLastLinkServesWhateverItsPast() {
        var useful = UsefulLinks()
        _ = run(&useful, [link(50), link(50, loss: 5)], seconds: 5)
        #expect(useful.choose(from: 0b10, now: 6 * second) { _ in link(50, loss: 5) }.useful == 0b10)
    }
}
