import TunnelWire

/// Sender's side of packet trains: finds out how fast a line is on which little or nothing is sent.
///
/// A short train comes first, so that a slow line is not kept busy; a longer one follows while that was too short to tell.
/// What is sent on a link afterwards says more about it than any train (``LinkPacer``).
public struct CapacityProbe: BitwiseCopyable, Sendable {
    /// A train to be sent now: so many datagrams, of the size of DATA.
    public struct Train: BitwiseCopyable, Sendable {
        public var number: UInt8
        public var count: Int

        public init(number: UInt8, count: Int) {
            self.number = number
            self.count = count
        }
    }

    public enum Finding: Equatable, Sendable {
        /// Bytes per second.
        case capacity(Double)
        /// Bytes per second at the least: too fast for a train to tell, or delays vary by more than it takes.
        case atLeast(Double)
    }

    /// When a train is due; .max: none is wanted, or one is under way.
    public private(set) var dueAt = Int64.max
    /// Whether any train was answered, or given up, since the link began.
    public private(set) var hasEnded = false
    private var number: UInt8 = 0
    /// Place in ``lengths`` of the next train, or of the one under way.
    private var step = Self.firstStep
    private var isUnderWay = false
    private var sentAt: Int64 = 0
    private var patience: Int64 = 0
    private var size = 0
    private var failures = 0

    /// The shortest is for queues that hold no more.
    private static let lengths: InlineArray<4, Int> = [4, 8, 24, 64]
    private static let firstStep = 1
    private static let lastStep = 3
    private static let mostFailures = 4
    /// A fit is believed whose standard error is so much of it; of the longest train, so much.
    private static let tolerance = 0.12
    private static let lastTolerance = 0.25
    /// The halves of a train agree if they differ by so much.
    private static let agreement = 1.35
    /// Nanoseconds that the half of a train takes at least: less is in the noise of hosts and cards.
    private static let shortest: Double = 1_500_000

    public init() {}

    private var length: Int { Self.lengths[step] }

    /// Sends a series of trains from a moment on.
    public mutating func schedule(_ time: Int64) {
        guard !isUnderWay else { return }
        dueAt = min(dueAt, time)
    }

    /// The train to be sent now, of datagrams of `size` bytes, on a link whose round trip takes so many nanoseconds.
    public mutating func next(size: Int, roundTrip: Int64, now: Int64) -> Train? {
        if isUnderWay, now >= deadline { fail(now) }
        guard now >= dueAt else { return nil }
        dueAt = .max
        number &+= 1
        isUnderWay = true
        sentAt = now
        patience = 2 * roundTrip + second / 2
        self.size = size
        return Train(number: number, count: length)
    }

    /// When ``next(size:roundTrip:now:)`` has something to do.
    public var deadline: Int64 { isUnderWay ? sentAt + patience : dueAt }

    /// The peer's answer. Nil: it says nothing, or another train is to say more.
    public mutating func take(_ result: TrainResult, now: Int64) -> Finding? {
        guard isUnderWay, result.train == number else { return nil }
        isUnderWay = false
        let gap = max(1, Double(result.lastGap))
        let first = Double(result.firstGap)
        let takes = gap * Double(length / 2 - 1)
        let error = Double(result.gapError) / gap
        let rate = Double(size) / gap * 1e9
        let isEven = first <= gap * Self.agreement && gap <= first * Self.agreement
        if takes >= Self.shortest, error <= Self.tolerance, isEven { return end(.capacity(rate)) }
        // One that got lost was too long for the line's queue: then this one must do.
        let isShortened = failures > 0 && step < Self.lastStep && takes >= Self.shortest / 4
        guard step == Self.lastStep || isShortened else {
            step = step < 2 && takes > Self.shortest / 3 ? 2 : Self.lastStep
            dueAt = now
            return nil
        }
        if takes < Self.shortest, !isShortened {
            return end(.atLeast(Double(size * (length / 2 - 1)) / Self.shortest * 1e9))
        }
        // Delays vary by more than the train takes, which makes it longer. The other way round, a token bucket let the first
        // half through.
        let isUnsure = error > Self.lastTolerance || first > gap * Self.agreement
        return end(isUnsure ? .atLeast(Double(size) / max(gap, first) * 1e9) : .capacity(rate))
    }

    private mutating func end(_ finding: Finding?) -> Finding? {
        step = Self.firstStep
        failures = 0
        hasEnded = true
        return finding
    }

    /// Nothing came back: the queue may be too short for the train.
    private mutating func fail(_ now: Int64) {
        isUnderWay = false
        failures += 1
        if failures >= Self.mostFailures {
            _ = end(nil)
        } else {
            step = max(0, step - 1)
            dueAt = now
        }
    }
}
