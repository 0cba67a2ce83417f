import Testing
import TunnelCore

@Suite("Queue: fairness")
struct QueueFairnessTests {
    @Test func `a flow that sends little goes before a bulk transfer's backlog`() {
        let bench = QueueBench()
        for _ in 0..<500 { bench.enqueue(1400, flow: 1, now: 0) }
        // The bulk flow has had its first turn.
        for _ in 0..<3 { #expect(bench.dequeue(now: 0) != nil) }
        for _ in 0..<20 {
            let tag = bench.enqueue(100, flow: 2, now: 0)
            #expect(bench.peekCount() == 100)
            #expect(bench.dequeue(now: 0)?.tag == tag)
            #expect(bench.dequeue(now: 0)?.count == 1400)
            #expect(bench.dequeue(now: 0)?.count == 1400)
        }
    }

    @Test func `a flow rarer than a round of turns waits for one packet in transmission, whatever else is queued`() {
        let worst = worstDelay(packetEvery: 200 * millisecond, isTuned: false)
        #expect(worst <= 1400 * second / Self.slowLink)
    }

    @Test func `short turns on a slow link more than halve the delay of speech beside bulk transfers`() {
        let untuned = worstDelay(packetEvery: 20 * millisecond, isTuned: false)
        let tuned = worstDelay(packetEvery: 20 * millisecond, isTuned: true)
        #expect(tuned * 2 < untuned, "\(tuned) ns tuned, \(untuned) ns not")
    }

    private static let slowLink: Int64 = 250_000

    /// The longest wait of packets of 200 bytes while eight transfers keep a slow link busy.
    private func worstDelay(packetEvery period: Int64, isTuned: Bool) -> Int64 {
        let bench = QueueBench()
        if isTuned { bench.queue.tune(bytesPerSecond: Self.slowLink) }
        var now: Int64 = 0
        var waiting = [Int](repeating: 0, count: 8)
        var flowOf: [UInt32: Int] = [:]
        var nextSmall = 500 * millisecond
        var worst: Int64 = 0
        var small = 0
        while now < 20 * second {
            for flow in waiting.indices where waiting[flow] < 60 {
                flowOf[bench.enqueue(1400, flow: flow, now: now)] = flow
                waiting[flow] += 1
            }
            while nextSmall <= now {
                bench.enqueue(200, flow: 100, now: nextSmall)
                nextSmall += period
            }
            let packet = bench.dequeue(now: now)!
            for tag in bench.takeDropped() { waiting[flowOf[tag]!] -= 1 }
            if let flow = flowOf[packet.tag] {
                waiting[flow] -= 1
            } else {
                worst = max(worst, now - packet.enqueuedAt)
                small += 1
            }
            now += Int64(packet.count) * second / Self.slowLink
        }
        precondition(small >= 19 * second / period)
        return worst
    }

    @Test func `flows get the same bytes, whatever the size of their packets`() {
        let bench = QueueBench(limitPackets: 100_000, limitBytes: 1 << 30)
        let sizes = [60, 300, 576, 1000, 1400, 1514]
        var sent: [Int: Int] = [:]
        for (flow, size) in sizes.enumerated() {
            for _ in 0..<2_000_000 / size { bench.enqueue(size, flow: flow, now: 0) }
        }
        for round in 1...4000 {
            let size = Int(bench.dequeue(now: 0)!.count)
            sent[size, default: 0] += size
            guard round > 500 else { continue }
            #expect(sent.values.max()! - sent.values.min()! <= 2 * (1514 + 1514))
        }
        #expect(sent.count == sizes.count)
    }

    @Test func `a flow that sends a new packet as soon as its last one left does not starve the others`() {
        let bench = QueueBench()
        for _ in 0..<1000 { bench.enqueue(1000, flow: 1, now: 0) }
        bench.enqueue(1000, flow: 2, now: 0)
        var ofSecond = 0
        var secondTags: Set<UInt32> = []
        for _ in 0..<400 {
            let packet = bench.dequeue(now: 0)!
            if secondTags.contains(packet.tag) || packet.tag == 1000 { ofSecond += 1 }
            if bench.queue.count == 0 { break }
            secondTags.insert(bench.enqueue(1000, flow: 2, now: 0))
        }
        #expect((150...250).contains(ofSecond), "\(ofSecond) of 400")
    }

    @Test func `many new flows do not starve an old one`() {
        let bench = QueueBench()
        for _ in 0..<500 { bench.enqueue(1000, flow: 0, now: 0) }
        for _ in 0..<5 { _ = bench.dequeue(now: 0) }
        var next = 1
        var bulk = 0
        for _ in 0..<1000 {
            // Ten flows take turns; each comes back when it was served.
            bench.enqueue(700, flow: next, now: 0)
            next = next % 10 + 1
            if bench.dequeue(now: 0)!.count == 1000 { bulk += 1 }
        }
        // An eleventh of the bytes is its share.
        #expect(bulk >= 1000 / 11 / 2, "\(bulk)")
    }

    @Test func `packets of one flow stay in order`() {
        let bench = QueueBench()
        var random = OffloadRandom(seed: 7)
        var last: [Int: UInt32] = [:]
        var flowOf: [UInt32: Int] = [:]
        var delivered = 0
        for step in 0..<5000 {
            let now = Int64(step) * millisecond
            for _ in 0..<random.number(0...3) {
                let flow = random.number(0...8)
                flowOf[bench.enqueue(random.number(40...1514), flow: flow, now: now)] = flow
            }
            guard let packet = bench.dequeue(now: now) else { continue }
            let flow = flowOf[packet.tag]!
            if let previous = last[flow] { #expect(packet.tag > previous) }
            last[flow] = packet.tag
            delivered += 1
            _ = bench.takeDropped()
        }
        #expect(delivered > 4000)
    }

    @Test func `the smallest and the largest hash are flows of their own, and one flow is enough to make a queue`() {
        for flows in [1, 2, 1000, 65536, .max, 0, -1] {
            var queue = FairQueue(flows: flows)
            var bytes: UInt64 = 0
            withUnsafeMutableBytes(of: &bytes) { memory in
                for tag in 0..<50 as Range<UInt32> {
                    queue.enqueue(QueuedPacket(bytes: memory.baseAddress!, count: 8, tag: tag), flow: 0, now: 0)
                }
                queue.enqueue(QueuedPacket(bytes: memory.baseAddress!, count: 8, tag: 99), flow: .max, now: 0)
                var order: [UInt32] = []
                while let packet = queue.dequeue(now: 0) { order.append(packet.tag) }
                // 50 packets of 8 bytes are within the first flow's quantum.
                #expect(order == Array(0..<50) + [99])
            }
            queue.releaseMemory()
            #expect(queue.allocatedBytes == 0)
        }
    }

    @Test func `peeking tells the size of what is dequeued next`() {
        let bench = QueueBench()
        #expect(bench.peekCount() == nil)
        var random = OffloadRandom(seed: 3)
        var compared = 0
        for _ in 0..<3000 {
            for _ in 0..<random.number(0...2) {
                bench.enqueue(random.number(0...1514), flow: random.number(0...10), now: 0)
            }
            let size = bench.peekCount()
            #expect(size == bench.peekCount())
            #expect(size == bench.dequeue(now: 0).map { Int($0.count) })
            compared += size == nil ? 0 : 1
            _ = bench.takeDropped()
        }
        #expect(compared > 2000)
    }

    @Test func `a sender that halves its window at each loss fills the link and keeps the delay short`() {
        let sender = WindowedSender()
        sender.run(for: 60 * second)
        #expect(sender.utilisation > 0.85, "\(sender.utilisation)")
        #expect(sender.meanDelay < 15 * millisecond, "\(sender.meanDelay) ns")
        #expect(sender.bench.queue.drops > 10)
        #expect(sender.bench.queue.overflows == 0)
    }
}

/// A transfer over a link of 10 Mbit/s with a round trip of 40 ms: one packet more per round trip, half at a loss.
private final class WindowedSender {
    let bench = QueueBench()
    private let packetTime = 1400 * second / 1_250_000
    private let roundTrip = 40 * millisecond
    private var window = 10.0
    private var inFlight = 0
    private var acknowledgements: [(at: Int64, isLoss: Bool)] = []
    private var acknowledged = 0
    private var holdUntil: Int64 = 0
    private var delivered: Int64 = 0
    private var elapsed: Int64 = 0
    private var delays: Int64 = 0

    var utilisation: Double { Double(delivered * packetTime) / Double(elapsed) }
    var meanDelay: Int64 { delays / max(1, delivered) }

    func run(for time: Int64) {
        var now: Int64 = 0
        while now < time {
            hear(now)
            while inFlight < Int(window) {
                bench.enqueue(1400, flow: 1, now: now)
                inFlight += 1
            }
            let packet = bench.dequeue(now: now)
            for _ in bench.takeDropped() { acknowledgements.append((now + roundTrip, true)) }
            if let packet {
                acknowledgements.append((now + roundTrip, false))
                // Without its start.
                if now > 5 * second {
                    delivered += 1
                    delays += now - packet.enqueuedAt
                }
            }
            if now > 5 * second { elapsed += packetTime }
            now += packetTime
        }
    }

    private func hear(_ now: Int64) {
        while acknowledged < acknowledgements.count, acknowledgements[acknowledged].at <= now {
            inFlight -= 1
            if !acknowledgements[acknowledged].isLoss {
                window += 1 / window
            } else if now >= holdUntil {
                window = max(2, window / 2)
                holdUntil = now + roundTrip
            }
            acknowledged += 1
        }
    }
}
