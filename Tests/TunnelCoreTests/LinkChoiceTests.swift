import Testing
import TunnelCore

struct LinkChoiceTests {
    private func link(
        _ megabits: Double, loss: Double = 0, ms: Int64 = 20, measured: Bool = true, recent: Double? = nil
    ) -> LinkChoice.Observation {
        .init(
            capacity: measured ? megabits * 125_000 : 0, recentRate: (recent ?? megabits) * 125_000,
            lossPermille: loss * 10, roundTrip: ms * 1000)
    }

    /// The choice ten times a second for so long.
    private func run(
        _ choice: inout LinkChoice, _ links: [LinkChoice.Observation], flows: Double = 8, isBusy: Bool = true,
        from start: Int64 = 1, seconds: Int
    ) -> UInt32 {
        var last: UInt32 = 0
        for step in 0...Int64(seconds) * 10 {
            last = choice.choose(
                from: .max >> UInt32(32 - links.count), flows: flows, isBusy: isBusy,
                now: start + step * 100 * millisecond
            ) { links[$0] }
            #expect(last != 0)
        }
        return last
    }

    @Test func goodLinksShare() {
        var choice = LinkChoice()
        #expect(run(&choice, [link(100), link(30, ms: 70), link(10, loss: 0.05)], seconds: 10) == 0b111)
    }

    @Test func aLossyLinkIsLeftOutForTCP() {
        var choice = LinkChoice()
        #expect(run(&choice, [link(50, recent: 2), link(50, loss: 5, recent: 1)], flows: 1, seconds: 2) == 0b01)
    }

    @Test func manyFlowsMakeUpForLoss() {
        // One flow would not fill the near line; eight do, and the far one is small.
        var choice = LinkChoice()
        #expect(run(&choice, [link(45, loss: 1, ms: 7), link(4, ms: 300)], flows: 8, seconds: 2) == 0b01)
    }

    @Test func trafficThatDoesNotMindLossKeepsItsLinks() {
        // It carries ten times what TCP would.
        var choice = LinkChoice()
        let links = [link(20, loss: 4, ms: 60), link(20, loss: 5, ms: 60)]
        #expect(run(&choice, links, flows: 1, seconds: 20) == 0b11)
    }

    @Test func aMuchLaterLinkIsLeftOut() {
        var choice = LinkChoice()
        #expect(run(&choice, [link(50, ms: 14), link(10, ms: 300)], seconds: 2) == 0b01)
        #expect(run(&choice, [link(2, ms: 14), link(50, ms: 300)], seconds: 2) == 0b10, "unless it is the better one")
    }

    @Test func whoIsToLeaveIsGivenTime() {
        var choice = LinkChoice()
        #expect(run(&choice, [link(50), link(50)], flows: 1, seconds: 1) == 0b11)
        let now = 2 * second
        let lossy = [link(50, recent: 2), link(50, loss: 5, recent: 1)]
        #expect(choice.choose(from: 0b11, flows: 1, isBusy: true, now: now) { lossy[$0] } == 0b11)
        #expect(run(&choice, lossy, flows: 1, from: now, seconds: 1) == 0b01)
    }

    @Test func anIdleLinkIsTriedOnlyWhenSomethingIsShort() {
        let links = [link(10, ms: 10), link(0, ms: 300, measured: false)]
        var choice = LinkChoice()
        _ = run(&choice, links, isBusy: false, seconds: 5)
        #expect(choice.trial == 0)
        _ = run(&choice, links, isBusy: true, from: 6 * second, seconds: 0)
        #expect(choice.trial == 0b10)
        _ = run(&choice, links, isBusy: true, from: 6 * second, seconds: 4)
        #expect(choice.trial == 0, "a trial ends")
    }

    @Test func trialsGrowRare() {
        let links = [link(10, ms: 10), link(0, ms: 300, measured: false)]
        var choice = LinkChoice()
        var begins = 0
        var wasOn = false
        for step in 1...12_000 as ClosedRange<Int64> {
            _ = choice.choose(from: 0b11, flows: 1, isBusy: true, now: step * 100 * millisecond) { links[$0] }
            if choice.trial != 0, !wasOn { begins += 1 }
            wasOn = choice.trial != 0
        }
        #expect((3...7).contains(begins), "\(begins) in twenty minutes")
    }

    @Test func whoTakesNoCopiesIsNotTried() {
        var choice = LinkChoice()
        var idle = link(0, ms: 300, measured: false)
        idle.takesCopies = false
        _ = run(&choice, [link(10, ms: 10), idle], seconds: 5)
        #expect(choice.trial == 0)
    }

    @Test func theLastLinkServesWhateverItsPast() {
        var choice = LinkChoice()
        _ = run(&choice, [link(50), link(50, loss: 5)], flows: 1, seconds: 5)
        #expect(choice.choose(from: 0b10, flows: 1, isBusy: true, now: 6 * second) { _ in link(50, loss: 5) } == 0b10)
        #expect(choice.choose(from: 0, flows: 1, isBusy: true, now: 6 * second) { _ in link(50) } == 0)
    }

    @Test func manyLinksShare() {
        var choice = LinkChoice()
        #expect(run(&choice, (0..<8).map { _ in link(10) }, flows: 64, seconds: 1) == 0xff)
        var different = LinkChoice()
        let links = (0..<32).map { link(Double($0 + 1), ms: 20) }
        #expect(run(&different, links, flows: 512, seconds: 1) == .max)
    }

    @Test func ofManyLinksTheBadOnesStayOut() {
        var choice = LinkChoice()
        let links = (0..<8).map { $0 == 3 ? link(10, ms: 400) : $0 == 6 ? link(10, loss: 30) : link(10) }
        #expect(run(&choice, links, flows: 2, seconds: 3) == 0b1011_0111)
    }
}
