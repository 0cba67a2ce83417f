/// Which links of a bond do it more good than harm. TCP pays for a link that loses more than the others, or comes much
/// later, with more than such a link carries; so it is left out, and tried again later: quick to leave, slow to return.
///
/// Links are compared with the one that would carry most by itself, which is never left out. Loss counts once it has
/// lasted, since a burst that overflowed a queue is no property of a line. A late link is given its chance to show what it
/// carries: it may be the best of all.
public struct UsefulLinks: BitwiseCopyable, Sendable {
    /// What is known of a link.
    public struct Observation: BitwiseCopyable, Sendable {
        /// Bytes per second that it carries: its capacity, or what it was seen to carry.
        public var rate: Double
        /// Whether ``rate`` is all that it carries.
        public var isMeasured: Bool
        public var lossPermille: Double
        /// Microseconds there and back at the least; nil: not known.
        public var roundTrip: Int64?

        public init(rate: Double, isMeasured: Bool, lossPermille: Double, roundTrip: Int64?) {
            self.rate = rate
            self.isMeasured = isMeasured
            self.lossPermille = lossPermille
            self.roundTrip = roundTrip
        }

        /// For comparison only: one percent of loss halves what TCP gets out of a link.
        fileprivate var worth: Double { max(1, rate) / (1 + lossPermille / 10) }
    }

    private struct Trial: BitwiseCopyable, Sendable {
        var lossySince: Int64 = 0
        var usedSince: Int64 = 0
        var returned: Int64 = 0
        var outUntil: Int64 = 0
        var absence: Int64 = 0
    }

    private var trials = InlineArray<32, Trial>(repeating: Trial())

    /// Thousandths above the best link's.
    private static let tolerableLoss: Double = 10
    /// Microseconds of round trip above the best link's.
    private static let tolerableLag: Int64 = 100_000
    private static let lossPatience = 1500 * millisecond
    private static let lossPatienceAfterReturn = 300 * millisecond
    private static let lagPatience = 3 * second
    /// Bytes per second: less is no traffic, but keepalives.
    private static let leastRate: Double = 10_000
    private static let firstAbsence = 30 * second
    private static let longestAbsence = 480 * second
    /// After so long without harm, a link's past is forgotten.
    private static let probation = 60 * second

    public init() {}

    /// A link began anew.
    public mutating func reset(_ link: Int) { trials[link] = Trial() }

    /// The links of `mask` that are to share the traffic, at least one if there is any. `returned`: links that were out and
    /// are tried again; what was known of their loss is too old.
    public mutating func choose(
        from mask: UInt32, now: Int64, _ observe: (Int) -> Observation
    ) -> (useful: UInt32, returned: UInt32) {
        guard mask & (mask &- 1) != 0, let best = best(of: mask, observe) else { return (mask, 0) }
        let standard = observe(best)
        var useful: UInt32 = 1 << UInt32(best)
        var returned: UInt32 = 0
        var left = mask & ~useful
        while left != 0 {
            let link = left.trailingZeroBitCount
            left &= left - 1
            if now < trials[link].outUntil { continue }
            if trials[link].outUntil != 0 {
                trials[link] = Trial(returned: now, absence: trials[link].absence)
                returned |= 1 << UInt32(link)
            } else if doesHarm(link, observe(link), standard, now) {
                leave(link, now)
                continue
            }
            useful |= 1 << UInt32(link)
        }
        trials[best].outUntil = 0
        return (useful, returned)
    }

    private func best(of mask: UInt32, _ observe: (Int) -> Observation) -> Int? {
        var best: Int?
        var most: Observation?
        for link in 0..<32 where mask & 1 << UInt32(link) != 0 {
            let one = observe(link)
            if let most {
                let isNearer = (one.roundTrip ?? .max) < (most.roundTrip ?? .max)
                guard one.worth > most.worth || (one.worth == most.worth && isNearer) else { continue }
            }
            best = link
            most = one
        }
        return best
    }

    private mutating func doesHarm(_ link: Int, _ one: Observation, _ best: Observation, _ now: Int64) -> Bool {
        if one.lossPermille > best.lossPermille + Self.tolerableLoss {
            if trials[link].lossySince == 0 { trials[link].lossySince = now }
            let isOnTrial = trials[link].absence != 0 && now - trials[link].returned < 10 * second
            let patience = isOnTrial ? Self.lossPatienceAfterReturn : Self.lossPatience
            if now - trials[link].lossySince >= patience { return true }
        } else {
            trials[link].lossySince = 0
        }
        guard let own = one.roundTrip, let other = best.roundTrip, own - other > Self.tolerableLag else {
            trials[link].usedSince = 0
            return false
        }
        if trials[link].usedSince == 0, one.rate > Self.leastRate { trials[link].usedSince = now }
        guard trials[link].usedSince != 0 else { return false }
        return one.isMeasured || now - trials[link].usedSince >= Self.lagPatience
    }

    private mutating func leave(_ link: Int, _ now: Int64) {
        let trial = trials[link]
        let isFirst = trial.absence == 0 || now - trial.returned > Self.probation
        let absence = isFirst ? Self.firstAbsence : min(Self.longestAbsence, trial.absence * 2)
        trials[link] = Trial(outUntil: now + absence, absence: absence)
    }
}
