import Testing
import TunnelCore

@Suite("Queue: CoDel's control law")
struct QueueControlLawTests {
    @Test func `drops start an interval after the target was exceeded and grow closer by the root of their number`() {
        let bench = QueueBench(limitPackets: 100_000, limitBytes: 1 << 30)
        var dropTimes: [Int64] = []
        var exceededAt: Int64?
        // Two packets come and one goes each 100 µs.
        for step in 1...40_000 as ClosedRange<Int64> {
            let now = step * 100_000
            bench.enqueue(1000, flow: 1, now: now)
            bench.enqueue(1000, flow: 1, now: now)
            let packet = bench.dequeue(now: now)
            if exceededAt == nil, now - packet!.enqueuedAt >= 5 * millisecond { exceededAt = now }
            dropTimes += bench.takeDropped().map { _ in now }
        }
        #expect(dropTimes.count > 300)
        var due = exceededAt! + 100 * millisecond
        for (index, time) in dropTimes.enumerated() {
            // The queue is looked at each 100 µs, and sums of rounded times may be a few nanoseconds early.
            #expect((-1000..<100_000).contains(time - due), "drop \(index)")
            due += Int64(100e6 / Double(index + 1).squareRoot())
        }
        #expect(bench.queue.drops == UInt64(dropTimes.count))
        #expect(bench.queue.overflows == 0)
    }

    @Test func `a queue below the target is never dropped from, however long it lasts`() {
        let bench = QueueBench()
        // 4 packets wait at any time: 4 ms.
        for _ in 0..<4 { bench.enqueue(1514, flow: 1, now: millisecond) }
        for step in 1...5000 as ClosedRange<Int64> {
            bench.enqueue(1514, flow: 1, now: step * millisecond)
            #expect(bench.dequeue(now: step * millisecond) != nil)
        }
        #expect(bench.queue.drops == 0)
    }

    @Test func `a delay above the target for less than an interval is a burst, and nothing is dropped`() {
        let bench = QueueBench()
        var now = second
        for _ in 0..<5 {
            for _ in 0..<100 { bench.enqueue(1514, flow: 1, now: now) }
            // 95 ms, of which 90 above the target.
            for _ in 0..<95 {
                now += millisecond
                #expect(bench.dequeue(now: now) != nil)
            }
            while bench.dequeue(now: now) != nil {}
            now += second
        }
        #expect(bench.queue.drops == 0)
    }

    @Test func `one packet's worth of backlog is no standing queue, however slow the link`() {
        let bench = QueueBench()
        bench.enqueue(1514, flow: 1, now: second)
        for step in 1...50 as ClosedRange<Int64> {
            bench.enqueue(1514, flow: 1, now: step * second)
            #expect(bench.dequeue(now: (step + 1) * second) != nil)
        }
        #expect(bench.queue.drops == 0)
        // With two behind the head it is one.
        bench.enqueue(1514, flow: 1, now: 51 * second)
        for step in 51...100 as ClosedRange<Int64> {
            bench.enqueue(1514, flow: 1, now: step * second)
            _ = bench.dequeue(now: (step + 1) * second)
        }
        #expect(bench.queue.drops > 0)
    }

    @Test func `a queue that drained starts its interval anew`() {
        let bench = QueueBench(limitPackets: 100_000, limitBytes: 1 << 30)
        var now: Int64 = 0
        func overload(for time: Int64) {
            let end = now + time
            while now < end {
                now += millisecond
                bench.enqueue(1514, flow: 1, now: now)
                bench.enqueue(1514, flow: 1, now: now)
                _ = bench.dequeue(now: now)
            }
        }
        overload(for: second)
        #expect(bench.queue.drops > 0)
        while bench.dequeue(now: now) != nil {}
        let drops = bench.queue.drops
        now += 10 * second
        overload(for: 100 * millisecond)
        #expect(bench.queue.drops == drops)
    }

