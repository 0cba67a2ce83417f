/// Which links of a bond share its traffic: those that together carry most of it.
///
/// TCP pays for loss and for the latest link's delay with more than a bad link carries, so what a set of links is good for
/// is estimated as the lesser of what its lines carry and what that many TCP flows make of its loss and round trip
/// (CUBIC: RFC 9438, 5.1 and 5.2). Traffic that is seen to carry more than that minds loss less than TCP, and the estimate
/// follows.
///
/// A link whose rate is not known, since nothing was sent on it and no packet train told (``CapacityProbe``), cannot be
/// judged. While it is on trial it is sent copies of what the others carry: that harms nobody, and shows whether it carries
/// as much.
public struct LinkChoice: BitwiseCopyable, Sendable {
    /// What is known of a link.
    public struct Observation: BitwiseCopyable, Sendable {
        /// Bytes per second that it carries; 0: not known.
        public var capacity: Double
        /// Bytes per second that it carries at the least, or is said to; 0: not known.
        public var guess: Double
        /// Bytes per second that it was seen to carry of late.
        public var recentRate: Double
        public var lossPermille: Double
        /// Microseconds there and back at the least; nil: not known.
        public var roundTrip: Int64?
        /// Its peer drops copies.
        public var takesCopies: Bool

        public init(
            capacity: Double, guess: Double = 0, recentRate: Double, lossPermille: Double, roundTrip: Int64?,
            takesCopies: Bool = true
        ) {
            self.capacity = capacity
            self.guess = guess
            self.recentRate = recentRate
            self.lossPermille = lossPermille
            self.roundTrip = roundTrip
            self.takesCopies = takesCopies
        }
    }

    private struct Record: BitwiseCopyable, Sendable {
        /// The most that it was seen to carry, fading.
        var shown: Double = 0
        var trialEnds: Int64 = 0
        var nextTrial: Int64 = 0
        var pause: Int64 = 0
    }

    /// Links that are sent copies at the moment.
    public private(set) var trial: UInt32 = 0
    private var records = InlineArray<32, Record>(repeating: Record())
    private var chosen: UInt32 = 0
    private var better: UInt32 = 0
    private var betterSince: Int64 = 0
    /// How much more the traffic carries than TCP would.
    private var sturdiness: Double = 1

    /// Bytes per second of a line of which nothing is known.
    private static let usualRate: Double = 1_250_000
    /// Bytes, of a flow that has the time of an ordinary download to grow.
    private static let ownRate: Double = 1_200_000
    /// Seconds that are added to a round trip on the way through hosts, and by the queues of links that are shared.
    private static let ownDelay: Double = 0.002
    private static let sharedDelay: Double = 0.015
    /// Another choice must promise so much more, for so long.
    private static let margin: Double = 1.1
    private static let patience = 500 * millisecond
    /// Microseconds of round trip by which links of one set differ at most.
    private static let mostLag: Int64 = 100_000
    /// Microseconds of round trip by which a flow does not notice that links differ.
    private static let smallLag: Int64 = 8000
    /// Bytes by which a flow grows beyond its first bound, on average over an ordinary download.
    private static let growth: Double = 210_000
    private static let trialTime = 1500 * millisecond
    private static let firstPause = 20 * second
    private static let longestPause = 600 * second
    /// Bytes per second: less is no traffic worth a trial.
    private static let leastRate: Double = 40_000
    /// Every set is tried out of so many links, the best by themselves; others may join.
    private static let mostCompared = 5

    public init() {}

    /// What was chosen rested on less than is known now.
    public mutating func forget() { chosen = 0 }

    /// A link began anew.
    public mutating func reset(_ link: Int) {
        records[link] = Record()
        trial &= ~(1 << UInt32(link))
    }

    /// The links of `mask` that are to share the traffic of `flows` TCP flows, at least one if there is any. `isBusy`: there
    /// is more to send than they take.
    public mutating func choose(
        from mask: UInt32, flows: Double, isBusy: Bool, now: Int64, _ observe: (Int) -> Observation
    ) -> UInt32 {
        trial &= mask
        guard mask & (mask &- 1) != 0 else {
            chosen = mask
            trial = 0
            return mask
        }
        var left = mask
        while left != 0 {
            let link = left.trailingZeroBitCount
            left &= left - 1
            records[link].shown = max(records[link].shown * 0.999, observe(link).recentRate)
        }
        let present = chosen & mask
        let compared = worthComparing(mask, flows, observe)
        noteSturdiness(present, flows, observe)
        select(mask, compared, present == 0 ? compared : present, flows, now, observe)
        reviewTrials(mask, flows, isBusy, now, observe)
        return chosen
    }

