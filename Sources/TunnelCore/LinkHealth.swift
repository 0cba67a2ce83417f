/// Whether a link that is up still carries what is sent on it: suspected long before `timeout`, trusted again slowly.
///
/// Every datagram we send asks for an answer: the peer echoes our timestamps, in its data or in its reports and
/// keepalives. When nothing echoes for longer than usual, the peer is asked once, for one datagram may get lost; when that
/// stays unanswered as well, our direction (or the way back) is taken for dead; the link leaves the bond and is probed until its answers have been regular for a while (wire-v1.md, One-way failure).
public struct LinkHealth: BitwiseCopyable, Sendable {
    public private(set) var isSuspect = false
    /// First datagram sent after the last echo; 0: none waits for one.
    private var unansweredSince: Int64 = 0
    /// When the peer was asked whether it hears us; 0: not since.
    private var askedAt: Int64 = 0
    private var lastProbe: Int64 = 0
    private var answeredProbes = 0
    private var lastAnswer: Int64 = 0
    /// How long an answer may take, nanoseconds.
    public private(set) var patience = Self.stockPatience
    /// When a question is asked, and how long its answer may take.
    private var questionAfter = Self.stockQuestion
    private var answerWithin = Self.stockPatience - Self.stockQuestion
    /// Whether the peer answers probes at once; a stock one does so once a second.
    public private(set) var isAnsweredPromptly = false

    private static let stockPatience = 2200 * millisecond
    private static let stockQuestion = 1300 * millisecond
    /// How long a peer may wait with a report, and what hosts may take.
    private static let reportDelay = 60 * millisecond
    private static let slack = 40 * millisecond

    private var probeInterval: Int64 { isAnsweredPromptly ? 100 * millisecond : second }
    private var answersToReturn: Int { isAnsweredPromptly ? 5 : 2 }

    public init() {}

    /// The peer sends reports: what it answers takes a round trip, nanoseconds, that varies by `variation`; 0: none was
    /// measured yet, and it may take long.
    public mutating func expectPromptAnswers(roundTrip: Int64, variation: Int64) {
        isAnsweredPromptly = true
        let usual = roundTrip == 0 ? second : roundTrip + 4 * variation
        patience = usual + 2 * Self.reportDelay
        questionAfter = (roundTrip == 0 ? second : roundTrip) + Self.reportDelay
        answerWithin = usual + Self.slack
    }

    /// The peer is a stock one.
    public mutating func expectSlowAnswers() {
        isAnsweredPromptly = false
        patience = Self.stockPatience
        questionAfter = Self.stockQuestion
        answerWithin = Self.stockPatience - Self.stockQuestion
    }

    /// A datagram was sent that the peer will answer.
    @inlinable
    public mutating func sent(now: Int64) {
        if !isWaiting { startWaiting(now) }
    }

    @usableFromInline var isWaiting: Bool { unansweredSince != 0 }
    @usableFromInline mutating func startWaiting(_ now: Int64) { unansweredSince = now }

    /// `lastEcho`: when the peer last echoed a timestamp of ours. True when ``isSuspect`` changed.
    public mutating func check(lastEcho: Int64, now: Int64) -> Bool {
        if unansweredSince != 0, lastEcho >= unansweredSince {
            unansweredSince = 0
            askedAt = 0
            if isSuspect, lastEcho > lastAnswer {
                lastAnswer = lastEcho
                answeredProbes += 1
                if answeredProbes >= answersToReturn {
                    isSuspect = false
                    return true
                }
            }
        }
        guard unansweredSince != 0, now >= (isSuspect ? unansweredSince + patience : verdictAt) else { return false }
        answeredProbes = 0
        if isSuspect {
            unansweredSince = now
            return false
        }
        isSuspect = true
        return true
    }

    /// When the peer is to be asked, and when it should have answered that, too.
    private var askAt: Int64 { unansweredSince + questionAfter }
    private var verdictAt: Int64 {
        askedAt == 0 ? .max : max(unansweredSince + patience, askedAt + answerWithin)
    }

    /// Whether the peer is to be asked for a sign now.
    public mutating func takeProbe(now: Int64) -> Bool {
        if !isSuspect {
            guard unansweredSince != 0, askedAt == 0, now >= askAt else { return false }
            askedAt = now
            return true
        }
        guard now - lastProbe >= probeInterval else { return false }
        lastProbe = now
        return true
    }

    /// When ``check(lastEcho:now:)`` may have news though nothing comes; .max: never.
    public var deadline: Int64 {
        if isSuspect { return lastProbe + probeInterval }
        return unansweredSince == 0 ? .max : askedAt == 0 ? askAt : verdictAt
    }
}
