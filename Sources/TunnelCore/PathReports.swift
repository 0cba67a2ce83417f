import TunnelWire

/// What a peer's reports tell of a link beside its rate: how long datagrams wait on the way there, and how many are lost.
public struct PathReports: BitwiseCopyable, Sendable {
    /// What the last datagram waited in the path beyond the least, and the least of those reported with it, nanoseconds.
    public private(set) var queued: Int64 = 0
    public private(set) var leastQueued: Int64 = 0
    /// Share of what was sent that the line lost, thousandths.
    public private(set) var lossPermille: Double = 0
    /// The same, less by how little is known yet: one datagram of a hundred may get lost on a good line.
    public var likelyLossPermille: Double { lossPermille * judged / (judged + Self.doubt) }
    /// A queue of this length is known to overflow, nanoseconds.
    public private(set) var overflow: Int64 = mostOverflow

    /// The last report told of an overflow.
    public private(set) var hasOverflowed = false
    /// The peer's time when the last datagram arrived, nanoseconds from some moment.
    public private(set) var arrival: Int64 = 0

    private var last: ReceiverReport?
    // One-way delay, whose zero is unknown: its floor is the least of the last 20 to 40 s.
    private var origin: UInt16 = 0
    private var floor: Int16 = 0
    private var floorWindow: Int16 = .max
    private var floorSince: Int64 = 0
    /// Datagrams that the loss was computed from.
    private var judged: Double = 0
    private var overflowAt: Int64 = 0
    // Datagrams that waited in a queue, those that were lost, and the least that others waited then.
    private var queuedExpected: Double = 0
    private var queuedLost: Double = 0
    private var waitedAtLoss = Int64.max

    private static let mostOverflow = second
    private static let leastOverflow = 8 * millisecond
    /// Behind a longer queue a loss may be the queue's.
    private static let shortQueue = 12 * millisecond
    /// Bytes of a datagram, on average.
    private static let smallDatagram: Double = 250
    private static let memory: Double = 1500
    private static let doubt: Double = 100

    public init() {}

    public mutating func take(_ report: ReceiverReport, now: Int64) {
        defer { last = report }
        let queuedBefore = queued
        hasOverflowed = false
        if let last { arrival &+= Int64(Int32(bitPattern: report.time &- last.time)) * 1000 }
        noteDelay(report, now: now)
        guard let last, report.packets > last.packets, report.highestSequence > last.highestSequence,
            // A sender that goes on after it died leaves numbers out.
            report.highestSequence - last.highestSequence < 1 << 15
        else { return }
        let expected = Double(report.highestSequence - last.highestSequence)
        let received = Double(report.packets - last.packets)
        let lost = max(0, expected - received)
        let waited = max(queued, queuedBefore)
        // Small datagrams make no queue: what waits, and gets lost, does so for other reasons.
        let isOwn = Double(report.bytes &- last.bytes) >= received * Self.smallDatagram
        if isOwn, waited > Self.leastOverflow, noteQueue(expected, lost, waited, now) { return }
        if now - overflowAt > 5 * second, overflow < Self.mostOverflow {
            overflow = overflow * 5 / 4
            overflowAt = now
        }
        guard waited <= Self.shortQueue || !isOwn else { return }
        judged = min(judged + expected, Self.memory)
        lossPermille += (lost / expected * 1000 - lossPermille) * min(1, expected / max(judged, 100))
    }

    /// Losses behind a queue that are more than the line's own say how long the queue gets. True when it overflowed.
    private mutating func noteQueue(_ expected: Double, _ lost: Double, _ waited: Int64, _ now: Int64) -> Bool {
        queuedExpected += expected
        queuedLost += lost
        if lost > 0 { waitedAtLoss = min(waitedAtLoss, waited) }
        let isMuch = lost >= 3 && lost > expected * 0.04
        guard isMuch || queuedExpected >= 40 else { return false }
        let share = queuedLost / queuedExpected
        let isOwn = isMuch || (queuedLost >= 2 && share > 0.015 + 2 * lossPermille / 1000)
        defer {
            queuedExpected = 0
            queuedLost = 0
            waitedAtLoss = .max
        }
        guard isOwn else { return false }
        overflow = max(Self.leastOverflow, min(overflow, waitedAtLoss * 3 / 4))
        overflowAt = now
        hasOverflowed = true
        return true
    }

    private mutating func noteDelay(_ report: ReceiverReport, now: Int64) {
        if last == nil {
            origin = report.minimumDelay
            floorSince = now
        }
        // Both come from clocks that somebody may have tampered with: their differences wrap.
        let least = Int16(bitPattern: report.minimumDelay &- origin)
        floor = min(floor, least)
        floorWindow = min(floorWindow, least)
        if now - floorSince > 20 * second {
            floor = floorWindow
            floorWindow = least
            floorSince = now
        }
        leastQueued = max(0, (Int64(least) - Int64(floor)) * millisecond)
        queued = max(leastQueued, (Int64(Int16(bitPattern: report.delay &- origin)) - Int64(floor)) * millisecond)
    }
}
