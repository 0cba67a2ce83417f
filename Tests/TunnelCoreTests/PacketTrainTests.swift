import Testing
import TunnelCore
import TunnelWire

/// A line that packet trains are sent over: serves datagrams one after the other, at a rate.
private struct TrainLine {
    /// Nanoseconds for each datagram.
    var gap: Int64
    /// Datagrams that the line takes at full speed before it serves them at its rate.
    var bucket = 0
    /// Datagrams that fit into its queue.
    var queue = Int.max
    /// Places that get lost.
    var loses: Set<Int> = []
    /// Nanoseconds by which arrivals vary; none overtakes another.
    var jitter: Int64 = 0
    private var random = SeededRandom(seed: 5)

    init(gap: Int64) { self.gap = gap }

    /// What a receiver makes of a train; nil: its last datagram did not come.
    mutating func carry(_ train: CapacityProbe.Train, at start: Int64, with meter: inout TrainMeter) -> TrainResult? {
        var result: TrainResult?
        var free = start
        var latest = start
        for place in 0..<train.count where place < queue && !loses.contains(place) {
            free += place < bucket ? 10_000 : gap
            let varied = jitter == 0 ? 0 : Int64(random.next() % UInt64(jitter))
            latest = max(latest, free + varied)
            result =
                meter.note(
                    TrainPlace(train: train.number, place: UInt8(place), count: UInt8(train.count)), now: latest)
                ?? result
        }
        return result
    }
}

struct TrainMeterTests {
    private func measure(_ line: TrainLine, count: Int) -> TrainResult? {
        var (line, meter) = (line, TrainMeter())
        return line.carry(.init(number: 9, count: count), at: 77 * second, with: &meter)
    }

    @Test func theGapIsTheLinesTimeForADatagram() throws {
        for count in [4, 8, 24, 64] {
            let result = try #require(measure(TrainLine(gap: 1_160_000), count: count))
            #expect(result.train == 9 && result.received == count)
            #expect(abs(Int(result.firstGap) - 1_160_000) < 10 && abs(Int(result.lastGap) - 1_160_000) < 10)
            #expect(result.gapError < 10)
        }
    }

    @Test func whatGetsLostDoesNotChangeTheGap() throws {
        var line = TrainLine(gap: 1_000_000)
        line.loses = [0, 3, 13, 20]
        let result = try #require(measure(line, count: 24))
        // Here what gets lost takes no time on the line: two of the second half do.
        #expect(result.received == 20)
        #expect((800_000...1_010_000).contains(result.lastGap), "\(result)")
    }

    @Test func aTrainWithoutItsLastIsNotAnswered() {
        var line = TrainLine(gap: 1_000_000)
        line.loses = [7]
        #expect(measure(line, count: 8) == nil)
    }

    @Test func aTokenBucketShowsInTheFirstHalfAlone() throws {
        var line = TrainLine(gap: 1_000_000)
        line.bucket = 30
        let result = try #require(measure(line, count: 64))
        #expect(result.firstGap < 200_000 && (990_000...1_010_000).contains(result.lastGap), "\(result)")
    }

    @Test func arrivalsThatVaryShowInTheError() throws {
        var line = TrainLine(gap: 100_000)
        line.jitter = 3 * millisecond
        let result = try #require(measure(line, count: 24))
        #expect(result.gapError > 5000, "\(result)")
    }

    /// A peer may say anything: one place again and again, a train of one.
    @Test func aPeerThatRepeatsPlacesIsAnsweredWithNothing() {
        var meter = TrainMeter()
        var last: TrainResult?
        for time in 0..<1000 as Range<Int64> {
            last = meter.note(TrainPlace(train: 1, place: 7, count: 8), now: second + time) ?? last
        }
        #expect(last == TrainResult(train: 1, received: 1, firstGap: 0, lastGap: 0, gapError: 0))
        #expect(meter.note(TrainPlace(train: 1, place: 0, count: 1), now: second) != nil, "a train of one")
    }

    @Test func anotherTrainBeginsAnew() throws {
        var meter = TrainMeter()
        for place in 0..<7 as Range<UInt8> {
            #expect(meter.note(TrainPlace(train: 1, place: place, count: 8), now: second) == nil)
        }
        var line = TrainLine(gap: 2_000_000)
        let carried = line.carry(.init(number: 2, count: 8), at: 2 * second, with: &meter)
        let result = try #require(carried)
        #expect(result.received == 8 && abs(Int(result.lastGap) - 2_000_000) < 10)
    }
}

struct CapacityProbeTests {
    private static let size = 1450
    private static let roundTrip = 40 * millisecond

