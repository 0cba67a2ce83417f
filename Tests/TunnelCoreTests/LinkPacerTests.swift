import Testing
import TunnelCore
import TunnelWire

/// A line with a rate and a queue without end, seen by its sender through echoes.
private struct Line {
    var rate: Double
    let delay: Int64
    /// More on the way there, from some moment on.
    var detour: Int64 = 0
    /// When it has sent what it was given so far.
    var busyUntil: Int64 = 0
    private var arrivals: [(sent: Int64, at: Int64)] = []

    init(megabits: Double, delay: Int64) {
        rate = megabits * 125_000
        self.delay = delay
    }

    /// The least that a datagram found waiting.
    var leastQueue = Int64.max

    mutating func send(_ bytes: Int, now: Int64) {
        leastQueue = min(leastQueue, max(0, busyUntil - now))
        busyUntil = max(busyUntil, now) + Int64(Double(bytes) / rate * 1e9)
        arrivals.append((now, busyUntil + delay + detour))
    }

    /// The echo of the last datagram that had arrived when it left.
    mutating func echo(now: Int64) -> LinkPacer.Echo? {
        guard let last = arrivals.lastIndex(where: { $0.at + delay <= now }) else { return nil }
        let (sent, at) = arrivals[last]
        arrivals.removeFirst(last)
        let queued = max(0, at - sent - delay - Int64(1500 / rate * 1e9))
        return .init(roundTrip: now - sent - (now - at - delay), queued: queued, least: queued)
    }
}

struct LinkPacerTests {
    /// Sends as much as it may, `offered` Mbit/s at most; what the line's queue held at the end, nanoseconds.
    private func drive(
        _ pacer: inout LinkPacer, _ line: inout Line, offered: Double, from start: Int64, seconds: Int = 0,
        milliseconds: Int64 = 0, echoEvery interval: Int64 = 5 * millisecond
    ) -> Int64 {
        let end = start + Int64(seconds) * second + milliseconds * millisecond
        var credit: Double = 0
        var lastEcho: Int64 = 0
        for now in stride(from: start, to: end, by: Int(millisecond / 2)) {
            pacer.advance(to: now)
            if let echo = line.echo(now: now), now - lastEcho >= interval {
                lastEcho = now
                pacer.take(echo, now: now)
            }
            credit = min(credit + offered * 62.5, 100_000)
            while credit >= 1500, pacer.isOpen(within: 10 * millisecond) {
                credit -= 1500
                pacer.sent(1500)
                line.send(1500, now: now)
            }
        }
        return max(0, line.busyUntil - end)
    }

    @Test func aLineThatIsNotFullHasNoPace() {
        var pacer = LinkPacer()
        var line = Line(megabits: 50, delay: 10 * millisecond)
        _ = drive(&pacer, &line, offered: 20, from: second, seconds: 5)
        #expect(pacer.capacity == 0 && pacer.isOpen(within: 0))
        #expect((2.3e6...2.7e6).contains(pacer.recentRate), "\(pacer.recentRate)")
    }

    @Test func aFullLinesRateIsFoundAndItsQueueKeptShort() {
        var pacer = LinkPacer()
        var line = Line(megabits: 20, delay: 15 * millisecond)
        let queue = drive(&pacer, &line, offered: 60, from: second, seconds: 5)
        #expect((2.3e6...2.7e6).contains(pacer.capacity), "\(pacer.capacity)")
        #expect(queue < 25 * millisecond, "\(queue / millisecond) ms")
    }

    @Test func aLineThatChangesIsFollowed() {
        var pacer = LinkPacer()
        var line = Line(megabits: 20, delay: 15 * millisecond)
        _ = drive(&pacer, &line, offered: 60, from: second, seconds: 5)
        line.rate /= 2
        _ = drive(&pacer, &line, offered: 60, from: 6 * second, seconds: 3)
        #expect((1.1e6...1.4e6).contains(pacer.capacity), "\(pacer.capacity)")
        line.rate *= 3
        _ = drive(&pacer, &line, offered: 60, from: 9 * second, seconds: 3)
        #expect((3.5e6...4.1e6).contains(pacer.capacity), "\(pacer.capacity)")
    }

