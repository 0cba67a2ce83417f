import Testing
import TunnelCore

@Suite("Resequencer")
struct ResequencerTests {
    private let ms = millisecond
    private let start = 1000 * millisecond

    // MARK: Numbers that nobody should send

    @Test func `numbers at the end of the range are delivered at once and move nothing`() {
        let bench = OrderBench()
        for (id, sequence) in ([.max, .max - 1, 1 << 63, 1 << 62] as [UInt64]).enumerated() {
            bench.arrive(id, sequence, at: start)
        }
        #expect(bench.order == [0, 1, 2, 3])
        bench.arrive(10, 5, at: start)
        bench.arrive(11, .max, at: start)
        bench.arrive(13, 7, at: start)
        bench.arrive(12, 6, at: start)
        #expect(bench.order == [0, 1, 2, 3, 10, 11, 12, 13])
    }

    @Test(arguments: [1 << 13, 1 << 15, 1 << 20, 1 << 40, (1 << 62) - 1] as [UInt64])
    func `one number far ahead does not end the ordering of the others`(forged: UInt64) {
        let bench = OrderBench(limit: 1024)
        for id in 0..<10 { bench.arrive(id, UInt64(id), at: start) }
        bench.arrive(99, forged, at: start)
        for pair in 0..<50 {
            bench.arrive(11 + 2 * pair, UInt64(11 + 2 * pair), at: start + ms)
            bench.arrive(10 + 2 * pair, UInt64(10 + 2 * pair), at: start + ms)
        }
        #expect(bench.order == Array(0..<10) + [99] + Array(10..<110))
    }

    @Test func `one number far behind does not end the ordering of the others`() {
        let bench = OrderBench()
        for id in 0..<10 { bench.arrive(id, UInt64(1_000_000 + id), at: start) }
        bench.arrive(99, 3, at: start)
        bench.arrive(11, 1_000_011, at: start)
        bench.arrive(10, 1_000_010, at: start)
        #expect(bench.order == Array(0..<10) + [99, 10, 11])
    }

    @Test func `a packet that comes twice is delivered at once, and the first in its turn`() {
        let bench = OrderBench()
        bench.arrive(0, 0, at: start)
        bench.arrive(2, 2, at: start)
        #expect(bench.isHeld(2))
        #expect(!bench.isHeld(1))
        bench.arrive(102, 2, at: start)
        bench.arrive(1, 1, at: start)
        bench.arrive(101, 1, at: start)
        #expect(bench.order == [0, 102, 1, 2, 101])
        #expect(!bench.isHeld(2))
    }

    // MARK: Order

    @Test func `what comes in order goes straight through`() {
        let bench = OrderBench()
        for id in 0..<1000 {
            bench.take(id, UInt64(id + 77), at: start)
            #expect(bench.deliveries.count == id + 1)
        }
        #expect(bench.order == Array(0..<1000))
        #expect(bench.deadline(start) == .max)
    }

    @Test func `what comes in disorder goes out in order`() {
        let bench = OrderBench()
        for (id, sequence) in [(0, 0), (4, 4), (2, 2), (3, 3), (1, 1), (5, 5)] {
            bench.arrive(id, UInt64(sequence), at: start)
        }
        #expect(bench.order == [0, 1, 2, 3, 4, 5])
        #expect(bench.held == 0)
    }

    @Test func `what comes after its gap was given up is delivered at once`() {
        let bench = OrderBench()
        bench.arrive(0, 0, at: start)
        bench.arrive(2, 2, at: start)
        bench.pass(until: start + 200 * ms)
        #expect(bench.order == [0, 2])
        bench.arrive(1, 1, at: start + 200 * ms)
        #expect(bench.order == [0, 2, 1])
    }

    // MARK: Gaps

    @Test func `a gap on the only link is given up after 3 ms`() {
        let bench = OrderBench()
        bench.arrive(0, 0, at: start)
        bench.arrive(2, 2, at: start)
        #expect(bench.deadline(start) == start + Resequencer.leastGrace)
        bench.settle(start + Resequencer.leastGrace - 1)
        #expect(bench.order == [0])
        bench.settle(start + Resequencer.leastGrace)
        #expect(bench.order == [0, 2])
        #expect(bench.timeouts == 1)
    }

    @Test func `a gap is waited for while a link that carries traffic may bring it`() {
        let bench = OrderBench(holdTime: 50 * ms)
        bench.arrive(0, 0, link: 0, at: start)
        bench.arrive(1, 1, link: 1, at: start)
        // Link 1 lags; link 0 goes on.
        for id in 3...9 { bench.arrive(id, UInt64(id), link: 0, at: start + Int64(id) * ms) }
        bench.settle(start + 40 * ms)
        #expect(bench.order == [0, 1])
        bench.arrive(2, 2, link: 1, at: start + 41 * ms)
        #expect(bench.order == Array(0...9))
    }

