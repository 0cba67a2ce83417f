/// Sender's side of a link's measurement: how fast it may be sent on, found out by sending.
///
/// The peer echoes when a datagram was sent that has arrived, so what was sent until then has arrived; and how long it
/// waited on the way is known from its round trip or from the peer's reports. A path with a standing queue delivers at its
/// capacity; what it holds at any moment follows from that, corrected by every echo. Sending is held back when the path
/// holds more than its horizon, so that the rest of the queue stays with us. A line that carries more than was thought
/// shows it by queueing less: no probing is needed.
///
/// Input: ``sent(_:)`` per datagram, ``advance(to:)`` before, ``take(_:now:)`` per round-trip sample. Output:
/// ``delay`` and ``isOpen(within:)``.
public struct LinkPacer: BitwiseCopyable, Sendable {
    /// Bytes per second that the link is known to carry; 0: no queue was ever seen, nothing holds it back.
    public private(set) var capacity: Double = 0
    /// Bytes per second that arrived of late.
    public var recentRate: Double { now - windowStart < second ? meanRate : 0 }
    private var meanRate: Double = 0

    // What waits in the path as far as we know, bytes.
    private var backlog: Double = 0
    private var now: Int64 = 0

    // Bytes sent in all (modulo 2^32) until the start of each slot of time, the last 256 of them.
    private var sentBytes: UInt32 = 0
    private var history = InlineArray<256, UInt32>(repeating: 0)
    private var slot: Int64 = 0

    // The present window of measurement.
    private var windowStart: Int64 = 0
    private var windowArrived: UInt32 = 0
    private var windowArrival: Int64 = 0
    /// What the last echo's datagram had waited, and when that was known.
    private var seenQueue: Int64 = 0
    private var seenAt: Int64 = 0
    private var leastQueued: Int64 = .max
    private var overloads = 0
    private var hasOverflowed = false
    /// What is to be sent was held back in this window; and windows in a row at whose end the path was empty all the same.
    private var heldBack = false
    private var emptyWindows = 0
    private var check = DelayCheck()

    private static let slotTime = 4 * millisecond
    private static let window = 50 * millisecond
    /// A round trip this far above the least is a queue's.
    static let queueTolerance = 5 * millisecond
    private static let minimumCapacity: Double = 8_000
    /// Bytes in a second.
    private static let leastUse: UInt32 = 3000
    /// Bytes per second: of more, a packet takes so little time that a path in use is not empty between two of them.
    private static let fineCapacity: Double = 1_000_000

    public init() {}

    // MARK: Sending

    /// Time has passed.
    public mutating func advance(to time: Int64) {
        guard time > now else { return }
        if capacity > 0 {
            let rate = check.isGentle(now) ? check.gentleRate : capacity
            backlog = max(0, backlog - rate * Double(time - now) / 1e9)
        }
        now = time
        let current = time / Self.slotTime
        guard current != slot else { return }
        for missed in max(slot + 1, current - 255)...current { history[Int(missed & 255)] = sentBytes }
        slot = current
    }

    @inlinable
    public mutating func sent(_ bytes: Int) { count(bytes) }

    @usableFromInline
    mutating func count(_ bytes: Int) {
        sentBytes &+= UInt32(truncatingIfNeeded: bytes)
        if capacity > 0 { backlog += Double(bytes) }
    }

    /// Nanoseconds that a datagram sent now would wait in the path.
    public var delay: Int64 {
        mutating get { capacity > 0 ? Int64(min(backlog / capacity, 10) * 1e9) : max(0, seenQueue - (now - seenAt)) }
    }

    /// What datagrams wait beside queues of ours, beyond the least known, nanoseconds.
    public var foreignDelay: Int64 { check.foreign }

    /// Whether the path holds less than it takes `horizon` nanoseconds to drain.
    public mutating func isOpen(within horizon: Int64) -> Bool {
        if capacity == 0 { return true }
        if check.isGentle(now) ? check.opening(holding: backlog, now: now) <= now : delay < horizon { return true }
        heldBack = true
        return false
    }

    /// When it will be open, unless an echo says so before.
    public mutating func nextOpening(within horizon: Int64) -> Int64 {
        guard capacity > 0 else { return now }
        if check.isGentle(now) { return check.opening(holding: backlog, now: now) }
        let excess = delay - horizon
        return excess < 0 ? now : now + min(excess, second) + millisecond / 2
    }

    // MARK: Measuring

    /// A packet train told what the line carries, bytes per second. What was sent on it lately says more.
    public mutating func learn(_ rate: Double) {
        guard capacity == 0 || recentRate < capacity / 10 else { return }
        capacity = max(Self.minimumCapacity, rate)
        overloads = 0
    }

    /// The peer counts anew: its next count is compared with none before.
    public mutating func restartCounting() { windowStart = .min / 2 }

