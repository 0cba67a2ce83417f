import Testing
import TunnelCore

@Suite("Queue: limits and memory")
struct QueueLimitTests {
    @Test func `a packet larger than the limit is dropped and handed back`() {
        let bench = QueueBench(limitBytes: 1000)
        let tag = bench.enqueue(1001, flow: 1, now: 0)
        #expect(bench.takeDropped() == [tag])
        #expect(bench.isEmpty && bench.queue.bytes == 0)
        #expect(bench.dequeue(now: 0) == nil)
        let fits = bench.enqueue(1000, flow: 1, now: 0)
        #expect(bench.dequeue(now: 0)?.tag == fits)
    }

    @Test(arguments: [0, -5])
    func `absurd limits are the smallest ones`(limit: Int) {
        let noBytes = QueueBench(limitBytes: limit)
        #expect(noBytes.enqueue(1, flow: 1, now: 0) == noBytes.takeDropped().first)
        #expect(noBytes.isEmpty)
        let onePacket = QueueBench(limitPackets: limit)
        onePacket.enqueue(100, flow: 1, now: 0)
        onePacket.enqueue(100, flow: 1, now: 0)
        #expect(onePacket.queue.count == 1)
        #expect(onePacket.takeDropped() == [0])
    }

    @Test func `packets and bytes never exceed the limits`() {
        var random = OffloadRandom(seed: 5)
        let bench = QueueBench(limitPackets: 100, limitBytes: 50_000)
        var mostPackets = 0
        var mostBytes = 0
        for step in 0..<5000 {
            // Some steps of small packets, some of large ones.
            let size = step / 500 % 2 == 0 ? random.number(0...60) : random.number(500...5000)
            bench.enqueue(size, flow: random.number(0...20), now: 0)
            mostPackets = max(mostPackets, bench.queue.count)
            mostBytes = max(mostBytes, bench.queue.bytes)
            if random.chance(10) { _ = bench.dequeue(now: 0) }
            _ = bench.takeDropped()
        }
        #expect(mostPackets == 100)
        #expect((40_000...50_000).contains(mostBytes))
    }

    @Test func `the flow with the most bytes pays for the lack of room, from its head`() {
        let bench = QueueBench(limitPackets: 200)
        for _ in 0..<50 { bench.enqueue(100, flow: 1, now: 0) }
        let first = bench.enqueue(1400, flow: 2, now: 0)
        for _ in 1..<100 { bench.enqueue(1400, flow: 2, now: 0) }
        for _ in 0..<50 { bench.enqueue(60, flow: 3, now: 0) }
        #expect(bench.takeDropped().isEmpty)
        bench.enqueue(60, flow: 4, now: 0)
        // Half of its bytes.
        #expect(bench.takeDropped() == Array(first..<first + 50))
        #expect(bench.queue.count == 151)
        #expect(bench.queue.overflows == 50)
    }

    @Test func `at most 64 packets are dropped at once`() {
        let bench = QueueBench(limitPackets: 1000)
        for _ in 0..<1000 { bench.enqueue(500, flow: 1, now: 0) }
        bench.enqueue(500, flow: 2, now: 0)
        #expect(bench.takeDropped() == Array(0..<64))
        #expect(bench.queue.count == 937)
    }

    @Test func `the limit in bytes holds even if half of the fattest flow is not enough`() {
        let bench = QueueBench(limitBytes: 10_000)
        for flow in 0..<100 { bench.enqueue(100, flow: flow, now: 0) }
        #expect(bench.queue.bytes == 10_000)
        bench.enqueue(5000, flow: 200, now: 0)
        // It is the fattest itself.
        #expect(bench.takeDropped() == [100])
        #expect(bench.queue.bytes == 10_000)
    }

    @Test func `a flood in one flow does not take packets from another`() {
        let bench = QueueBench(limitPackets: 300)
        for step in 0..<2000 {
            let now = Int64(step) * 100_000
            for _ in 0..<10 { bench.enqueue(1400, flow: 1, now: now) }
            let tag = bench.enqueue(100, flow: 2, now: now)
            #expect(!bench.takeDropped().contains(tag))
            var isServed = false
            for _ in 0..<3 where bench.dequeue(now: now)?.tag == tag { isServed = true }
            #expect(isServed)
        }
        #expect(bench.queue.overflows > 1000)
    }

