/// Tells a queue of ours from a delay that is none: another route, jitter, somebody else's traffic.
///
/// Both look alike while sending goes on evenly. So a link whose rate seems to have fallen behind a queue rests for as long
/// as the queue would take to empty, which costs nothing if it is one, and for a moment is then used gently, by less than it
/// carries. What datagrams still wait meanwhile is no queue of ours, and counts as part of the way from then on. (BBR has
/// ProbeRTT for this, every 10 s: draft-ietf-ccwg-bbr.)
struct DelayCheck: BitwiseCopyable, Sendable {
    enum Verdict {
        case queue
        /// What was known of the rate before holds again; 0: nothing.
        case foreign(capacity: Double)
    }

    /// What datagrams wait beyond the least known that is not our doing, nanoseconds.
    private(set) var foreign: Int64 = 0
    /// A check was begun, and what comes of it is not known.
    private(set) var isPending = false
    /// Bytes per second that the link may be used with after the rest.
    private(set) var gentleRate: Double = 0

    private var restEnds: Int64 = 0
    private var next: Int64 = 0
    private var pause = firstPause
    /// What datagrams usually waited when the rest began; the sum of what they waited after it, and how many told.
    private var before: Double = 0
    private var waited: Int64 = 0
    private var echoes: Int64 = 0

    /// The most bytes per second that the link seemed to carry since the last check, and whether that one found a queue.
    private var reference: Double = 0
    private var isKnown = false
    /// Windows at whose end there seemed to be a queue, less those without.
    private var queuedWindows = 0
    private var lastEmpty: Int64 = 0
    /// What datagrams wait, smoothed.
    private var usual: Double = 0

    private static let firstPause = 500 * millisecond
    private static let longestPause = 8 * second
    private static let longestRest = 300 * millisecond
    private static let gentleTime = 80 * millisecond
    private static let fewWindows = 4
    /// A queue that never emptied for so long may not be one.
    private static let longestQueue = 10 * second
    private static let negligible = 2 * millisecond

    /// What a datagram waited in queues of ours.
    func own(_ queued: Int64) -> Int64 { max(0, queued - foreign) }

    /// The link rests, or is used gently.
    func isGentle(_ now: Int64) -> Bool { isPending && now < restEnds + Self.gentleTime }

    /// When the next datagram may be sent, while the link holds so many bytes.
    func opening(holding bytes: Double, now: Int64) -> Int64 {
        max(restEnds, now + Int64(min(bytes / max(gentleRate, 1), 1) * 1e9))
    }

    /// An echo told that a datagram sent at `sentAt` waited `queued`.
    mutating func take(queued: Int64, sentAt: Int64, now: Int64) -> Verdict? {
        usual += (Double(queued) - usual) / 8
        foreign = min(foreign, Int64(usual))
        guard isPending, sentAt >= restEnds else { return nil }
        if sentAt <= restEnds + Self.gentleTime {
            waited += min(queued, 10 * second)
            echoes += 1
            return nil
        }
        // After so long without one, too.
        return conclude(now)
    }

    private mutating func conclude(_ now: Int64) -> Verdict? {
        isPending = false
        queuedWindows = 0
        lastEmpty = now
        next = now + pause
        pause = min(Self.longestPause, pause * 2)
        guard echoes > 0 else { return nil }
        let residual = waited / echoes
        // Of what was not known to be foreign, most is.
        let more = residual - foreign
        let isForeign = more > Self.negligible && Double(more) * 2 > before - Double(foreign)
        foreign = residual > Self.negligible ? residual : 0
        usual = max(usual, Double(foreign))
        if isForeign { return .foreign(capacity: isKnown ? reference : 0) }
        reference = 0
        isKnown = true
        return .queue
    }

    /// A window of measurement has closed in which `rate` arrived. `queued`: what the last datagram waited in queues of ours,
    /// `backlog`: what the path holds, nanoseconds. The link may begin to rest.
    mutating func review(isQueued: Bool, capacity: Double, rate: Double, queued: Int64, backlog: Int64, now: Int64) {
        if now - next > Self.longestPause { pause = Self.firstPause }
        reference = max(reference, capacity)
        queuedWindows = max(0, queuedWindows + (isQueued ? 1 : -1))
        if !isQueued { lastEmpty = now }
        guard !isPending, capacity > 0, isQueued, now >= next, queuedWindows >= Self.fewWindows,
            capacity < reference * 0.9 || now - lastEmpty > Self.longestQueue
        else { return }
        before = usual
        waited = 0
        echoes = 0
        isPending = true
        restEnds = now + min(Self.longestRest, max(queued, backlog)) + 5 * millisecond
        gentleRate = min(capacity, rate) * 0.75
    }
}