    @Test func `a gap is given up once every link brought something later`() {
        let bench = OrderBench()
        bench.arrive(0, 0, link: 0, at: start)
        bench.arrive(1, 1, link: 1, at: start)
        bench.arrive(3, 3, link: 0, at: start)
        bench.arrive(4, 4, link: 1, at: start + ms)
        #expect(bench.order == [0, 1])
        bench.settle(start + ms + Resequencer.leastGrace)
        #expect(bench.order == [0, 1, 3, 4])
    }

    @Test func `a gap that has just shown itself keeps its grace when an older one ends`() {
        let bench = OrderBench()
        bench.arrive(0, 0, at: start)
        bench.arrive(2, 2, at: start)
        bench.arrive(4, 4, at: start + 2 * ms)
        bench.settle(start + 3 * ms)
        #expect(bench.order == [0, 2])
        bench.arrive(3, 3, at: start + 4 * ms)
        #expect(bench.order == [0, 2, 3, 4])
    }

    @Test func `a link that brought nothing for 300 ms of traffic is not waited for`() {
        let bench = OrderBench(holdTime: second)
        bench.arrive(0, 0, link: 1, at: start)
        for id in 1...29 { bench.arrive(id, UInt64(id), link: 0, at: start + Int64(10 * id) * ms) }
        bench.arrive(31, 31, link: 0, at: start + 290 * ms)
        bench.settle(start + 299 * ms)
        #expect(bench.order == Array(0...29))
        bench.settle(start + 300 * ms)
        #expect(bench.order == Array(0...29) + [31])
    }

    @Test func `a pause in which nothing comes at all does not make a link forgotten`() {
        let bench = OrderBench(holdTime: 50 * ms)
        bench.arrive(0, 0, link: 0, at: start)
        bench.arrive(1, 1, link: 1, at: start)
        // Link 1 takes 40 ms longer.
        let later = start + 10 * second
        bench.arrive(3, 3, link: 0, at: later)
        bench.pass(until: later + 39 * ms)
        bench.arrive(2, 2, link: 1, at: later + 40 * ms)
        #expect(bench.order == [0, 1, 2, 3])
    }

    @Test func `a link whose packets overtake each other is given more time, and no more than 60 ms`() {
        let bench = OrderBench()
        var now = start
        for round in 0..<20 {
            let first = 3 * round
            bench.arrive(first, UInt64(first), at: now)
            bench.arrive(first + 2, UInt64(first + 2), at: now)
            bench.pass(until: now + 10 * ms)
            bench.arrive(first + 1, UInt64(first + 1), at: now + 10 * ms)
            now += 20 * ms
        }
        #expect(bench.order == [0, 2, 1] + Array(3..<60))
        #expect(bench.grace > 10 * ms)
        #expect(bench.grace <= 60 * ms)
    }

    @Test func `the time given to disorder shrinks when there is none`() {
        let bench = OrderBench()
        bench.arrive(0, 0, at: start)
        bench.arrive(2, 2, at: start)
        bench.pass(until: start + 10 * ms)
        bench.arrive(1, 1, at: start + 10 * ms)
        #expect(bench.grace > Resequencer.leastGrace)
        for round in 1...20 {
            let now = start + Int64(6 * round) * second
            // A loss a time.
            bench.arrive(round, UInt64(2 + 2 * round), at: now)
            bench.pass(until: now + second)
        }
        #expect(bench.grace == Resequencer.leastGrace)
    }

    @Test func `a link that went away is not waited for`() {
        let bench = OrderBench(holdTime: second)
        bench.arrive(0, 0, link: 1, at: start)
        bench.arrive(1, 1, link: 0, at: start)
        bench.arrive(3, 3, link: 0, at: start)
        bench.settle(start + 10 * ms)
        #expect(bench.order == [0, 1])
        bench.forget(link: 1)
        bench.settle(start + 10 * ms)
        #expect(bench.order == [0, 1, 3])
    }

    @Test func `no packet waits longer than the hold time, however many gaps are in front of it`() {
        let bench = OrderBench(holdTime: 20 * ms)
        bench.arrive(0, 0, link: 1, at: start)
        // Every second packet went to a link that died.
        var arrivals: [Int: Int64] = [0: start]
        for number in 1...200 {
            let now = start + Int64(number) * ms / 2
            bench.pass(until: now)
            arrivals[2 * number] = now
            bench.arrive(2 * number, UInt64(2 * number), link: 0, at: now)
        }
        bench.pass(until: start + second)
        #expect(bench.order == (0...200).map { 2 * $0 })
        for delivery in bench.deliveries {
            #expect(delivery.time - (arrivals[delivery.id] ?? 0) <= 20 * ms, "packet \(delivery.id)")
        }
    }

