/// The states of history: those of a link, and unknown for the time of which nothing can be said.
public enum HistoryState: String, Sendable, CaseIterable {
    case unknown, down, connecting, up, lossy, slow

    public var isUp: Bool { self == .up || self == .lossy || self == .slow }
}

/// One link, by the names it has now.
public struct LinkSubject: Hashable, Sendable {
    public var tunnel: String
    public var link: String

    public init(tunnel: String, link: String) {
        self.tunnel = tunnel
        self.link = link
    }
}

/// Something that history is to remember of a link. Times are milliseconds since 1970.
public struct HistoryEvent: Equatable, Sendable {
    public var subject: LinkSubject
    public var at: Int64
    public var kind: Kind

    public enum Kind: Equatable, Sendable {
        /// It is defined and enabled: unknown until it is up for the first time, or until `grace` has passed.
        case defined(grace: Int64)
        case disabled
        /// The engine saw its state change. `lastHeard`: the last authenticated datagram before that, nil for none.
        case changed(from: HistoryState, to: HistoryState, lastHeard: Int64?, reason: String)
        /// It is stopped on purpose: whatever follows is not its outage.
        case stopped(from: HistoryState, reason: String)
        /// No longer defined.
        case removed
    }

    public init(_ subject: LinkSubject, at: Int64, _ kind: Kind) {
        self.subject = subject
        self.at = at
        self.kind = kind
    }
}

/// What a link has carried since the engine began to count, and how it was.
public struct LinkSample: Equatable, Sendable {
    public var subject: LinkSubject
    /// Bytes in all.
    public var txTotal: Int64
    public var rxTotal: Int64
    /// Averages over `samples` observations; nil without one.
    public var samples: Int64
    public var srttMicroseconds: Int64?
    public var lossPermille: Int64?

    public init(
        subject: LinkSubject, txTotal: Int64, rxTotal: Int64, samples: Int64, srttMicroseconds: Int64?,
        lossPermille: Int64?
    ) {
        self.subject = subject
        self.txTotal = txTotal
        self.rxTotal = rxTotal
        self.samples = samples
        self.srttMicroseconds = srttMicroseconds
        self.lossPermille = lossPermille
    }
}

/// How long history is kept, in days.
public struct Retention: Equatable, Sendable {
    public var samples = 7
    public var hourly = 90
    public var daily = 1830

    public init(samples: Int = 7, hourly: Int = 90, daily: Int = 1830) {
        self.samples = samples
        self.hourly = hourly
        self.daily = daily
    }
}

let millisecondsPerHour: Int64 = 3_600_000
let millisecondsPerDay: Int64 = 86_400_000

func dayStart(_ time: Int64) -> Int64 { time - time % millisecondsPerDay }
func hourStart(_ time: Int64) -> Int64 { time - time % millisecondsPerHour }