    /// Sends what is due over a line until nothing is; what was found, and how many datagrams each train had.
    private func run(_ line: TrainLine, from now: Int64 = second) -> (found: CapacityProbe.Finding?, trains: [Int]) {
        var (line, probe, meter, now) = (line, CapacityProbe(), TrainMeter(), now)
        var trains: [Int] = []
        var found: CapacityProbe.Finding?
        probe.schedule(now)
        while probe.deadline != .max, trains.count < 20 {
            now = max(now, probe.deadline)
            guard let train = probe.next(size: Self.size, roundTrip: Self.roundTrip, now: now) else { continue }
            trains.append(train.count)
            guard let result = line.carry(train, at: now, with: &meter) else { continue }
            now += Self.roundTrip
            found = probe.take(result, now: now) ?? found
        }
        #expect(probe.hasEnded)
        return (found, trains)
    }

    private func isNear(_ found: CapacityProbe.Finding?, _ megabits: Double, within share: Double) -> Bool {
        guard case .capacity(let rate) = found else { return false }
        return abs(rate * 8e-6 - megabits) < megabits * share
    }

    /// Nanoseconds for a datagram at so many Mbit/s.
    private func gap(_ megabits: Double) -> Int64 { Int64(Double(Self.size * 8) / megabits * 1000) }

    @Test func aSlowLineIsNotKeptBusy() {
        let (found, trains) = run(TrainLine(gap: gap(2)))
        #expect(isNear(found, 2, within: 0.01) && trains == [8], "\(trains)")
    }

    @Test func aFasterLineTakesALongerTrain() {
        for rate in [20, 50, 100, 200] as [Double] {
            let (found, trains) = run(TrainLine(gap: gap(rate)))
            #expect(isNear(found, rate, within: 0.01), "\(rate)")
            #expect(trains.count <= 3 && trains.reduce(0, +) <= 8 + 24 + 64, "\(trains)")
        }
    }

    @Test func ofAVeryFastLineTheLeastIsKnown() {
        let (found, trains) = run(TrainLine(gap: 3000))
        guard case .atLeast(let rate) = found else {
            Issue.record("\(String(describing: found))")
            return
        }
        #expect(rate * 8e-6 > 200 && trains == [8, 64], "\(rate), \(trains)")
    }

    @Test func aQueueThatHoldsNoTrainIsAskedWithAShorterOne() {
        var line = TrainLine(gap: gap(2))
        line.queue = 5
        let (found, trains) = run(line)
        #expect(isNear(found, 2, within: 0.01) && trains == [8, 4], "\(trains)")
        line = TrainLine(gap: gap(40))
        line.queue = 12
        let (other, more) = run(line)
        #expect(isNear(other, 40, within: 0.01) && more.max() == 24, "\(more)")
    }

    @Test func whoNeverAnswersIsLeftAlone() {
        var line = TrainLine(gap: gap(2))
        line.queue = 0
        let (found, trains) = run(line)
        #expect(found == nil && (2...4).contains(trains.count), "\(trains)")
    }

    @Test func aTokenBucketIsSeenThrough() {
        var line = TrainLine(gap: gap(20))
        line.bucket = 20
        #expect(isNear(run(line).found, 20, within: 0.05))
    }

    /// Delays that vary by more than a train takes make it seem longer: it carries at least so much.
    @Test func jitterGivesABoundAndNoRate() {
        var line = TrainLine(gap: gap(60))
        line.jitter = 30 * millisecond
        switch run(line).found {
        case .atLeast(let rate): #expect(rate * 8e-6 < 60)
        case .capacity(let rate): #expect((45...75).contains(rate * 8e-6), "\(rate * 8e-6)")
        case nil: Issue.record("nothing was found")
        }
    }

    @Test func anAnswerToAnotherTrainSaysNothing() throws {
        var probe = CapacityProbe()
        probe.schedule(second)
        let early = probe.next(size: Self.size, roundTrip: Self.roundTrip, now: second - 1)
        #expect(early == nil)
        let due = probe.next(size: Self.size, roundTrip: Self.roundTrip, now: second)
        let train = try #require(due)
        let gap = UInt32(gap(2))
        let result = TrainResult(train: train.number, received: 8, firstGap: gap, lastGap: gap, gapError: 0)
        var other = result
        other.train &+= 1
        let findings = [
            probe.take(other, now: second), probe.take(result, now: second), probe.take(result, now: second),
        ]
        #expect(findings[0] == nil && findings[1] != nil && findings[2] == nil)
    }
}

struct BondTrainTests {
    private func bond(answers: Bool = true, roundTrips: [Int64?] = [10_000, 60_000]) -> LinkBond {
        var bond = LinkBond()
        for (link, roundTrip) in roundTrips.enumerated() {
            bond.configure(link, weight: 0, limit: 0)
            bond.observe(
                link,
                .init(
                    roundTrip: roundTrip, incomingLossPermille: 0, reports: true, takesCopies: true,
                    answersTrains: answers))
        }
        return bond
    }

    /// Links that trains are sent on now.
    private func trains(_ bond: inout LinkBond, now: Int64) -> [Int] {
        guard bond.areTrainsDue(now: now) else { return [] }
        return (0..<2).filter { bond.nextTrain(link: $0, size: 1400, now: now) != nil }
    }

    private func answer(_ bond: inout LinkBond, link: Int, megabits: Double, now: Int64) -> Bool {
        let gap = UInt32(1400 * 8 / megabits * 1000)
        return bond.take(
            TrainResult(train: 1, received: 8, firstGap: gap, lastGap: gap, gapError: 0), link: link, now: now)
    }

