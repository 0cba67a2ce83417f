import Testing
import TunnelTestKit

private let microsecond: UInt64 = 1000
private let millisecond: UInt64 = 1_000_000
private let second: UInt64 = 1_000_000_000

/// A path with the packets that came out of it.
private struct Line {
    var path: EmulatedPath<Int>
    var arrivals: [(packet: Int, time: UInt64)] = []

    init(_ conditions: String, seed: UInt64 = 1) throws {
        path = EmulatedPath(try PathConditions(conditions), seed: seed)
    }

    mutating func run(to time: UInt64) {
        var got: [(Int, UInt64)] = []
        path.advance(to: time) { got.append(($0, $1)) }
        arrivals += got
    }

    /// Advances from event to event until nothing is left, as a program with a timer would.
    mutating func drain() {
        while let next = path.nextEvent {
            run(to: next)
        }
    }

    /// Offers packets of one size at fixed intervals, draining between them.
    mutating func offer(_ count: Int, bytes: Int, every interval: UInt64) {
        for packet in 0..<count {
            run(to: UInt64(packet) * interval)
            _ = path.offer(packet, bytes: bytes, at: UInt64(packet) * interval)
        }
        drain()
    }
}

@Suite struct EmulatedPathTests {
    @Test func aPerfectLinePassesEverythingAtOnce() throws {
        var line = try Line("")
        line.offer(3, bytes: 1000, every: 5)
        #expect(line.arrivals.map(\.packet) == [0, 1, 2])
        #expect(line.arrivals.map(\.time) == [0, 5, 10])
    }

    @Test func sendingTimeAndDelayAddUp() throws {
        // 1000 bytes at 8 Mbit/s take 1 ms.
        var line = try Line("rate=8mbit delay=10ms")
        for packet in 0..<3 {
            #expect(line.path.offer(packet, bytes: 1000, at: 0) == .accepted)
        }
        #expect(line.path.backlog == 3000)
        line.drain()
        #expect(line.arrivals.map(\.time) == [11, 12, 13].map { $0 * millisecond })
        #expect(line.path.nextEvent == nil)
    }

    @Test func overheadIsPaidAtTheBottleneckOnly() throws {
        var line = try Line("rate=8mbit overhead=1000")
        _ = line.path.offer(0, bytes: 1000, at: 0)
        line.drain()
        #expect(line.arrivals.map(\.time) == [2 * millisecond])
        #expect(line.path.counters.deliveredBytes == 1000)
    }

    @Test(arguments: [("queue=2p", 3), ("queue=2500", 3), ("queue=5ms", 6), ("queue=0p", 1), ("queue=1ms", 4)])
    func theQueueDropsItsTail(queue: String, accepted: Int) throws {
        // One packet is being sent, the rest is in the queue; 5 ms at 8 Mbit/s are 5000 bytes, and 3000 is the least.
        var line = try Line("rate=8mbit \(queue)")
        let outcomes = (0..<10).map { line.path.offer($0, bytes: 1000, at: 0) }
        #expect(outcomes == (0..<10).map { $0 < accepted ? .accepted : .overflowed })
        line.drain()
        #expect(line.arrivals.map(\.packet) == Array(0..<accepted))
        #expect(line.path.counters.overflowed == UInt64(10 - accepted))
    }

    @Test func theQueueHasRoomAgainWhenAPacketWasSent() throws {
        var line = try Line("rate=8mbit queue=1p")
        #expect(line.path.offer(0, bytes: 1000, at: 0) == .accepted)
        #expect(line.path.offer(1, bytes: 1000, at: 0) == .accepted)
        #expect(line.path.offer(2, bytes: 1000, at: millisecond - 1) == .overflowed)
        #expect(line.path.offer(3, bytes: 1000, at: millisecond) == .accepted)
    }

    @Test func anOverloadedLineCarriesItsRate() throws {
        var line = try Line("rate=10mbit delay=7ms queue=20ms")
        // 24 Mbit/s offered for 2 seconds.
        line.offer(4000, bytes: 1500, every: second / 2000)
        let first = try #require(line.arrivals.first?.time)
        let last = try #require(line.arrivals.last?.time)
        let bits = (line.arrivals.count - 1) * 1500 * 8
        #expect(abs(Double(bits) / Double(last - first) * 1e9 - 10e6) < 1000)
        // Nothing waits longer than the queue is long.
        for arrival in line.arrivals {
            let sent = UInt64(arrival.packet) * (second / 2000)
            #expect(arrival.time - sent <= (7 + 20 + 2) * millisecond)
        }
    }

    @Test func aChangeOfRateHoldsFromTheNextPacketOn() throws {
        var line = try Line("rate=8mbit")
        for packet in 0..<3 {
            _ = line.path.offer(packet, bytes: 1000, at: 0)
        }
        line.path.apply([.rate(4_000_000)], at: 500 * microsecond)
        line.drain()
        #expect(line.arrivals.map(\.time) == [1, 3, 5].map { $0 * millisecond })
    }

    @Test func jitterStaysInItsBoundsAndInOrder() throws {
        var line = try Line("delay=20ms jitter=5ms")
        line.offer(5000, bytes: 100, every: 100 * microsecond)
        #expect(line.arrivals.map(\.packet) == Array(0..<5000))
        let delays = line.arrivals.map { $0.time - UInt64($0.packet) * 100 * microsecond }
        #expect(delays.allSatisfy { (15 * millisecond...25 * millisecond).contains($0) })
        #expect(Set(delays).count > 100)
    }

