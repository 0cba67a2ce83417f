/// Weighted round robin over links in short bursts, in proportion (wire-v1.md, Tunnel; smooth weighted round robin).
///
/// A link keeps the turn for a burst of bytes, so that runs of datagrams stay whole for segmentation offload; the burst
/// follows the rate at which the tunnel sends, so that a slow bond alternates per packet and a fast one per 64 kB.
public struct BurstScheduler: BitwiseCopyable, Sendable {
    public static let maximumLinks = 32

    private var weights = InlineArray<32, Int64>(repeating: 1)
    /// What each link may still send compared with the others, in bytes times `total`; their sum is 0.
    private var credits = InlineArray<32, Int64>(repeating: 0)
    /// Bit i: link i may be chosen.
    private var eligible: UInt32 = 0
    private var total: Int64 = 0
    /// Whose turn it is, how many bytes that turn was given, and what is left of them (below 0 after its last packet).
    private var current: Int = -1
    private var turn: Int = 0
    private var left: Int = 0

    // How fast the tunnel sends, for the burst's size.
    private var burst = minimumBurst
    private var windowStart: Int64 = 0
    private var windowBytes: Int = 0

    private static let minimumBurst = 1500
    private static let maximumBurst = 64_000
    /// A burst lasts this long at the present rate.
    private static let burstTime: Int64 = 500_000
    private static let window: Int64 = 10 * millisecond
    /// Leaves room for the products of 32 weights and a burst.
    private static let maximumWeight: UInt64 = 1 << 34

    public init() {}

    /// Sets who takes part. `weights` are relative (those above 2^34 count as 2^34, and none as 1); a link that is not
    /// `eligible` gets nothing.
    public mutating func configure(weights new: some Sequence<(link: Int, weight: UInt64)>, eligible mask: UInt32) {
        eligible = mask
        weights = InlineArray(repeating: 1)
        for (link, weight) in new where link < Self.maximumLinks {
            weights[link] = Int64(min(max(1, weight), Self.maximumWeight))
        }
        total = 0
        for link in 0..<Self.maximumLinks where isEligible(link) { total += weights[link] }
        // Old credit would send a returning link a burst that it has not earned.
        credits = InlineArray(repeating: 0)
        current = -1
        left = 0
    }

    private func isEligible(_ link: Int) -> Bool { eligible & 1 << UInt32(link) != 0 }

    public var isEmpty: Bool { eligible == 0 }

    /// Narrows or widens the choice for the next packets; shares earned so far stay.
    @inlinable
    public mutating func restrict(to mask: UInt32) {
        if mask != choice { choose(from: mask) }
    }

    @usableFromInline var choice: UInt32 { eligible }

    @usableFromInline
    mutating func choose(from mask: UInt32) {
        eligible = mask
        total = 0
        var left = mask
        while left != 0 {
            total &+= weights[left.trailingZeroBitCount]
            left &= left - 1
        }
        if current >= 0, mask & 1 << UInt32(current) == 0 {
            current = -1
            self.left = 0
        }
    }

    /// The link for the next packet of `count` bytes; -1 when there is none.
    @inlinable
    public mutating func pick(_ count: Int) -> Int {
        if charge(count) { return chosen }
        return pickNext(count)
    }

    @usableFromInline var chosen: Int { current }

    @usableFromInline
    mutating func charge(_ count: Int) -> Bool {
        windowBytes &+= count
        guard current >= 0, left > 0 else { return false }
        left -= count
        return true
    }

    @usableFromInline
    mutating func pickNext(_ count: Int) -> Int {
        guard eligible != 0 else { return -1 }
        if eligible & (eligible - 1) == 0 {
            begin(eligible.trailingZeroBitCount, Self.maximumBurst, count)
            return current
        }
        settle()
        var best = -1
        var most = Int64.min
        for link in 0..<Self.maximumLinks where isEligible(link) {
            let credit = credits[link] + Int64(burst) * weights[link]
            if credit > most {
                most = credit
                best = link
            }
        }
        begin(best, burst, count)
        return best
    }

    private mutating func begin(_ link: Int, _ bytes: Int, _ count: Int) {
        current = link
        turn = bytes
        left = bytes - count
    }

    /// Charges the turn that ended with what it sent, its last packet's excess included, and shares that out.
    private mutating func settle() {
        guard current >= 0 else { return }
        let sent = Int64(turn - left)
        for link in 0..<Self.maximumLinks where isEligible(link) { credits[link] += sent * weights[link] }
        credits[current] -= sent * total
    }

    /// Once per wake-up: follows the rate.
    @inlinable
    public mutating func observe(now: Int64) {
        if now - observedSince >= 10_000_000 { adjust(now: now) }
    }

    @usableFromInline var observedSince: Int64 { windowStart }

    @usableFromInline
    mutating func adjust(now: Int64) {
        let elapsed = now - windowStart
        if elapsed < Self.window * 10 {
            let target = Int(Int64(windowBytes) * Self.burstTime / elapsed)
            burst = min(Self.maximumBurst, max(Self.minimumBurst, (burst * 3 + target) / 4))
        } else {
            burst = Self.minimumBurst
        }
        windowStart = now
        windowBytes = 0
    }
}