    @Test func newLinksAreAskedAtOnce() {
        var bond = bond()
        _ = bond.choose(among: 0b11, now: second)
        let asked = trains(&bond, now: second)
        let again = trains(&bond, now: second)
        #expect(asked == [0, 1] && again == [])
        let isKnown = answer(&bond, link: 0, megabits: 5, now: second)
        let rate = bond.capacity(of: 0)
        #expect(isKnown && abs(rate * 8e-6 - 5) < 0.01)
    }

    @Test func whereManyBeginTheyWaitForTheirTurnOrForTraffic() {
        var bond = bond()
        bond.trainDelay = 10 * second
        _ = bond.choose(among: 0b11, now: second)
        let early = trains(&bond, now: 2 * second)
        let due = bond.trainDeadline
        #expect(early == [] && due == 11 * second)
        // What sends little asks for nothing.
        bond.begin(now: 2 * second)
        _ = bond.pickSparse(100, flow: 1 << 30, now: 2 * second)
        let still = trains(&bond, now: 2 * second)
        #expect(still == [])
        _ = bond.pick(1400)
        let asked = trains(&bond, now: 2 * second)
        #expect(asked == [0, 1])
    }

    @Test func trainsAreForLinksThatMightShare() {
        var alone = bond()
        _ = alone.choose(among: 0b01, now: second)
        var stock = bond(answers: false)
        _ = stock.choose(among: 0b11, now: second)
        var weighted = bond()
        weighted.policy = .weighted
        _ = weighted.choose(among: 0b11, now: second)
        let due = [
            alone.areTrainsDue(now: 100 * second), stock.areTrainsDue(now: 100 * second),
            weighted.areTrainsDue(now: 100 * second),
        ]
        #expect(due == [false, false, false])
    }

    /// 2 Mbit/s, 170 ms behind 5 Mbit/s, are left out at once, and asked now and then while there is more to send.
    @Test func aLinkThatRestsIsAskedAgain() {
        var bond = bond(roundTrips: [10_000, 180_000])
        _ = bond.choose(among: 0b11, now: second)
        _ = trains(&bond, now: second)
        let found = [
            answer(&bond, link: 0, megabits: 5, now: second), answer(&bond, link: 1, megabits: 2, now: second),
        ]
        _ = bond.choose(among: 0b11, now: second)
        let chosen = bond.eligible
        #expect(found == [true, true] && chosen == 0b01)
        var asked: [Int64] = []
        for step in 0..<600 as Range<Int64> {
            let now = 2 * second + step * 100 * millisecond
            bond.begin(now: now)
            // Busy for the first half of a minute.
            while step < 300, bond.pick(1400) >= 0 {}
            bond.open(now: now)
            _ = bond.choose(among: 0b11, now: now)
            if trains(&bond, now: now).contains(1) {
                asked.append(now / second)
                _ = bond.take(
                    TrainResult(train: UInt8(asked.count + 1), received: 8, firstGap: 1, lastGap: 1, gapError: 0),
                    link: 1, now: now)
            }
        }
        #expect(asked.first == 21, "\(asked)")
        #expect(asked.allSatisfy { $0 < 33 }, "\(asked)")
    }

    /// Small datagrams follow the trains: 300 within some seconds, and not again.
    @Test func aNewLinksLossIsFoundOut() {
        var bond = bond()
        _ = bond.choose(among: 0b11, now: second)
        _ = trains(&bond, now: second)
        let early = bond.nextPings(link: 0, now: second)
        #expect(early == 0)
        _ = answer(&bond, link: 0, megabits: 5, now: second)
        var (sent, last): (Int, Int64) = (0, 0)
        for step in 0..<1000 as Range<Int64> {
            let now = second + step * 20 * millisecond
            _ = bond.choose(among: 0b11, now: now)
            guard bond.areTrainsDue(now: now) else { continue }
            let count = bond.nextPings(link: 0, now: now)
            #expect(count <= 10)
            sent += count
            if count > 0 { last = now }
            // Nobody answers the other one's trains.
            _ = bond.nextTrain(link: 1, size: 1400, now: now)
        }
        #expect(sent == 300 && (3 * second...5 * second).contains(last), "\(sent), \(last)")
    }

    /// A link that begins anew is asked anew, but not each time that it flaps.
    @Test func aLinkThatFlapsIsNotAskedEachTime() {
        var bond = bond()
        _ = bond.choose(among: 0b11, now: second)
        _ = trains(&bond, now: second)
        bond.reset(1)
        bond.observe(
            1, .init(roundTrip: 60_000, incomingLossPermille: 0, reports: true, takesCopies: true, answersTrains: true))
        _ = bond.choose(among: 0b11, now: 2 * second)
        let soon = trains(&bond, now: 3 * second)
        let later = trains(&bond, now: 12 * second)
        #expect(!soon.contains(1) && later.contains(1))
    }
}