    /// Another route is no queue: it does not make the line slower. With it the line may be filled as before.
    @Test func aLongerWayIsLearnt() {
        for isFull in [true, false] {
            var pacer = LinkPacer()
            var line = Line(megabits: 20, delay: 15 * millisecond)
            _ = drive(&pacer, &line, offered: isFull ? 60 : 10, from: second, seconds: 5)
            line.detour = 30 * millisecond
            _ = drive(&pacer, &line, offered: isFull ? 60 : 10, from: 6 * second, seconds: 3)
            #expect(abs(pacer.foreignDelay - line.detour) < 4 * millisecond, "\(pacer.foreignDelay)")
            let queue = drive(&pacer, &line, offered: 60, from: 9 * second, seconds: 3)
            #expect((2.3e6...2.7e6).contains(pacer.recentRate), "\(pacer.recentRate)")
            #expect(queue < 25 * millisecond, "\(queue / millisecond) ms")
            // The old way again.
            line.detour = 0
            _ = drive(&pacer, &line, offered: 60, from: 12 * second, seconds: 12)
            #expect(pacer.foreignDelay < 4 * millisecond, "\(pacer.foreignDelay)")
        }
    }

    /// A queue that never empties is made to, now and then; sending loses little by it.
    @Test func aQueueThatStandsForLongIsEmptied() {
        var pacer = LinkPacer()
        var line = Line(megabits: 20, delay: 15 * millisecond)
        _ = drive(&pacer, &line, offered: 60, from: second, seconds: 8)
        var isEmptied = false
        for tenth in 0..<40 as Range<Int64> {
            let start = 9 * second + tenth * 100 * millisecond
            _ = drive(&pacer, &line, offered: 60, from: start, milliseconds: 100)
            isEmptied = isEmptied || line.leastQueue < millisecond
            line.leastQueue = .max
        }
        #expect(isEmptied)
        #expect(pacer.foreignDelay == 0)
        #expect((2.3e6...2.7e6).contains(pacer.capacity), "\(pacer.capacity)")
    }

    /// As when the machine had no time for either end, and has again: the path was never narrow.
    @Test func aPathThatIsEmptyAfterAllIsUsedSoon() {
        var pacer = LinkPacer()
        var line = Line(megabits: 20, delay: 1 * millisecond)
        _ = drive(&pacer, &line, offered: 40, from: second, seconds: 5)
        #expect(abs(pacer.capacity - 2_500_000) < 500_000)
        line.rate = 1000 * 125_000
        _ = drive(
            &pacer, &line, offered: 400, from: 6 * second, seconds: 1, echoEvery: 10 * millisecond)
        #expect(pacer.recentRate > 40_000_000)
    }

    @Test func echoesThatCannotBeAreHarmless() {
        var pacer = LinkPacer()
        for value in [Int64.min / 4, -1, 0, 1, 5 * second, Int64.max / 4] {
            for queued in [0, 1, second, 70 * second] as [Int64] {
                pacer.take(.init(roundTrip: value, queued: queued, least: queued), now: second)
                pacer.sent(1500)
                #expect(pacer.capacity >= 0 && pacer.capacity.isFinite && pacer.delay >= 0)
            }
        }
    }
}

/// What a link is measured by before it is used.
struct UnusedLinkTests {
    @Test func whatIsSentToMeasureByFillsNothing() {
        var pacer = LinkPacer()
        var received: UInt32 = 0
        for step in 1...100 as ClosedRange<Int64> {
            let now = second + step * 100 * millisecond
            pacer.advance(to: now)
            received += 440
            var echo = LinkPacer.Echo(
                roundTrip: 300 * millisecond, queued: 120 * millisecond, least: 120 * millisecond)
            echo.received = (received, now)
            echo.hasOverflowed = step % 7 == 0
            pacer.take(echo, now: now)
        }
        #expect(pacer.capacity == 0)
    }

