import TunnelWire

/// Sender's side of a link's measurement: how fast it may be sent on, found out by sending.
///
/// A link is *free* until its queue is seen to grow (one-way delay above its floor) or it loses what it is sent while it is
/// filled; what the receiver then got per second is its capacity, and from there on sending is *paced* to it, so that the
/// queue stays with us. Every now and then, when there is more to send than it carries, the pace is raised for a moment:
/// if the receiver gets more and nothing queues, that is the new capacity; if the queue grows, the pace goes below the
/// capacity until it has drained. `limit` caps the pace whatever is measured.
///
/// Input: ``sent(_:)`` per datagram, ``report(_:now:)`` per receiver's report. Output: ``allowance(now:)``. Where the peer
/// sends no reports there is ``EchoPacer``, and this one holds the cap.
public struct LinkPacer: BitwiseCopyable, Sendable {
    /// Bytes per second that may not be exceeded; 0: no cap.
    public var limit: Double = 0
    /// Bytes per second that the link is known to carry; 0: not known.
    public private(set) var capacity: Double = 0
    public var isPaced: Bool { capacity > 0 || limit > 0 }
    /// What waits in the path beyond its floor, nanoseconds.
    public private(set) var queueDelay: Int64 = 0
    /// Share of what was sent that did not arrive, smoothed, thousandths.
    public private(set) var lossPermille: Double = 0

    /// What arrived per second of late, bytes.
    public var recentRate: Double { rateSum }

    /// What was known of the line's loss is too old.
    public mutating func forgetLoss() { lossPermille = 0 }

    // Tokens, bytes; may be overdrawn by one run.
    private var tokens: Double = 0
    private var filledAt: Int64 = 0
    private var pace: Double = 0

    // Probing.
    private enum Phase: UInt8, BitwiseCopyable { case cruise, probe, drain }
    private var phase = Phase.cruise
    private var phaseUntil: Int64 = 0
    private var nextProbe: Int64 = 0
    private var gain = 1.25
    /// Until what a raised pace did must have been seen.
    private static let probeTime = 60 * millisecond

    /// The pace held something back since the last report.
    private var wasLimited = false

    // The last report, and the floor of the delay.
    private var last: ReceiverReport?
    private var lastAt: Int64 = 0
    private var floor: Int16 = 0
    private var hasFloor = false
    private var origin: UInt16 = 0
    private var floorWindow: Int16 = .max
    private var floorSince: Int64 = 0
    private var rateSum: Double = 0
    private var overloads = 0
    private var wasQueued = false

    public static let queueTolerance = 12 * millisecond
    private static let minimumCapacity: Double = 8_000

    public init() {}

    /// A link starts anew: what was known of its path may not hold.
    public mutating func reset() {
        let limit = limit
        self = LinkPacer()
        self.limit = limit
    }

    // MARK: Sending

    /// Bytes that may be sent now; more than 0 allows a datagram of any size.
    @inlinable
    public mutating func allowance(now: Int64) -> Int { isPaced ? refill(now: now) : .max }

    @usableFromInline
    mutating func refill(now: Int64) -> Int {
        let rate = currentPace
        let elapsed = min(now - filledAt, second)
        filledAt = now
        tokens = min(tokens + rate * Double(elapsed) / 1e9, max(3000, rate * 0.002))
        if tokens <= 0 { wasLimited = true }
        return Int(tokens)
    }

    @inlinable public var isExhausted: Bool { isEmpty }
    @usableFromInline var isEmpty: Bool { tokens <= 0 }

    /// When ``allowance(now:)`` will be above 0 again.
    public func nextAllowance(now: Int64) -> Int64 {
        guard isPaced, tokens <= 0 else { return now }
        // A fraction of a millisecond more, so that a wake-up sends a burst and not a packet.
        return now + Int64((1 - tokens) / max(currentPace, 1000) * 1e9) + millisecond / 2
    }

    @inlinable
    public mutating func sent(_ bytes: Int) {
        countSent(bytes)
    }

    @usableFromInline
    mutating func countSent(_ bytes: Int) {
        // What went past the pace (filters do not wait) is not held against the rest for ever.
        if isPaced { tokens = max(tokens - Double(bytes), -mostDebt) }
    }

    private var mostDebt: Double { max(65_536, min(currentPace, 1e12) * 0.1) }

    /// Whether the cap is exceeded by as much as is let pass: what cannot wait for the pace is not to be sent.
    public var exceedsLimit: Bool { limit > 0 && tokens <= -mostDebt }

    private var currentPace: Double {
        let wanted: Double
        if capacity == 0 {
            wanted = .infinity
        } else {
            wanted =
                switch phase {
                case .cruise: capacity * 0.98
                case .probe: capacity * gain
                case .drain: capacity * 0.85
                }
        }
        return limit > 0 ? min(limit, wanted) : wanted
    }