    @Test func `a shorter hold time holds for what waits already`() {
        let bench = OrderBench(holdTime: second)
        bench.arrive(0, 0, link: 1, at: start)
        bench.arrive(2, 2, link: 0, at: start)
        bench.setHoldTime(20 * ms)
        #expect(bench.deadline(start) == start + 20 * ms)
    }

    // MARK: Size

    @Test func `the ring grows with need and keeps the order`() {
        let bench = OrderBench(limit: 4096)
        bench.take(0, 0, at: start)
        for id in (2...4095).reversed() { bench.take(id, UInt64(id), at: start) }
        #expect(bench.order == [0])
        #expect(bench.held == 4094)
        bench.arrive(1, 1, at: start)
        #expect(bench.order == Array(0...4095))
        #expect(bench.overflows == 0)
    }

    @Test func `a full ring gives up its oldest gap and no more`() {
        let bench = OrderBench(limit: 64)
        bench.take(0, 0, at: start)
        for id in 2...64 where id != 40 { bench.take(id, UInt64(id), at: start) }
        #expect(bench.order == [0])
        bench.take(65, 65, at: start)
        #expect(bench.overflows == 1)
        #expect(bench.order == [0] + Array(2...39))
        bench.take(40, 40, at: start)
        #expect(bench.order == [0] + Array(2...65))
        #expect(bench.mostHeld <= 64)
    }

    @Test func `after a jump beyond the ring the packets before it are still put in order`() {
        let bench = OrderBench(limit: 64)
        bench.take(0, 0, at: start)
        bench.take(9, 200, at: start)
        bench.take(7, 198, at: start)
        bench.take(8, 199, at: start)
        bench.settle(start + 4 * ms)
        #expect(bench.order == [0, 7, 8, 9])
    }

    // MARK: A peer that starts anew

    @Test func `what waited goes out before the first packet after a restart`() {
        for drains in [true, false] {
            let bench = OrderBench()
            bench.arrive(0, 100, at: start)
            bench.arrive(2, 102, at: start)
            bench.restart()
            if drains { bench.settle(start) }
            bench.take(10, 0, at: start)
            bench.take(12, 2, at: start)
            bench.take(11, 1, at: start)
            #expect(bench.order == [0, 2, 10, 11, 12])
        }
    }

    @Test func `a restart beyond the numbers before is in order too`() {
        let bench = OrderBench()
        bench.arrive(0, 100, at: start)
        bench.arrive(2, 102, at: start)
        bench.restart()
        bench.take(10, 110, at: start)
        bench.take(12, 112, at: start)
        bench.take(11, 111, at: start)
        #expect(bench.order == [0, 2, 10, 11, 12])
    }

    @Test func `a peer that counts from elsewhere is followed after 16 packets`() {
        for new in [5, 400_000] as [UInt64] {
            let bench = OrderBench()
            bench.arrive(0, 200_000, at: start)
            for id in 1...16 { bench.take(id, new + UInt64(id), at: start) }
            bench.take(17, new + 17, at: start)
            bench.take(19, new + 19, at: start)
            bench.take(18, new + 18, at: start)
            #expect(bench.order == Array(0...19))
        }
    }

    // MARK: Receive buffers

    @Test func `what waits can be moved to a pool`() {
        let bench = OrderBench()
        bench.arrive(0, 0, at: start)
        bench.arrive(2, 2, at: start)
        bench.arrive(5, 5, at: start)
        #expect(!bench.adopt(slots: 2, at: start))
        // Moved once, they stay where they are.
        #expect(!bench.adopt(slots: 0, at: start))
        bench.arrive(1, 1, at: start)
        bench.arrive(3, 3, at: start)
        bench.arrive(4, 4, at: start)
        #expect(bench.order == Array(0...5))
    }

    @Test func `an empty pool releases all, in order`() {
        let bench = OrderBench()
        bench.arrive(0, 0, at: start)
        bench.arrive(5, 5, at: start)
        bench.arrive(2, 2, at: start)
        #expect(bench.adopt(slots: 1, at: start))
        #expect(bench.order == [0, 2, 5])
        #expect(bench.held == 0)
        #expect(bench.overflows == 1)
        bench.arrive(7, 7, at: start)
        bench.arrive(6, 6, at: start)
        #expect(bench.order == [0, 2, 5, 6, 7])
    }
}