    /// What an echo tells.
    public struct Echo: BitwiseCopyable, Sendable {
        public var roundTrip: Int64
        /// What its datagram waited on the way there, and the least that others did meanwhile.
        public var queued: Int64
        public var least: Int64
        /// Bytes that the peer has counted (modulo 2^32), and its time when the last of them came.
        public var received: (bytes: UInt32, at: Int64)?
        /// A queue overflowed.
        public var hasOverflowed = false

        public init(roundTrip: Int64, queued: Int64, least: Int64) {
            self.roundTrip = roundTrip
            self.queued = queued
            self.least = least
        }
    }

    public mutating func take(_ echo: Echo, now time: Int64) {
        let roundTrip = echo.roundTrip
        advance(to: time)
        guard roundTrip >= 0, roundTrip < 255 * Self.slotTime else { return }
        if let verdict = check.take(queued: echo.queued, sentAt: time - roundTrip, now: time) { obey(verdict) }
        let queued = check.own(echo.queued)
        let arrived = bytesSent(before: time - roundTrip)
        leastQueued = min(leastQueued, check.own(echo.least))
        if echo.received != nil {
            seenQueue = queued
            seenAt = time
        }
        hasOverflowed = hasOverflowed || echo.hasOverflowed
        if time - windowStart >= Self.window {
            closeWindow(
                echo.received?.bytes ?? arrived, at: echo.received?.at ?? time, isCounted: echo.received != nil, queued,
                time)
        }
        guard capacity > 0, !check.isGentle(time) else { return }
        // It waited `queued` behind so much, and since then the line has been draining.
        let since = Double(sentBytes &- arrived)
        let estimate = max(0, since - capacity * Double(max(0, roundTrip - queued)) / 1e9)
        // The peer's clock counts milliseconds, and its way back varies.
        backlog += (estimate - backlog) / 4
    }

    /// `isCounted`: the peer counted what arrived, and it was not concluded from a round trip.
    private mutating func closeWindow(
        _ arrived: UInt32, at arrival: Int64, isCounted: Bool, _ queued: Int64, _ time: Int64
    ) {
        let elapsed = arrival &- windowArrival
        let isContinuous = time - windowStart < second && elapsed > Self.window / 2 && elapsed < 2 * second
        let bytes = max(0, Int32(bitPattern: arrived &- windowArrived))
        let least = leastQueued
        windowStart = time
        windowArrived = arrived
        windowArrival = arrival
        leastQueued = .max
        // A path that was empty all along, though it was thought to be filled, carries more, and nobody knows how much.
        let isEmpty = least == 0 && queued <= millisecond && !hasOverflowed
        let wasEmpty = isEmpty && heldBack && capacity >= Self.fineCapacity
        emptyWindows = wasEmpty ? emptyWindows + 1 : 0
        heldBack = false
        guard isContinuous else {
            meanRate = 0
            return
        }
        let rate = Double(bytes) / Double(elapsed) * 1e9
        meanRate += (rate - meanRate) * 0.3
        // A queue that holds a packet of ours at least.
        let isQueued = least > Self.queueTolerance && Double(least) / 1e9 * rate >= 1500
        // What was sent to measure by fills nothing; neither does next to nothing.
        let isUsed = sentBytes &- bytesSent(before: time - second) >= Self.leastUse
        let isFull = (hasOverflowed || isQueued) && isUsed
        hasOverflowed = false
        defer { beginRest(isQueued: isQueued, rate, queued, time) }
        overloads = isFull ? overloads + 1 : max(0, overloads - 2)
        if capacity == 0 {
            guard overloads >= (isCounted ? 1 : 2), bytes > 0 else { return }
            capacity = max(Self.minimumCapacity, rate)
            backlog = capacity * Double(queued) / 1e9
        } else if emptyWindows >= 2, rate > capacity * 0.9 {
            capacity = max(rate, capacity) * 1.25
        } else if rate > capacity {
            capacity += (rate - capacity) * 0.5
        } else if overloads >= 2, !check.isPending {
            capacity = max(Self.minimumCapacity, capacity + (rate - capacity) * 0.25)
        }
    }

    private mutating func beginRest(isQueued: Bool, _ rate: Double, _ queued: Int64, _ time: Int64) {
        check.review(
            isQueued: isQueued, capacity: capacity, rate: rate, queued: queued, backlog: delay, now: time)
    }

    private mutating func obey(_ verdict: DelayCheck.Verdict) {
        guard case .foreign(let known) = verdict else { return }
        capacity = known == 0 ? 0 : max(capacity, known)
        backlog = 0
        overloads = 0
        leastQueued = .max
    }

    /// Bytes sent before a moment of the last second.
    private mutating func bytesSent(before time: Int64) -> UInt32 {
        let wanted = max(time / Self.slotTime, slot - 254)
        guard wanted < slot else { return history[Int(slot & 255)] }
        let start = history[Int(wanted & 255)]
        let end = history[Int((wanted + 1) & 255)]
        let part = Double(time - wanted * Self.slotTime) / Double(Self.slotTime)
        return start &+ UInt32(Double(end &- start) * min(max(part, 0), 1))
    }
}