    @Test func aTrainTellsOfAnUnusedLinkAlone() {
        var pacer = LinkPacer()
        pacer.learn(2_000_000)
        #expect(pacer.capacity == 2_000_000)
        pacer.learn(500_000)
        #expect(pacer.capacity == 500_000, "it rests")
        var received: UInt32 = 0
        for step in 1...200 as ClosedRange<Int64> {
            let now = second + step * 10 * millisecond
            pacer.advance(to: now)
            pacer.sent(4000)
            received += 4000
            var echo = LinkPacer.Echo(roundTrip: 20 * millisecond, queued: 0, least: 0)
            echo.received = (received, now)
            pacer.take(echo, now: now)
        }
        let before = pacer.capacity
        pacer.learn(5_000_000)
        #expect(pacer.capacity == before, "it is in use")
    }
}

struct RateLimitTests {
    @Test func aCapHoldsAndIsNotOwedForLong() {
        var limit = RateLimit()
        limit.bytesPerSecond = 1e6
        var sent = 0
        for tick in 0..<2000 as Range<Int64> {
            limit.refill(now: second + tick * millisecond)
            while limit.isOpen {
                limit.sent(1500)
                sent += 1500
            }
        }
        #expect((1_950_000...2_050_000).contains(sent))
        for _ in 0..<10_000 { limit.sent(1500) }
        #expect(limit.isExceeded)
        limit.refill(now: 3 * second + 200 * millisecond)
        #expect(limit.isOpen && !limit.isExceeded)
    }

    @Test func withoutACapEverythingIsOpen() {
        var limit = RateLimit()
        limit.sent(1 << 30)
        #expect(limit.isOpen && !limit.isExceeded && limit.nextOpening(now: 7) == 7)
    }
}

struct PathReportsTests {
    private func report(_ packets: UInt64, lost: UInt64 = 0, delay: UInt16, at ms: UInt32) -> ReceiverReport {
        ReceiverReport(
            highestSequence: packets, packets: packets - lost, bytes: (packets - lost) * 1400, time: ms * 1000,
            delay: delay, minimumDelay: delay)
    }

    @Test func aLineLosesWhatItLoses() {
        var reports = PathReports()
        var lost: UInt64 = 0
        for step in 1...200 as ClosedRange<UInt64> {
            if step % 2 == 0 { lost += 1 }
            reports.take(
                report(step * 20, lost: lost, delay: 500, at: UInt32(step * 20)), now: Int64(step) * 20 * millisecond)
        }
        #expect((15...35).contains(reports.lossPermille), "\(reports.lossPermille)")
        #expect(reports.overflow == second)
    }

    @Test func aQueueThatOverflowsIsKeptShorter() {
        var reports = PathReports()
        reports.take(report(20, delay: 500, at: 20), now: 20 * millisecond)
        reports.take(report(60, delay: 540, at: 40), now: 40 * millisecond)
        #expect(reports.queued == 40 * millisecond)
        reports.take(report(100, lost: 10, delay: 540, at: 60), now: 60 * millisecond)
        #expect(reports.hasOverflowed && reports.overflow == 30 * millisecond && reports.lossPermille == 0)
    }

    /// Delays that vary by themselves are no queue of small datagrams: what gets lost then is the line's.
    @Test func littleTrafficOverflowsNoQueue() {
        var reports = PathReports()
        for step in 1...30 as ClosedRange<UInt64> {
            var small = report(step * 10, lost: step / 3, delay: 500 + UInt16(step % 5) * 20, at: UInt32(step * 100))
            small.bytes = (small.packets) * 44
            reports.take(small, now: Int64(step) * 100 * millisecond)
        }
        #expect(reports.overflow == second && !reports.hasOverflowed)
        #expect((20...45).contains(reports.lossPermille), "\(reports.lossPermille)")
        #expect(reports.likelyLossPermille < reports.lossPermille)
    }
}