    @Test func `shedding takes from the fattest flow, and from an empty queue nothing`() {
        let bench = QueueBench()
        bench.queue.shed()
        #expect(bench.takeDropped().isEmpty)
        bench.enqueue(100, flow: 1, now: 0)
        for _ in 0..<4 { bench.enqueue(200, flow: 2, now: 0) }
        bench.queue.shed()
        #expect(bench.takeDropped() == [1, 2])
        bench.queue.shed()
        #expect(bench.takeDropped() == [3])
        bench.queue.shed()
        bench.queue.shed()
        #expect(Set(bench.takeDropped()) == [0, 4])
        bench.queue.shed()
        #expect(bench.takeDropped().isEmpty)
        #expect(bench.isEmpty)
    }

    @Test func `of two equally fat flows the one that has had its turn pays`() {
        let bench = QueueBench()
        bench.enqueue(1514, flow: 1, now: 0)
        let old = bench.enqueue(500, flow: 1, now: 0)
        #expect(bench.dequeue(now: 0)?.tag == 0)
        #expect(bench.peekCount() == 500)
        let new = bench.enqueue(500, flow: 2, now: 0)
        bench.queue.shed()
        #expect(bench.takeDropped() == [old])
        bench.queue.shed()
        #expect(bench.takeDropped() == [new])
    }

    @Test func `packets without bytes are limited and handed back, too`() {
        let bench = QueueBench(limitPackets: 10)
        for _ in 0..<25 { bench.enqueue(0, flow: 1, now: 0) }
        #expect(bench.queue.count == 10)
        var tags = bench.takeDropped()
        while let packet = bench.dequeue(now: 0) { tags.append(packet.tag) }
        #expect(tags == Array(0..<25))
    }

    @Test func `an idle queue has no memory, and its struct is small`() {
        let bench = QueueBench()
        #expect(bench.queue.dequeue(now: 0) == nil)
        #expect(bench.peekCount() == nil)
        #expect(bench.queue.takeDropped() == nil)
        bench.queue.shed()
        bench.queue.releaseMemory()
        #expect(bench.queue.allocatedBytes == 0)
        #expect(MemoryLayout<FairQueue>.size <= 256)
    }

    @Test func `memory comes with the first packet, follows the backlog, and not the number of packets`() {
        let bench = QueueBench(limitPackets: 4096, limitBytes: 1 << 30)
        bench.enqueue(100, flow: 1, now: 0)
        let first = bench.queue.allocatedBytes
        #expect((1...60_000).contains(first))
        for step in 0..<100_000 as Range<Int64> {
            bench.enqueue(100, flow: Int(step % 700), now: step)
            #expect(bench.dequeue(now: step) != nil)
        }
        #expect(bench.queue.allocatedBytes == first)
        for _ in 0..<1000 { bench.enqueue(100, flow: 1, now: 0) }
        let grown = bench.queue.allocatedBytes
        #expect(grown > first && grown < first + 2 * 1024 * 32)
    }

    @Test func `memory is given back only when nothing is in it, and comes again`() {
        let bench = QueueBench(limitPackets: 100)
        for _ in 0..<101 { bench.enqueue(100, flow: 1, now: 0) }
        bench.queue.releaseMemory()
        #expect(bench.queue.count == 101 - 51)
        while bench.dequeue(now: 0) != nil {}
        // Dropped ones are not yet taken.
        bench.queue.releaseMemory()
        #expect(bench.queue.allocatedBytes > 0)
        #expect(bench.takeDropped() == Array(0..<51))
        bench.queue.releaseMemory()
        #expect(bench.queue.allocatedBytes == 0)
        #expect(bench.queue.overflows == 51)
        for flow in 0..<100 { bench.enqueue(100, flow: flow, now: 0) }
        var tags: [UInt32] = []
        while let packet = bench.dequeue(now: 0) { tags.append(packet.tag) }
        #expect(tags == Array(101..<201))
    }
}