    @Test func lossIsAsFrequentAsAsked() throws {
        var line = try Line("loss=5%")
        line.offer(100_000, bytes: 100, every: 10)
        #expect((4700...5300).contains(line.path.counters.lost))
        #expect(line.arrivals.count == 100_000 - Int(line.path.counters.lost))
    }

    @Test func burstsLoseRunsOfPackets() throws {
        // Bad a sixth of the time, five packets at a time.
        var line = try Line("burst=4%:20%")
        line.offer(100_000, bytes: 100, every: 10)
        let lost = Double(line.path.counters.lost)
        #expect((0.15...0.185).contains(lost / 100_000))
        let gaps = zip(line.arrivals, line.arrivals.dropFirst()).filter { $1.packet - $0.packet > 1 }.count
        #expect((4.5...5.5).contains(lost / Double(gaps)))
    }

    @Test func aLostPacketHasUsedTheBottleneck() throws {
        var line = try Line("rate=8mbit loss=100%")
        _ = line.path.offer(0, bytes: 1000, at: 0)
        line.path.apply([.loss(0)], at: 0)
        _ = line.path.offer(1, bytes: 1000, at: 0)
        line.drain()
        #expect(line.arrivals.last?.time == 2 * millisecond)
    }

    @Test func aBlackholeSwallowsTheQueueButNotWhatIsOnItsWay() throws {
        var line = try Line("rate=8mbit delay=10ms")
        for packet in 0..<3 {
            _ = line.path.offer(packet, bytes: 1000, at: 0)
        }
        line.path.apply([.blackhole(true)], at: millisecond)
        #expect(line.path.offer(3, bytes: 1000, at: 2 * millisecond) == .blackholed)
        line.run(to: 20 * millisecond)
        #expect(line.arrivals.map(\.packet) == [0])
        #expect(line.path.counters.blackholed == 3)
        line.path.apply([.blackhole(false)], at: 20 * millisecond)
        #expect(line.path.offer(4, bytes: 1000, at: 20 * millisecond) == .accepted)
        line.drain()
        #expect(line.arrivals.map(\.packet) == [0, 4])
    }

    @Test func onlyPacketsAboveTheMTUVanish() throws {
        var line = try Line("mtu=1400")
        #expect(line.path.offer(0, bytes: 1401, at: 0) == .tooBig)
        #expect(line.path.offer(1, bytes: 1400, at: 0) == .accepted)
        line.drain()
        #expect(line.arrivals.map(\.packet) == [1])
    }

    @Test func duplicatesArriveTwice() throws {
        var line = try Line("duplicate=100% delay=1ms")
        line.offer(3, bytes: 100, every: millisecond)
        #expect(line.arrivals.map(\.packet) == [0, 0, 1, 1, 2, 2])
    }

    @Test func reorderedPacketsAreOvertaken() throws {
        var line = try Line("delay=1ms reorder=10% reorder-delay=3ms")
        line.offer(1000, bytes: 100, every: millisecond)
        #expect(line.arrivals.count == 1000)
        let late = line.arrivals.filter { $0.time - UInt64($0.packet) * millisecond == 4 * millisecond }
        #expect(late.count == Int(line.path.counters.reordered))
        #expect((60...140).contains(late.count))
        #expect(line.arrivals.map(\.packet) != Array(0..<1000))
        #expect(line.arrivals.map(\.time) == line.arrivals.map(\.time).sorted())
    }

    @Test func oneSeedGivesOneRun() throws {
        let conditions =
            "rate=20mbit delay=5ms jitter=4ms loss=2% burst=1%:30% duplicate=1% reorder=1% queue=30ms"
        func run(seed: UInt64) throws -> [UInt64] {
            var line = try Line(conditions, seed: seed)
            line.offer(3000, bytes: 1200, every: 300 * microsecond)
            return line.arrivals.flatMap { [UInt64($0.packet), $0.time] }
        }
        let first = try run(seed: 7)
        #expect(try run(seed: 7) == first)
        #expect(try run(seed: 8) != first)
    }

    @Test(arguments: 0..<20 as Range<UInt64>)
    func nothingIsLostFromTheBooks(seed: UInt64) throws {
        // Whatever the conditions, and however they change: every packet is delivered or counted as something else,
        // and waking at nextEvent alone delivers each on its exact time.
        var generator = SeededGenerator(seed: seed)
        var line = try Line("rate=30mbit delay=8ms jitter=8ms queue=20p", seed: seed)
        let changes = [
            "rate=0", "rate=5mbit", "loss=10%", "delay=0ms", "blackhole=on", "blackhole=off", "mtu=600", "mtu=0",
            "reorder=20%", "duplicate=30%", "burst=10%:10%", "jitter=0ms", "delay=30ms", "queue=9000",
        ]
        var now: UInt64 = 0
        for packet in 0..<2000 {
            let next = now + UInt64.random(in: 0...(600 * microsecond), using: &generator)
            while let event = line.path.nextEvent, event <= next {
                let before = line.arrivals.count
                line.run(to: event)
                #expect(line.arrivals[before...].allSatisfy { $0.time == event })
            }
            now = next
            if generator.chance(0.05), let change = changes.randomElement(using: &generator) {
                line.path.apply(try PathSetting.parse(change), at: now)
            }
            _ = line.path.offer(packet, bytes: Int.random(in: 40...1500, using: &generator), at: now)
        }
        line.drain()
        let counters = line.path.counters
        #expect(counters.offered == 2000)
        #expect(
            counters.offered + counters.duplicated
                == counters.delivered + counters.lost + counters.blackholed + counters.tooBig + counters.overflowed)
        #expect(counters.delivered == UInt64(line.arrivals.count))
        #expect(line.path.backlog == 0)
    }
}
