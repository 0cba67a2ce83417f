import Testing
import TunnelCore

/// The slow and obvious one: a dictionary of what waits, searched anew each time.
private struct OrderModel {
    var limit: Int
    var holdTime: Int64
    var waiting: [UInt64: (id: Int, arrival: Int64)] = [:]
    var expected: UInt64?
    var strangers = 0
    var links: [Int: (last: UInt64, heard: Int64)] = [:]
    var lastArrival: Int64 = 0
    var out: [Int] = []

    mutating func insert(_ id: Int, _ sequence: UInt64, _ link: Int, _ now: Int64) {
        guard sequence < 1 << 62 else { return out.append(id) }
        if expected == nil {
            releaseAll()
            expected = sequence
            for link in links.keys { links[link]?.last = 0 }
        }
        guard let next = expected else { return }
        let isFar = sequence < next ? next - sequence > 1 << 17 : sequence - next >= UInt64(4 * limit)
        if isFar {
            out.append(id)
            strangers += 1
            if strangers >= 16 { restart() }
            return
        }
        if sequence >= next { strangers = 0 }
        for link in links.keys { links[link]?.heard += max(0, now - lastArrival - 20 * millisecond) }
        lastArrival = now
        links[link] = (last: max(links[link]?.last ?? 0, sequence), heard: now)
        if sequence < next { return out.append(id) }
        if sequence - next >= UInt64(limit) { release(below: sequence - UInt64(limit) + 1) }
        if waiting[sequence] != nil { return out.append(id) }
        waiting[sequence] = (id: id, arrival: now)
        drain()
    }

    /// `grace` as it stands after the same settling.
    mutating func settle(_ now: Int64, grace: Int64) {
        guard let next = expected, !waiting.isEmpty else { return }
        let active = links.values.filter { now - $0.heard < 300 * millisecond }
        let lost = active.map(\.last).min() ?? next
        // Everything behind which something has waited long enough.
        let overdue = waiting.filter { now - $0.value.arrival >= holdTime }.keys.max().map { $0 + 1 }
        let settled = waiting.filter { now - $0.value.arrival >= grace }.keys.max().map { min(lost, $0 + 1) }
        release(below: max(overdue ?? 0, settled ?? 0))
    }

    mutating func restart() {
        releaseAll()
        expected = nil
        strangers = 0
    }

    private mutating func releaseAll() {
        for sequence in waiting.keys.sorted() { if let packet = waiting[sequence] { out.append(packet.id) } }
        waiting = [:]
    }

    private mutating func release(below sequence: UInt64) {
        for number in waiting.keys.sorted() where number < sequence {
            if let packet = waiting.removeValue(forKey: number) { out.append(packet.id) }
        }
        expected = max(expected ?? 0, sequence)
        drain()
    }

    private mutating func drain() {
        while let next = expected, let packet = waiting.removeValue(forKey: next) {
            out.append(packet.id)
            expected = next + 1
        }
    }
}

