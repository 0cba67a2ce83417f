/// Whether a link that is up still carries what is sent on it: suspected long before `timeout`, trusted again slowly.
///
/// Every datagram we send asks for an answer: the peer echoes our timestamps, in its data or in its reports and
/// keepalives. When nothing echoes for half of ``patience``, the peer is asked once, for one datagram may get lost; when that
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
    public var patience: Int64 = 2200 * millisecond
    /// Whether the peer answers probes at once; a stock one does so once a second.
    public var isAnsweredPromptly = false

    private var probeInterval: Int64 { isAnsweredPromptly ? 100 * millisecond : second }
    private var answersToReturn: Int { isAnsweredPromptly ? 5 : 2 }

    public init() {}

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
    private var askAt: Int64 { unansweredSince + patience / 2 }
    private var verdictAt: Int64 {
        guard askedAt != 0 else { return .max }
        return max(
            unansweredSince + patience, askedAt + (isAnsweredPromptly ? patience - Self.reportDelay : patience / 2))
    }
    /// What of ``patience`` is for a report that waits for its time, nanoseconds; a question is answered at once.
    private static let reportDelay = 60 * millisecond

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