    /// - Parameter compared: those of `mask` of which every set is tried.
    private mutating func select(
        _ mask: UInt32, _ compared: UInt32, _ present: UInt32, _ flows: Double, _ now: Int64,
        _ observe: (Int) -> Observation
    ) {
        let standard = promise(of: present, flows, observe)
        var (best, most) = (present, standard)
        let other = bestSet(of: mask, comparing: compared, flows, observe)
        let rate = promise(of: other, flows, observe)
        if rate > most * 1.001 || (rate >= most * 0.999 && other.nonzeroBitCount > best.nonzeroBitCount) {
            (best, most) = (other, max(most, rate))
        }
        // Links that promise nothing less may join at any time; who is to leave is given time.
        let isAddition = best & present == present && most >= standard * 0.999
        // Nothing is risked where all rates are known and the present set is none, or is none that could be.
        let isPlain = chosen & mask == 0 && isKnown(compared, observe)
        if best == present || isAddition || isPlain {
            chosen = best
            better = 0
        } else if most < standard * Self.margin {
            chosen = present
            better = 0
        } else if better != best {
            better = best
            betterSince = now
            chosen = present
        } else if now - betterSince >= Self.patience {
            chosen = best
            better = 0
        } else {
            chosen = present
        }
    }

    private func isKnown(_ set: UInt32, _ observe: (Int) -> Observation) -> Bool {
        var left = set
        while left != 0 {
            if observe(left.trailingZeroBitCount).capacity == 0 { return false }
            left &= left - 1
        }
        return true
    }

    // Mutating, though they change nothing: the compiler would copy all records for each call otherwise.

    /// Bytes per second that a set promises.
    private mutating func promise(of set: UInt32, _ flows: Double, _ observe: (Int) -> Observation) -> Double {
        var rate: Double = 0
        var lost: Double = 0
        var slowest: Int64 = 0
        var fastest = Int64.max
        var left = set
        while left != 0 {
            let link = left.trailingZeroBitCount
            left &= left - 1
            let one = observe(link)
            // Who was never filled may carry more than was seen; of those that nothing is known of, the nearest first.
            let guess = Self.usualRate * (1 - Double(min(one.roundTrip ?? 0, 5_000_000)) / 1e8)
            let share = one.capacity > 0 ? one.capacity : max(guess, one.guess, records[link].shown * 2)
            rate += share
            lost += share * one.lossPermille / 1000
            if let roundTrip = one.roundTrip {
                slowest = max(slowest, roundTrip)
                fastest = min(fastest, roundTrip)
            }
        }
        guard rate > 0 else { return 0 }
        if fastest != .max, slowest - fastest > Self.mostLag { return 0 }
        // Several links put what is lost on one of them off until the others' queues have passed.
        let wait = set & (set &- 1) == 0 ? Self.ownDelay : Self.ownDelay + Self.sharedDelay
        let cap = flows * Self.rate(loss: min(lost / rate, 1), roundTrip: Double(slowest) / 1e6 + wait)
        return min(rate - lost, cap * sturdiness, grown(set, flows, fastest, slowest, observe))
    }

    /// Bytes per second that flows carry while they are as old as an ordinary download. They begin on the nearest links, and
    /// take their first full queue, or the first delay of the farther ones, for the end of what they may hold (HyStart,
    /// RFC 9406); from there they grow slowly. `fastest`, `slowest`: microseconds there and back.
    private mutating func grown(
        _ set: UInt32, _ flows: Double, _ fastest: Int64, _ slowest: Int64, _ observe: (Int) -> Observation
    ) -> Double {
        guard set & (set &- 1) != 0, fastest != .max, slowest - fastest > Self.smallLag, isKnown(set, observe) else {
            return .infinity
        }
        var near: Double = 0
        var carried: Double = 0
        var left = set
        while left != 0 {
            let one = observe(left.trailingZeroBitCount)
            left &= left - 1
            carried += one.recentRate
            if let roundTrip = one.roundTrip, roundTrip - fastest <= Self.smallLag { near += one.capacity }
        }
        let holds = near * (Double(fastest + (slowest - fastest) / 2) / 1e6 + Self.sharedDelay)
        // Unless they have grown already.
        return max(flows * (holds + Self.growth) / (Double(slowest) / 1e6 + Self.ownDelay), carried)
    }

    /// What a CUBIC flow carries, bytes per second; `roundTrip` in seconds (RFC 9438, figures 5 and 6, C = 0.4). Without
    /// loss it is bounded by how long it takes to grow again after each loss that it makes itself.
    private static func rate(loss: Double, roundTrip: Double) -> Double {
        let own = ownRate / roundTrip
        guard loss > 0 else { return own }
        let root = loss.squareRoot()
        let friendly = 1.22 / (roundTrip * root)
        let cubic = 1.054 / (roundTrip.squareRoot().squareRoot() * root * root.squareRoot())
        return min(own, max(friendly, cubic) * 1350)
    }

