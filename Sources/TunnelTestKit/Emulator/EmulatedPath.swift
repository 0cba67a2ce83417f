/// One direction of an emulated link: a queue in front of a bottleneck of some rate, then a medium with delay and loss.
///
/// Pure: time comes in as nanoseconds on any clock that does not go back, packets are opaque, and nothing here reads a
/// clock or a socket. The same model runs in real time (``LinkEmulator``) and in tests with virtual time.
///
///     offer ──▶ drop-tail queue ──▶ bottleneck (rate) ──▶ loss ──▶ delay, jitter ──▶ advance(to:) delivers
public struct EmulatedPath<Packet> {
    public private(set) var conditions: PathConditions
    public private(set) var counters = PathCounters()

    private var generator: SeededGenerator
    private var inBadState = false
    private var waiting = Fifo<Queued>()
    private var waitingBytes = 0
    /// When the packet at the head of `waiting` will have left the bottleneck.
    private var headDone: UInt64 = 0
    private var arriving = ArrivalHeap<Packet>()
    /// Arrival of the latest packet that keeps its turn.
    private var latestArrival: UInt64 = 0

    private struct Queued {
        var packet: Packet
        var bytes: Int
    }

    public init(_ conditions: PathConditions = PathConditions(), seed: UInt64) {
        self.conditions = conditions
        generator = SeededGenerator(seed: seed)
    }

    /// Changes the conditions from `now` on; a packet that the bottleneck has begun to send keeps its old rate.
    public mutating func apply(_ settings: [PathSetting], at now: UInt64) {
        drainQueue(until: now)
        for setting in settings {
            conditions.apply(setting)
        }
    }

    /// A packet of `bytes` bytes enters.
    public mutating func offer(_ packet: Packet, bytes: Int, at now: UInt64) -> PathOutcome {
        drainQueue(until: now)
        counters.offered += 1
        if conditions.blackhole {
            counters.blackholed += 1
            return .blackholed
        }
        if conditions.mtu > 0, bytes > conditions.mtu {
            counters.tooBig += 1
            return .tooBig
        }
        guard conditions.rate > 0 || !waiting.isEmpty else {
            propagate(packet, bytes: bytes, at: now)
            return .accepted
        }
        if waiting.isEmpty {
            headDone = now + sendingTime(bytes)
        } else if !hasRoom(for: bytes) {
            counters.overflowed += 1
            return .overflowed
        }
        waiting.append(Queued(packet: packet, bytes: bytes))
        waitingBytes += bytes
        return .accepted
    }

    /// The time at which ``advance(to:deliver:)`` next has something to do; nil when the path is empty.
    public var nextEvent: UInt64? {
        if let first = arriving.first {
            guard !waiting.isEmpty else { return first.time }
            // The head may still arrive before a packet that is late out of turn.
            let shortest = conditions.delay - min(conditions.delay, conditions.jitter)
            return min(first.time, max(headDone + shortest, latestArrival))
        }
        return waiting.isEmpty ? nil : headDone
    }

    /// Hands out, in order of arrival, what has arrived by `now`; the second argument is the exact time of arrival.
    public mutating func advance(to now: UInt64, deliver: (Packet, UInt64) -> Void) {
        drainQueue(until: now)
        while let first = arriving.first, first.time <= now {
            arriving.removeFirst()
            counters.delivered += 1
            counters.deliveredBytes += UInt64(first.bytes)
            deliver(first.packet, first.time)
        }
    }

    /// Bytes that wait in the queue, the packet being sent included.
    public var backlog: Int { waitingBytes }

    /// Sends from the queue everything that the bottleneck finishes by `now`.
    private mutating func drainQueue(until now: UInt64) {
        while !waiting.isEmpty, headDone <= now {
            let sent = waiting.removeFirst()
            waitingBytes -= sent.bytes
            let finished = headDone
            if let next = waiting.first {
                headDone = finished + sendingTime(next.bytes)
            }
            if conditions.blackhole {
                counters.blackholed += 1
            } else {
                propagate(sent.packet, bytes: sent.bytes, at: finished)
            }
        }
    }

    private mutating func propagate(_ packet: Packet, bytes: Int, at now: UInt64) {
        if isLost() {
            counters.lost += 1
            return
        }
        var arrival = max(now + drawDelay(), latestArrival)
        if generator.chance(conditions.reorder) {
            counters.reordered += 1
            arrival += conditions.reorderDelay
        } else {
            latestArrival = arrival
        }
        arriving.insert(packet, bytes: bytes, at: arrival)
        if generator.chance(conditions.duplicate) {
            counters.duplicated += 1
            arriving.insert(packet, bytes: bytes, at: arrival)
        }
    }

    private mutating func drawDelay() -> UInt64 {
        guard conditions.jitter > 0 else { return conditions.delay }
        let deviation = (generator.unit() * 2 - 1) * Double(conditions.jitter)
        return UInt64(max(0, Double(conditions.delay) + deviation))
    }

    private mutating func isLost() -> Bool {
        let alone = generator.chance(conditions.loss)
        guard let burst = conditions.burstLoss else { return alone }
        if generator.chance(inBadState ? burst.leave : burst.enter) {
            inBadState.toggle()
        }
        return generator.chance(inBadState ? burst.lossWhileBad : burst.lossWhileGood) || alone
    }

    private func sendingTime(_ bytes: Int) -> UInt64 {
        guard conditions.rate > 0 else { return 0 }
        return UInt64(bytes + conditions.overhead) * 8_000_000_000 / conditions.rate
    }

    /// Whether the queue behind the packet that is being sent takes `bytes` more.
    private func hasRoom(for bytes: Int) -> Bool {
        let queued = waitingBytes - (waiting.first?.bytes ?? 0)
        switch conditions.queue {
        case .packets(let limit):
            return waiting.count - 1 < limit
        case .bytes(let limit):
            return queued + bytes <= limit
        case .duration(let limit):
            let bytesAtRate = Double(conditions.rate) / 8 * Double(limit) / 1e9
            return Double(queued + bytes) <= max(bytesAtRate, 3000)
        }
    }
}

/// What became of a packet at the entrance.
public enum PathOutcome: Sendable, Equatable {
    /// Queued or on its way; the medium may still lose it.
    case accepted
    case overflowed
    case tooBig
    case blackholed
}

/// Packets since the path was made.
public struct PathCounters: Sendable, Equatable {
    public var offered: UInt64 = 0
    public var delivered: UInt64 = 0
    public var deliveredBytes: UInt64 = 0
    public var overflowed: UInt64 = 0
    public var lost: UInt64 = 0
    public var blackholed: UInt64 = 0
    public var tooBig: UInt64 = 0
    public var duplicated: UInt64 = 0
    public var reordered: UInt64 = 0
}
