/// A received inner packet on its way to the device.
public struct InboundPacket: BitwiseCopyable {
    public var bytes: UnsafeMutableRawPointer
    public var count: Int32
    /// Index of the link in its tunnel.
    public var link: UInt16
    /// The bytes lie in a slot of the packet pool, not in a receive buffer that is about to be reused.
    public var isPooled: Bool

    @inlinable
    public init(bytes: UnsafeMutableRawPointer, count: Int, link: Int, isPooled: Bool = false) {
        self.bytes = bytes
        self.count = Int32(truncatingIfNeeded: count)
        self.link = UInt16(truncatingIfNeeded: link)
        self.isPooled = isPooled
    }
}

/// Puts a tunnel's packets back in the order of their data_seq (wire-v1.md, Tunnel).
///
/// Packets are held in a ring by data_seq. A gap is given up when every link that carries traffic has brought something
/// later and a short grace has passed (links deliver in order, so what is missing was lost), or when a packet behind it has
/// waited for ``holdTime``, or when the ring is full. Nothing is ever dropped: what comes too late is delivered at once, as
/// stock does. Memory is the ring; it doubles on need up to `limit` packets.
///
/// data_seq is not authenticated: a number far from what is expected moves nothing until 16 in a row are.
///
/// Use: ``insert(_:sequence:now:)`` for each packet, then ``next()`` until nil, then ``deadline``.
public struct Resequencer: ~Copyable {
    private var ring: UnsafeMutablePointer<Slot>
    private var capacity: Int
    private let limit: Int
    private let linkCount: Int
    /// The data_seq to deliver next; meaningless before the first packet.
    private var expected: UInt64 = 0
    private var isStarted = false
    /// Highest data_seq held or delivered, plus one.
    private var end: UInt64 = 0
    /// Everything below is to be delivered without waiting for what is missing.
    private var released: UInt64 = 0
    public private(set) var held = 0
    /// No packet that is held came before this.
    private var oldest: Int64 = 0
    /// Packets far from what is expected, without another between: the peer started anew.
    private var strangers = 0
    /// Highest data_seq that each link brought, and when.
    private var linkEnd = InlineArray<32, UInt64>(repeating: 0)
    private var linkHeard = InlineArray<32, Int64>(repeating: 0)
    private var lastArrival: Int64 = 0

    /// How long a gap is waited for at most, nanoseconds.
    public var holdTime: Int64 = 100 * millisecond
    public private(set) var timeouts: UInt64 = 0
    public private(set) var overflows: UInt64 = 0

    private struct Slot {
        var packet: InboundPacket
        var arrival: Int64
        var isUsed: Bool
    }

    /// Disorder within one link that is waited for: grows when a packet comes after it was given up, shrinks within
    /// seconds: a loss costs as much.
    public private(set) var grace = leastGrace
    public static let leastGrace = 3 * millisecond
    private static let mostGrace = 60 * millisecond
    private var givenUpAt: Int64 = 0
    private var graceChangedAt: Int64 = 0
    /// A link that brought nothing for so long, while others did, is not waited for.
    private static let activity = 300 * millisecond
    /// Beyond this, time in which nothing came at all says nothing about any link.
    private static let lull = 20 * millisecond
    /// A data_seq that lies further back than this belongs to another start of the peer.
    private static let horizon: UInt64 = 1 << 17
    /// So one that lies further ahead: a few rings, since what is expected jumps there.
    private var reach: UInt64 { 4 * UInt64(limit) }
    /// No peer counts so far.
    private static let ceiling: UInt64 = 1 << 62

    /// Holds up to `limit` packets (rounded up to a power of two).
    public init(limit: Int, links: Int) {
        linkCount = min(32, max(1, links))
        var size = Self.leastCapacity
        while size < limit { size *= 2 }
        self.limit = size
        capacity = Self.leastCapacity
        ring = Self.makeRing(capacity)
    }

    deinit { ring.deallocate() }