    // MARK: Measuring

    /// A receiver's report came.
    public mutating func report(_ report: ReceiverReport, now: Int64) {
        defer {
            last = report
            lastAt = now
            wasLimited = false
        }
        let wasQueuedBefore = queueDelay > Self.queueTolerance
        noteDelay(report, now: now)
        wasQueued = wasQueuedBefore
        guard let last, report.packets > last.packets, report.highestSequence > last.highestSequence,
            report.bytes > last.bytes
        else { return }
        noteLoss(
            expected: report.highestSequence - last.highestSequence, received: report.packets - last.packets)
        let elapsed = Double(report.time &- last.time) / 1e6
        guard elapsed > 0.004, elapsed < 2 else { return }
        // A rate beyond all links is a report gone wrong; what is computed from it must fit into an integer.
        let rate = min(Double(report.bytes - last.bytes) / elapsed, 1e12)
        rateSum = rateSum == 0 ? rate : rateSum * 0.7 + rate * 0.3
        judge(rate, now: now)
    }

    /// One-way delay above the least of the last 20 to 40 s.
    private mutating func noteDelay(_ report: ReceiverReport, now: Int64) {
        if !hasFloor {
            origin = report.minimumDelay
            hasFloor = true
            floorSince = now
            floor = 0
        }
        let least = Int16(bitPattern: report.minimumDelay &- origin)
        floor = min(floor, least)
        floorWindow = min(floorWindow, least)
        if now - floorSince > 20 * second {
            floor = floorWindow
            floorWindow = least
            floorSince = now
        }
        // Both come from clocks that somebody may have tampered with: their difference need not fit.
        queueDelay = (Int64(least) - Int64(floor)) * millisecond
    }

    /// Loss without a queue is the line's own; with one it is ours, and answered by the pace.
    private mutating func noteLoss(expected: UInt64, received: UInt64) {
        guard queueDelay <= Self.queueTolerance, !wasQueued else { return }
        let lost = expected > received ? Double(expected - received) / Double(expected) * 1000 : 0
        let weight = min(0.5, Double(expected) / 400)
        lossPermille += (lost - lossPermille) * weight
    }

    private mutating func judge(_ rate: Double, now: Int64) {
        let isQueued = queueDelay > Self.queueTolerance
        if capacity == 0 {
            // Free: a queue that stands for two reports is the link's own.
            // It holds a packet of ours at least; what we did not fill, we cannot drain.
            let isOurs = Double(queueDelay) / 1e9 * rate >= 1500
            overloads = isQueued && isOurs ? overloads + 1 : 0
            if overloads >= 2 { enterPace(max(rate, rateSum), now: now) }
            return
        }
        switch phase {
        case .cruise:
            if isQueued {
                overloads += 1
                if overloads >= 2 {
                    // Less arrives than is sent: the line has become slower, or somebody else uses it.
                    if rate < capacity { capacity = max(Self.minimumCapacity, rate) }
                    setPhase(.drain, for: drainTime, now: now)
                }
            } else {
                overloads = 0
                if rate > capacity * 1.02 { capacity = rate }
                if now >= nextProbe, wasLimited { setPhase(.probe, for: Self.probeTime, now: now) }
            }
        case .probe:
            if isQueued {
                capacity = max(Self.minimumCapacity, min(max(rate, capacity), capacity * gain))
                nextProbe = now + 1500 * millisecond
                gain = 1.25
                setPhase(.drain, for: drainTime, now: now)
            } else if now >= phaseUntil {
                if rate > capacity * 1.05 {
                    // It carries more: go on at once, and faster.
                    capacity = rate
                    gain = min(2, gain * 1.2)
                    setPhase(.probe, for: Self.probeTime, now: now)
                } else {
                    gain = 1.25
                    nextProbe = now + 1000 * millisecond
                    setPhase(.cruise, for: 0, now: now)
                }
            }
        case .drain:
            if now >= phaseUntil || queueDelay < Self.queueTolerance / 2 {
                overloads = 0
                setPhase(.cruise, for: 0, now: now)
            }
        }
    }

    /// At 85 % of the capacity a queue takes this long to go, within bounds.
    private var drainTime: Int64 { min(max(queueDelay * 7, 40 * millisecond), 500 * millisecond) }

    private mutating func enterPace(_ rate: Double, now: Int64) {
        capacity = max(Self.minimumCapacity, rate)
        filledAt = now
        tokens = 0
        nextProbe = now + second
        setPhase(.drain, for: drainTime, now: now)
    }

    private mutating func setPhase(_ next: Phase, for duration: Int64, now: Int64) {
        phase = next
        phaseUntil = now + duration
    }
}
