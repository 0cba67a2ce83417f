import Testing
import TunnelCore

@Suite("Queue: against a slow model")
struct QueueModelTests {
    @Test(arguments: 1...9 as ClosedRange<UInt64>)
    func `what leaves, what is dropped and in which order equals the RFCs' pseudo-code`(seed: UInt64) {
        var random = OffloadRandom(seed: seed)
        let limitPackets = [60, 300, 1024][random.number(0...2)]
        let limitBytes = [60_000, 2 << 20][random.number(0...1)]
        let bench = QueueBench(limitPackets: limitPackets, limitBytes: limitBytes)
        var model = ModelQueue(limitPackets: limitPackets, limitBytes: limitBytes)
        let flows = [1, 3, 20][Int(seed % 3)]
        var now = second
        var left = 0
        var load = 0
        for _ in 0..<8000 {
            if left == 0 {
                // Times of more and of less than the link carries, and pauses after which CoDel starts anew.
                left = random.number(10...1500)
                load = random.number(0...4)
                if random.chance(8) { now += Int64(random.number(1...3000)) * millisecond }
            }
            left -= 1
            now += Int64(random.number(0...1_500_000))
            for _ in 0..<random.number(0...load) {
                // The first flows send more, and larger packets.
                let flow = min(random.number(0...flows - 1), random.number(0...flows - 1))
                let count = flow % 2 == 0 ? random.number(1000...1514) : random.number(0...300)
                let tag = bench.enqueue(count, flow: flow, now: now)
                model.enqueue(ModelQueue.Packet(tag: tag, count: count, enqueuedAt: now), flow: flow)
            }
            if random.chance(200) {
                bench.queue.tune(bytesPerSecond: Int64(random.number(200_000...10_000_000)))
                if random.chance(2) { bench.queue.target = Int64(random.number(1...20)) * millisecond }
                model.target = bench.queue.target
                model.interval = bench.queue.interval
                model.quantum = bench.queue.quantum
            }
            // To look must change nothing.
            if random.chance(3) { _ = bench.peekCount() }
            let packet = bench.dequeue(now: now)
            let expected = model.dequeue(now: now)
            let isEqual =
                packet?.tag == expected?.tag && packet?.enqueuedAt == expected?.enqueuedAt
                && bench.takeDropped() == model.takeDropped() && bench.queue.count == model.count
                && bench.queue.bytes == model.bytes
            #expect(isEqual, "at \(now)")
            if !isEqual { return }
        }
        // The run went through every state.
        #expect(bench.queue.drops > 10)
        #expect(model.entries > 2)
    }

    @Test func `a delay that comes back soon is met with the rate of drops that it took before`() {
        let bench = QueueBench(limitPackets: 100_000, limitBytes: 1 << 30)
        var model = ModelQueue(limitPackets: 100_000, limitBytes: 1 << 30)
        var now: Int64 = 0
        for step in 0..<30_000 {
            now += millisecond
            // Each 3 s: 2 s of overload, then less than the link carries.
            let arrivals = step % 3000 < 2000 ? (step % 2 == 0 ? 2 : 1) : 0
            for _ in 0..<arrivals {
                let tag = bench.enqueue(1000, flow: 1, now: now)
                model.enqueue(ModelQueue.Packet(tag: tag, count: 1000, enqueuedAt: now), flow: 1)
            }
            let isEqual =
                bench.dequeue(now: now)?.tag == model.dequeue(now: now)?.tag
                && bench.takeDropped() == model.takeDropped()
            #expect(isEqual, "at \(now)")
            if !isEqual { return }
        }
        #expect(model.entries >= 10)
        #expect(model.resumptions > 0)
    }

    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `every packet comes back exactly once, as it was given`(seed: UInt64) {
        var random = OffloadRandom(seed: seed)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 8)
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        defer { memory.deallocate() }
        let bench = QueueBench(limitPackets: random.number(1...300), limitBytes: random.number(0...200_000))
        var outside: [UInt32: (address: UnsafeMutableRawPointer, count: Int, at: Int64)] = [:]
        var now: Int64 = 1
        // What was handed in and has not come back, the queue's own count apart: dropped packets not yet taken.
        var dropped: UInt64 = 0
        func comeBack(_ packet: QueuedPacket) {
            let given = outside.removeValue(forKey: packet.tag)
            #expect(given != nil, "packet \(packet.tag) was not in the queue")
            #expect(given?.address == packet.bytes && given?.count == Int(packet.count))
            #expect(given?.at == packet.enqueuedAt)
        }
        for _ in 0..<5000 {
            now += Int64(random.number(0...3_000_000))
            switch random.number(0...9) {
            case 0...4:
                for _ in 0..<random.number(1...4) {
                    let address = memory.baseAddress! + random.number(0...(1 << 20) - 65536)
                    let count = random.chance(20) ? random.number(0...65536) : random.number(20...1514)
                    let packet = QueuedPacket(bytes: address, count: count)
                    let tag = bench.enqueue(packet, flow: random.number(0...30), now: now)
                    outside[tag] = (address, count, now)
                }
            case 5...7:
                let wasEmpty = bench.isEmpty
                let packet = bench.dequeue(now: now)
                #expect((packet == nil) == wasEmpty)
                if let packet { comeBack(packet) }
            case 8:
                if let packet = bench.queue.takeDropped() {
                    comeBack(packet)
                    dropped += 1
                }
            default:
                if random.chance(100) { bench.queue.shed() }
                if random.chance(100) { bench.queue.releaseMemory() }
                while random.chance(5) == false, let packet = bench.queue.takeDropped() {
                    comeBack(packet)
                    dropped += 1
                }
            }
            let untaken = Int(bench.queue.drops + bench.queue.overflows - dropped)
            #expect(bench.queue.count + untaken == outside.count)
        }
        while let packet = bench.dequeue(now: now) { comeBack(packet) }
        while let packet = bench.queue.takeDropped() { comeBack(packet) }
        #expect(outside.isEmpty)
        #expect(bench.isEmpty && bench.queue.count == 0 && bench.queue.bytes == 0)
        #expect(bench.queue.drops + bench.queue.overflows > 100)
    }
}
