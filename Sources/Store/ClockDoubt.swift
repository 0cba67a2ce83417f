/// What to make of a wall clock that says it is earlier than what is recorded already (all times: its milliseconds).
///
/// Set back, it was ahead before, and what is recorded of times to come is of now. But a machine that boots with its clock
/// years or hours behind, until NTP sets it, must not cost the history of that time: then the clock is doubted, until it is
/// right again or has gone on for so long that it must be.
struct ClockDoubt: Equatable {
    enum Verdict { case inOrder, setBack, doubtful }

    /// When it was looked at last, as long as it was believed.
    private var latest: Int64
    private var doubt: Doubt?
    private var leap: Leap?

    private struct Doubt: Equatable {
        var since: Int64
        var last: Int64
    }

    /// It was set ahead while it was watched, and may have been right before.
    private struct Leap: Equatable {
        var from: Int64
        var at: Int64
    }

    /// Steps that do not matter.
    private static let tolerance: Int64 = 60_000
    /// For how long a clock must go on to be believed again, by how far it is behind.
    private static func probation(behind: Int64) -> Int64 {
        behind > millisecondsPerDay ? millisecondsPerHour : 600_000
    }

    /// - Parameter latest: the latest time that is recorded.
    init(latest: Int64, now: Int64) {
        self.latest = max(latest, now)
        if latest - now > Self.tolerance { doubt = Doubt(since: now, last: now) }
    }

    var isDoubtful: Bool { doubt != nil }

    /// Looks at the clock, as is to be done every second.
    mutating func look(now: Int64) -> Verdict {
        let verdict = judge(now)
        if verdict == .doubtful {
            let isEven = doubt.map { abs(now - $0.last) <= Self.tolerance } ?? false
            doubt = Doubt(since: isEven ? doubt?.since ?? now : now, last: now)
        } else {
            if now - latest > Self.tolerance { leap = Leap(from: latest, at: now) }
            if verdict == .setBack { leap = nil }
            doubt = nil
            latest = now
        }
        return verdict
    }

    private func judge(_ now: Int64) -> Verdict {
        let behind = latest - now
        if behind <= Self.tolerance { return .inOrder }
        if let doubt {
            let isEven = abs(now - doubt.last) <= Self.tolerance
            return isEven && now - doubt.since >= Self.probation(behind: behind) ? .setBack : .doubtful
        }
        if behind <= millisecondsPerDay { return .setBack }
        // Back where it was before it leapt.
        if let leap, now >= leap.from - Self.tolerance, latest - leap.at < millisecondsPerHour { return .setBack }
        return .doubtful
    }
}
