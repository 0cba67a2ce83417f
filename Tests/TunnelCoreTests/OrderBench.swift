import Testing
import TunnelCore

/// Drives a resequencer as the engine does, and notes what comes out, and when.
final class OrderBench {
    struct Delivery: Equatable {
        var id: Int
        var time: Int64
    }

    private var resequencer: Resequencer
    private(set) var deliveries: [Delivery] = []
    /// The same without the times.
    private(set) var order: [Int] = []
    private(set) var mostHeld = 0
    /// Packets are told apart by their addresses; nothing is read from there.
    private let memory: UnsafeMutableRawPointer
    private static let maximumPackets = 1 << 20

    init(limit: Int = 4096, holdTime: Int64 = 100 * millisecond) {
        resequencer = Resequencer(limit: limit, links: 32)
        resequencer.holdTime = holdTime
        memory = .allocate(byteCount: Self.maximumPackets, alignment: 1)
    }

    deinit { memory.deallocate() }

    var held: Int { resequencer.held }
    var timeouts: UInt64 { resequencer.timeouts }
    var overflows: UInt64 { resequencer.overflows }
    var grace: Int64 { resequencer.grace }
    var holdTime: Int64 { resequencer.holdTime }
    func deadline(_ now: Int64) -> Int64 { resequencer.deadline(now: now) }
    func isHeld(_ sequence: UInt64) -> Bool { resequencer.isHeld(sequence) }

    /// One packet of a batch.
    func take(_ id: Int, _ sequence: UInt64, link: Int = 0, at now: Int64) {
        let packet = InboundPacket(bytes: memory + id, count: 1, link: link)
        var verdict = resequencer.insert(packet, sequence: sequence, now: now)
        if verdict == .full {
            drain(now)
            verdict = resequencer.insert(packet, sequence: sequence, now: now)
            #expect(verdict != .full, "packet \(id) with \(sequence) finds no place")
        }
        if verdict == .held { drain(now) } else { deliver(packet, now) }
        mostHeld = max(mostHeld, resequencer.held)
    }

    /// A batch of one.
    func arrive(_ id: Int, _ sequence: UInt64, link: Int = 0, at now: Int64) {
        take(id, sequence, link: link, at: now)
        settle(now)
    }

    /// The end of a batch.
    func settle(_ now: Int64) {
        drain(now)
        var reviews = 0
        while resequencer.review(now: now) {
            drain(now)
            reviews += 1
            guard reviews < 10_000 else {
                Issue.record("review does not come to an end")
                return
            }
        }
        #expect(deadline(now) > now)
    }

    /// Time passes; the resequencer is looked after whenever it asked for that.
    func pass(until now: Int64) {
        while true {
            let deadline = resequencer.deadline(now: deliveries.last?.time ?? 0)
            if deadline > now { return }
            settle(deadline)
        }
    }

    func restart() { resequencer.restart() }
    func forget(link: Int) { resequencer.forget(link: link) }
    func setHoldTime(_ time: Int64) { resequencer.holdTime = time }

    /// Moves what is held to a pool of `slots` packets; true when all was released instead.
    func adopt(slots: Int, at now: Int64) -> Bool {
        var left = slots
        let isReleased = resequencer.adopt { packet in
            guard left > 0 else { return nil }
            left -= 1
            var moved = packet
            moved.isPooled = true
            return moved
        }
        drain(now)
        return isReleased
    }

    private func drain(_ now: Int64) {
        while let packet = resequencer.next() { deliver(packet, now) }
    }

    private func deliver(_ packet: InboundPacket, _ now: Int64) {
        order.append(packet.bytes - memory)
        deliveries.append(Delivery(id: packet.bytes - memory, time: now))
    }
}