    /// Of many links, those that promise most by themselves.
    private mutating func worthComparing(_ mask: UInt32, _ flows: Double, _ observe: (Int) -> Observation) -> UInt32 {
        var rest = mask
        while rest.nonzeroBitCount > Self.mostCompared {
            var worst: UInt32 = 0
            var least = Double.infinity
            var left = rest
            while left != 0 {
                let bit: UInt32 = left & (~left &+ 1)
                left &= left - 1
                let rate = promise(of: bit, flows, observe)
                if rate < least {
                    least = rate
                    worst = bit
                }
            }
            rest &= ~worst
        }
        return rest
    }

    /// The best set of `compared`, and of the rest of `mask` whatever takes nothing from it, what promises most first.
    private mutating func bestSet(
        of mask: UInt32, comparing compared: UInt32, _ flows: Double, _ observe: (Int) -> Observation
    ) -> UInt32 {
        var best: UInt32 = 0
        var most: Double = 0
        func consider(_ set: UInt32) {
            let rate = promise(of: set, flows, observe)
            let isLarger = set.nonzeroBitCount > best.nonzeroBitCount
            guard rate > most * 1.001 || (rate >= most * 0.999 && isLarger) else { return }
            most = max(most, rate)
            best = set
        }
        var set = compared
        while set != 0 {
            consider(set)
            set = (set &- 1) & compared
        }
        var rest = mask & ~compared
        while rest != 0 {
            var first: UInt32 = 0
            var highest = -Double.infinity
            var left = rest
            while left != 0 {
                let bit: UInt32 = left & (~left &+ 1)
                left &= left - 1
                let rate = promise(of: bit, flows, observe)
                if rate > highest { (first, highest) = (bit, rate) }
            }
            consider(best | first)
            rest &= ~first
        }
        return best
    }

    private mutating func noteSturdiness(_ set: UInt32, _ flows: Double, _ observe: (Int) -> Observation) {
        var rate: Double = 0
        var lost: Double = 0
        var slowest: Int64 = 0
        var isFull = true
        var left = set
        while left != 0 {
            let link = left.trailingZeroBitCount
            left &= left - 1
            let one = observe(link)
            rate += one.recentRate
            lost += one.recentRate * one.lossPermille / 1000
            slowest = max(slowest, one.roundTrip ?? 0)
            isFull = isFull && one.capacity > 0 && one.recentRate > one.capacity * 0.85
        }
        guard rate > Self.leastRate, lost / rate > 0.003 else {
            sturdiness += (1 - sturdiness) * 0.002
            return
        }
        let expected = flows * Self.rate(loss: lost / rate, roundTrip: Double(slowest) / 1e6 + Self.ownDelay)
        // What fills its lines might carry more.
        let seen = rate / expected * (isFull && rate > expected ? 2 : 1)
        sturdiness += (min(max(seen, 1), 100) - sturdiness) * 0.1
    }

    // MARK: Trials

    private mutating func reviewTrials(
        _ mask: UInt32, _ flows: Double, _ isBusy: Bool, _ now: Int64, _ observe: (Int) -> Observation
    ) {
        var total: Double = 0
        var lost: Double = 0
        var left = chosen
        while left != 0 {
            let one = observe(left.trailingZeroBitCount)
            left &= left - 1
            total += one.recentRate
            lost += one.recentRate * one.lossPermille / 1000
        }
        if trial != 0 {
            let link = trial.trailingZeroBitCount
            guard now >= records[link].trialEnds || observe(link).capacity > 0 else { return }
            trial = 0
            records[link].pause = min(Self.longestPause, max(Self.firstPause, records[link].pause * 2))
            records[link].nextTrial = now + records[link].pause
        }
        // No need while nothing is short: no queue of ours, no loss.
        guard total > Self.leastRate, isBusy || lost / total > 0.001 else { return }
        left = mask
        while left != 0 {
            let link = left.trailingZeroBitCount
            left &= left - 1
            let one = observe(link)
            let isIdle = one.recentRate < total / 4
            let isUnknown = one.capacity == 0 || chosen & 1 << UInt32(link) == 0
            guard one.takesCopies, isIdle, isUnknown, now >= records[link].nextTrial else { continue }
            trial = 1 << UInt32(link)
            records[link].trialEnds = now + Self.trialTime + (one.roundTrip ?? 0) * 2000
            return
        }
    }
}