    @Test func `a queue that was emptied for room starts its interval anew, too`() {
        let bench = QueueBench(limitPackets: 100_000, limitBytes: 1 << 30)
        for step in 1...1000 as ClosedRange<Int64> {
            bench.enqueue(1514, flow: 1, now: step * millisecond)
            bench.enqueue(1514, flow: 1, now: step * millisecond)
            _ = bench.dequeue(now: step * millisecond)
        }
        let drops = bench.queue.drops
        #expect(drops > 0)
        while !bench.isEmpty { bench.queue.shed() }
        #expect(bench.dequeue(now: second) == nil)
        for _ in 0..<50 { bench.enqueue(1514, flow: 1, now: 2 * second) }
        for _ in 0..<50 { #expect(bench.dequeue(now: 2 * second + 90 * millisecond) != nil) }
        #expect(bench.queue.drops == drops)
    }

    @Test func `target and interval can be changed while packets wait`() {
        let bench = QueueBench(limitPackets: 100_000, limitBytes: 1 << 30)
        func overload(from start: Int64, for time: Int64) {
            for now in stride(from: start, to: start + time, by: Int(millisecond)) {
                bench.enqueue(1514, flow: 1, now: now)
                bench.enqueue(1514, flow: 1, now: now)
                _ = bench.dequeue(now: now)
            }
        }
        bench.queue.target = 10 * second
        overload(from: second, for: 2 * second)
        #expect(bench.queue.drops == 0)
        bench.queue.target = 5 * millisecond
        overload(from: 3 * second, for: second)
        let drops = bench.queue.drops
        #expect(drops > 0)
        bench.queue.interval = 10 * millisecond
        overload(from: 4 * second, for: second)
        #expect(bench.queue.drops > 5 * drops)
    }

    @Test func `absurd times are bounded, and no sum overflows`() {
        let bench = QueueBench()
        bench.queue.target = .max
        bench.queue.interval = .max
        #expect(bench.queue.target == bench.queue.interval)
        let now = Int64.max / 2
        for step in 0..<200 { bench.enqueue(1514, flow: 1, now: now + Int64(step) * second) }
        #expect(bench.dequeue(now: now + 1000 * second) != nil)
        bench.queue.target = -1
        bench.queue.interval = -1
        #expect(bench.queue.target == 0 && bench.queue.interval == 0)
        var delivered = 1
        while bench.dequeue(now: now + 2000 * second) != nil { delivered += 1 }
        #expect(delivered + bench.takeDropped().count == 200)
        bench.queue.tune(bytesPerSecond: 0)
        bench.queue.tune(bytesPerSecond: .min)
        #expect(bench.queue.target > 1000 * second)
    }

    @Test(
        arguments: [
            Tuned(rate: 1_250_000_000, target: 5_000_000, interval: 100_000_000, quantum: 1514),
            Tuned(rate: 3_072_000, target: 5_000_000, interval: 100_000_000, quantum: 750),
            Tuned(rate: 605_600, target: 5_000_000, interval: 100_000_000, quantum: 300),
            Tuned(rate: 125_000, target: 24_224_000, interval: 119_224_000, quantum: 300),
            Tuned(rate: 16_000, target: 189_250_000, interval: 284_250_000, quantum: 300),
        ])
    func `on slow links the target is the time of two packets, and turns are short`(tuned: Tuned) {
        var queue = FairQueue()
        queue.tune(bytesPerSecond: tuned.rate)
        #expect(queue.target == tuned.target)
        #expect(queue.interval == tuned.interval)
        #expect(queue.quantum == tuned.quantum)
        // What waits for a farther link's packets may wait so much longer.
        queue.tune(bytesPerSecond: tuned.rate, lag: 7 * millisecond)
        #expect(queue.target == tuned.target + 7 * millisecond)
        #expect(queue.interval == tuned.interval + 7 * millisecond)
        #expect(queue.quantum == tuned.quantum)
    }

    struct Tuned {
        var rate: Int64
        var target: Int64
        var interval: Int64
        var quantum: Int
    }

    @Test func `a clock that stands still or steps back drops nothing`() {
        let bench = QueueBench()
        for step in 0..<500 { bench.enqueue(1514, flow: 1, now: 1000 * second - Int64(step) * second) }
        for _ in 0..<500 { #expect(bench.dequeue(now: second) != nil) }
        #expect(bench.queue.drops == 0)
    }
}