@Suite("Resequencer against models")
struct ResequencerModelTests {
    @Test(arguments: 1...30 as ClosedRange<UInt64>)
    func `delivers what a dictionary would, packet by packet`(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let limit = [64, 128, 1024][random.number(0...2)]
        let hold = Int64(random.number(5...150)) * millisecond
        let bench = OrderBench(limit: limit, holdTime: hold)
        var model = OrderModel(limit: limit, holdTime: hold)
        var now = 1000 * millisecond
        var around: UInt64 = random.oneIn(3) ? 0 : UInt64(random.number(0...1_000_000))
        let spread = [2, 10, limit / 2, 2 * limit][random.number(0...3)]
        for id in 0..<2000 {
            let sequence: UInt64
            switch random.number(0...199) {
            case 0: sequence = random.next() >> UInt64(random.number(0...63))
            case 1:
                around &+= UInt64(random.number(1...3 * limit))
                sequence = around
            case 2: sequence = around &+ UInt64(random.number(0...6 * limit))
            case 3...9: sequence = around &- min(around, UInt64(random.number(0...spread)))
            case 10...60:
                sequence = around &+ UInt64(random.number(0...spread))
            default:
                around &+= 1
                sequence = around
            }
            let link = random.number(0...2)
            bench.take(id, sequence, link: link, at: now)
            model.insert(id, sequence, link, now)
            if random.oneIn(500) {
                bench.restart()
                model.restart()
            } else if random.oneIn(3) {
                bench.settle(now)
                model.settle(now, grace: bench.grace)
                guard bench.order.count == model.out.count, bench.order.last == model.out.last else {
                    Issue.record("seed \(seed): differs at packet \(id)")
                    return
                }
            }
            now += random.oneIn(3) ? Int64(random.number(0...(random.oneIn(30) ? 90_000 : 4000))) * 1000 : 0
        }
        bench.restart()
        bench.settle(now)
        model.restart()
        #expect(bench.mostHeld <= limit)
        let isEqual = bench.order == model.out
        #expect(isEqual, "seed \(seed)")
        let isComplete = bench.order.sorted() == Array(0..<2000)
        #expect(isComplete, "seed \(seed)")
    }

    @Test(arguments: 1...12 as ClosedRange<UInt64>)
    func `links of different delay without loss come out in order`(seed: UInt64) {
        let run = LinkRun(seed: seed, loss: 0)
        #expect(run.isComplete && run.isInOrder, "seed \(seed)")
        #expect(run.bench.timeouts == 0, "seed \(seed)")
    }

    @Test(arguments: 1...12 as ClosedRange<UInt64>)
    func `with loss everything that came goes out once, in order, and waits no longer than the hold time`(seed: UInt64)
    {
        let run = LinkRun(seed: seed, loss: 0.03)
        #expect(run.isComplete && run.isInOrder, "seed \(seed)")
        for delivery in run.bench.deliveries {
            let waited = delivery.time - (run.arrivals[delivery.id] ?? .min / 2)
            #expect(waited <= run.bench.holdTime, "seed \(seed), packet \(delivery.id)")
        }
    }
}

/// Packets that a sender spread over links of different delay, through a resequencer that waits long enough for them.
private struct LinkRun {
    let bench: OrderBench
    /// When each packet came.
    private(set) var arrivals: [Int: Int64] = [:]

    var isComplete: Bool { bench.order.sorted() == arrivals.keys.sorted() }
    var isInOrder: Bool { bench.order == bench.order.sorted() }

    init(seed: UInt64, loss: Double) {
        var random = SeededRandom(seed: seed)
        let links = random.number(1...4)
        let delays = (0..<links).map { _ in Int64(random.number(1...60)) * millisecond }
        let spread = (delays.max() ?? 0) - (delays.min() ?? 0)
        bench = OrderBench(holdTime: spread + 10 * millisecond)
        var flights: [(time: Int64, id: Int, link: Int)] = []
        var free = [Int64](repeating: 0, count: links)
        var sent = 1000 * millisecond
        for id in 0..<3000 {
            // Each link is seen to carry traffic; later it may pause.
            sent += id <= links ? 100 * millisecond : Int64(random.number(20...400)) * 1000
            if random.oneIn(300) { sent += Int64(random.number(0...2000)) * millisecond }
            let link = id < links ? id : random.number(0...links - 1)
            let time = max(free[link], sent + delays[link])
            free[link] = time
            if id >= links, random.chance(loss) { continue }
            flights.append((time: time, id: id, link: link))
        }
        flights.sort { ($0.time, $0.id) < ($1.time, $1.id) }
        for flight in flights {
            bench.pass(until: flight.time)
            arrivals[flight.id] = flight.time
            bench.arrive(flight.id, UInt64(flight.id), link: flight.link, at: flight.time)
        }
        bench.pass(until: sent + 10 * second)
    }
}