    private static let leastCapacity = 64

    private static func makeRing(_ capacity: Int) -> UnsafeMutablePointer<Slot> {
        let ring = UnsafeMutablePointer<Slot>.allocate(capacity: capacity)
        for index in 0..<capacity { (ring + index).pointer(to: \.isUsed)?.initialize(to: false) }
        return ring
    }

    public enum Insertion: Sendable {
        /// Taken; ``next()`` will hand it out in its turn.
        case held
        /// Deliver it now: it is late, or order cannot be told.
        case deliver
        /// The ring is full: take ``next()`` until nil, then insert again.
        case full
    }

    /// Whether a packet may be the copy of one that waits here.
    public func isHeld(_ sequence: UInt64) -> Bool {
        sequence >= expected && sequence < end && ring[index(sequence)].isUsed
    }

    public mutating func insert(_ packet: InboundPacket, sequence: UInt64, now: Int64) -> Insertion {
        guard sequence < Self.ceiling else { return .deliver }
        if !isStarted {
            // What the peer sent before it started anew goes first.
            guard held == 0 else { return .full }
            start(at: sequence)
        }
        if sequence < expected {
            if expected - sequence > Self.horizon { return stranger() }
            note(packet.link, sequence, now)
            noteLate(now)
            return .deliver
        }
        let distance = sequence - expected
        if distance >= reach { return stranger() }
        strangers = 0
        note(packet.link, sequence, now)
        if distance >= UInt64(capacity), !makeRoom(for: sequence) { return .full }
        let index = index(sequence)
        if ring[index].isUsed { return .deliver }
        ring[index] = Slot(packet: packet, arrival: now, isUsed: true)
        if held == 0 { oldest = now }
        held += 1
        if sequence >= end { end = sequence + 1 }
        return .held
    }

    /// Whether a packet of this number would be held.
    public func isAhead(_ sequence: UInt64) -> Bool {
        isStarted && sequence > expected && sequence - expected < reach
    }

    /// The next packet in order, or nil when the head is missing and still waited for.
    public mutating func next() -> InboundPacket? {
        if held == 0 {
            expected = max(expected, min(released, end))
            return nil
        }
        while expected < end {
            let index = index(expected)
            if ring[index].isUsed {
                ring[index].isUsed = false
                held -= 1
                expected += 1
                return ring[index].packet
            }
            if expected >= released { return nil }
            expected += 1
        }
        return nil
    }

    /// After a batch: gives up gaps that will not fill. True when ``next()`` has more.
    public mutating func review(now: Int64) -> Bool {
        guard held > 0 else { return false }
        shrinkGrace(now)
        let lost = lostBelow(now: now)
        let patience = patience(lost)
        guard now - oldest >= patience else { return false }
        var first = Int64.max
        var givenUp = expected
        var left = held
        var sequence = expected
        while left > 0 {
            let slot = ring[index(sequence)]
            sequence += 1
            guard slot.isUsed else { continue }
            left -= 1
            first = min(first, slot.arrival)
            if now - slot.arrival >= holdTime {
                givenUp = sequence
            } else if now - slot.arrival >= patience {
                givenUp = max(givenUp, min(lost, sequence))
            }
        }
        oldest = first
        guard givenUp > expected else { return false }
        release(below: givenUp)
        timeouts &+= 1
        givenUpAt = now
        return true
    }

    /// How long a packet waits: where what is missing was lost, only for disorder within a link.
    private func patience(_ lost: UInt64) -> Int64 { lost > expected ? min(grace, holdTime) : holdTime }

    // Mutating, though they change nothing: the compiler would copy the whole for each call otherwise.

    /// When ``review(now:)`` is to be called though nothing came; .max: never.
    public mutating func deadline(now: Int64) -> Int64 {
        held > 0 ? oldest + patience(lostBelow(now: now)) : .max
    }

    /// The peer's sessions began anew: everything held goes out, and the next packet is the first.
    public mutating func restart() {
        release(below: end)
        isStarted = false
        strangers = 0
    }

    /// A link went away: it is not waited for.
    public mutating func forget(link: Int) { linkHeard[link & 31] = 0 }

    /// Every held packet that lies in a receive buffer is moved: `move` copies it to the pool, or returns nil when the
    /// pool is empty, in which case everything held is released for delivery (true).
    public mutating func adopt(_ move: (InboundPacket) -> InboundPacket?) -> Bool {
        var left = held
        var sequence = expected
        while left > 0, sequence < end {
            let index = index(sequence)
            sequence += 1
            guard ring[index].isUsed else { continue }
            left -= 1
            guard !ring[index].packet.isPooled else { continue }
            guard let moved = move(ring[index].packet) else {
                overflows &+= 1
                release(below: end)
                return true
            }
            ring[index].packet = moved
        }
        return false
    }

    private func index(_ sequence: UInt64) -> Int { Int(truncatingIfNeeded: sequence) & (capacity - 1) }

    private mutating func start(at sequence: UInt64) {
        isStarted = true
        expected = sequence
        end = sequence
        released = 0
        linkEnd = InlineArray(repeating: 0)
    }

    private mutating func stranger() -> Insertion {
        strangers += 1
        if strangers >= 16 { restart() }
        return .deliver
    }

    /// Had it been waited for a little longer, this packet would have been in order.
    private mutating func noteLate(_ now: Int64) {
        let missed = now - givenUpAt
        guard givenUpAt != 0, missed < Self.mostGrace else { return }
        grace = min(Self.mostGrace, grace + missed + Self.leastGrace)
        graceChangedAt = now
        givenUpAt = 0
    }

    private mutating func shrinkGrace(_ now: Int64) {
        guard grace > Self.leastGrace, now - graceChangedAt > second else { return }
        grace = max(Self.leastGrace, grace * 3 / 4)
        graceChangedAt = now
    }

    private mutating func makeRoom(for sequence: UInt64) -> Bool {
        while capacity < limit, sequence - expected >= UInt64(capacity) { grow() }
        if sequence - expected < UInt64(capacity) { return true }
        let first = sequence - UInt64(capacity) + 1
        if held == 0 {
            expected = first
            return true
        }
        overflows &+= 1
        release(below: first)
        return false
    }

    private mutating func grow() {
        let wider = Self.makeRing(capacity * 2)
        var sequence = expected
        while sequence < end {
            let slot = ring[index(sequence)]
            if slot.isUsed { wider[Int(truncatingIfNeeded: sequence) & (capacity * 2 - 1)] = slot }
            sequence += 1
        }
        ring.deallocate()
        ring = wider
        capacity *= 2
    }

    /// Gives back what a large gap once needed, when nothing has come for 10 s.
    public mutating func releaseMemory(now: Int64) {
        guard held == 0, capacity > Self.leastCapacity, now - lastArrival > 10 * second else { return }
        ring.deallocate()
        capacity = Self.leastCapacity
        ring = Self.makeRing(capacity)
    }

    private mutating func release(below sequence: UInt64) { released = max(released, sequence) }

    private mutating func note(_ link: UInt16, _ sequence: UInt64, _ now: Int64) {
        let pause = now - lastArrival - Self.lull
        if pause > 0 {
            for link in 0..<linkCount where linkHeard[link] != 0 { linkHeard[link] += pause }
        }
        lastArrival = now
        let link = Int(link & 31)
        linkEnd[link] = max(linkEnd[link], sequence)
        linkHeard[link] = now
    }

    /// Below this, every link that carries traffic has brought something later.
    private mutating func lostBelow(now: Int64) -> UInt64 {
        var lowest = UInt64.max
        for link in 0..<linkCount where linkHeard[link] != 0 && now - linkHeard[link] < Self.activity {
            lowest = min(lowest, linkEnd[link])
        }
        return lowest == .max ? expected : lowest
    }
}
