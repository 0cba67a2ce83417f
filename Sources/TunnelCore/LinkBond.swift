import TunnelWire

/// The schedule of a bond: which links share a tunnel's traffic, and which of them takes the next packet.
///
/// Links that may be used are told by ``choose(among:now:)`` ten times a second and at every change; of these the
/// adaptive policy leaves out those that do more harm than good. Per packet, ``pick(_:)`` takes
///
/// - towards a peer that reports what arrives, and puts it in order as long as that takes: the links with the shortest
///   way, in proportion, and the others for what these cannot carry;
/// - towards one that does not: the link on which the packet arrives first, so that packets arrive in order.
///
/// Both are held back by what was measured of a link (``LinkPacer``, ``EchoPacer``). A link that is not the bottleneck has
/// no pace, and as long as one of them is open nothing queues on our side. Times are nanoseconds unless said otherwise.
public struct LinkBond: ~Copyable {
    public enum Policy: UInt8, Sendable, BitwiseCopyable {
        /// Weighted round robin, by given weights.
        case weighted
        case adaptive
    }

    /// What a link's session knows that the schedule goes by.
    public struct Observation: BitwiseCopyable, Sendable {
        /// Microseconds there and back at the least; nil: not known.
        public var roundTrip: Int64?
        /// Of what the peer sends, thousandths.
        public var incomingLossPermille: Double
        /// The peer reports what arrives.
        public var reports: Bool

        public init(roundTrip: Int64?, incomingLossPermille: Double, reports: Bool) {
            self.roundTrip = roundTrip
            self.incomingLossPermille = incomingLossPermille
            self.reports = reports
        }
    }

    private struct Link: BitwiseCopyable {
        var pacer = LinkPacer()
        var echoPacer = EchoPacer()
        var weight: UInt64 = 0
        var observation = Observation(roundTrip: nil, incomingLossPermille: 0, reports: false)
        /// What it may hold in its path, towards a peer that does not report.
        var horizon: Int64 = 0
        /// Least time to the peer.
        var way: Int64 = 0
    }

    public var policy = Policy.adaptive
    /// Whether measured rates hold sending back; caps always do.
    public var paces = true

    /// Uninitialized but for `known`; 32 links, of which most tunnels touch two.
    private let links: UnsafeMutablePointer<Link>
    private var known: UInt32 = 0
    private var scheduler = BurstScheduler()
    private var useful = UsefulLinks()

    /// Links that share the traffic.
    public private(set) var eligible: UInt32 = 0
    /// Of these, the ones with the shortest way.
    private var near: UInt32 = 0
    /// Links whose pace lets nothing through at the moment, and those that have a pace.
    private var blocked: UInt32 = 0
    private var paced: UInt32 = 0
    /// A peer does not report: order of arrival counts.
    private var ordersArrival = false
    private var now: Int64 = 0

    /// Links within this of the best share as equals, microseconds of round trip.
    private static let nearLag: Int64 = 8_000
    /// What may wait in a path towards a peer that does not report.
    private static let standingQueue = 12 * millisecond
    /// A later link is waited for so long at the most.
    private static let longestLag = 100 * millisecond
    /// Arrivals closer than this count as simultaneous.
    private static let sameArrival = millisecond

    public init() { links = .allocate(capacity: BurstScheduler.maximumLinks) }

    deinit { links.deallocate() }

    // MARK: Links

    /// A link comes, or begins anew: nothing is known of its path. Its weight and cap stay.
    public mutating func reset(_ link: Int) {
        let isKnown = known & Self.bit(link) != 0
        var new = Link()
        if isKnown {
            new.weight = links[link].weight
            new.pacer.limit = links[link].pacer.limit
        }
        (links + link).initialize(to: new)
        known |= Self.bit(link)
        useful.reset(link)
    }

    /// `weight` and `limit` in bytes per second; 0: none.
    public mutating func configure(_ link: Int, weight: UInt64, limit: Double) {
        if known & Self.bit(link) == 0 { reset(link) }
        links[link].weight = weight
        links[link].pacer.limit = limit
    }

    public mutating func remove(_ link: Int) {
        known &= ~Self.bit(link)
        eligible &= ~Self.bit(link)
    }

    /// The next ``choose(among:now:)`` begins anew.
    public mutating func forgetChoice() { eligible = 0 }

    /// Bytes per second that a link is known to carry; 0: not known.
    public func capacity(of link: Int) -> Double {
        links[link].observation.reports ? links[link].pacer.capacity : links[link].echoPacer.capacity
    }

    /// What a link loses of what is sent, thousandths, by the peer's reports.
    public func lossPermille(of link: Int) -> Double { links[link].pacer.lossPermille }

    // MARK: Measuring

    public mutating func observe(_ link: Int, _ observation: Observation) { links[link].observation = observation }

    public mutating func report(_ report: ReceiverReport, link: Int, now: Int64) {
        links[link].pacer.report(report, now: now)
    }

    /// A round-trip sample of a peer that does not report, microseconds.
    public mutating func echo(_ sample: Int64, link: Int, now: Int64) {
        guard let floor = links[link].observation.roundTrip else { return }
        links[link].echoPacer.echo(sample, floor: floor, now: now)
    }

    // MARK: Who shares the traffic

    /// `mask`: links that may be used. True when those that are changed.
    public mutating func choose(among mask: UInt32, now: Int64) -> Bool {
        var chosen = mask
        ordersArrival = false
        near = mask
        if policy == .adaptive {
            chosen = withoutHarmful(mask, now)
            near = nearest(of: chosen)
            Self.forEach(chosen) { if !links[$0].observation.reports { ordersArrival = true } }
            setHorizons(chosen)
        }
        let isChanged = chosen != eligible
        eligible = chosen
        if isChanged { scheduler.configure(weights: weights, eligible: chosen) }
        open(now: now)
        return isChanged
    }

    /// Without the links that do more harm than good.
    private mutating func withoutHarmful(_ mask: UInt32, _ now: Int64) -> UInt32 {
        let links = links
        let choice = useful.choose(from: mask, now: now) { link in
            let observed = links[link].observation
            let pacer = links[link].pacer
            let echoPacer = links[link].echoPacer
            let capacity = observed.reports ? pacer.capacity : echoPacer.capacity
            return UsefulLinks.Observation(
                rate: capacity > 0 ? capacity : observed.reports ? pacer.recentRate : echoPacer.recentRate,
                isMeasured: capacity > 0,
                // Who sends no reports leaves us what we lose of theirs to go by.
                lossPermille: observed.reports ? pacer.lossPermille : observed.incomingLossPermille,
                roundTrip: observed.roundTrip)
        }
        Self.forEach(choice.returned) { links[$0].pacer.forgetLoss() }
        return choice.useful
    }

    private func nearest(of mask: UInt32) -> UInt32 {
        var least = Int64.max
        Self.forEach(mask) { if let roundTrip = links[$0].observation.roundTrip { least = min(least, roundTrip) } }
        var found: UInt32 = 0
        Self.forEach(mask) { link in
            let roundTrip = links[link].observation.roundTrip
            if roundTrip == nil || roundTrip ?? 0 <= least &+ Self.nearLag { found |= Self.bit(link) }
        }
        return found
    }

    /// A link may hold what arrives before the latest of them brings something sent at the same time, and a little more.
    private func setHorizons(_ mask: UInt32) {
        var latest: Int64 = 0
        Self.forEach(mask) { link in
            links[link].way = (links[link].observation.roundTrip ?? 0) * 500
            latest = max(latest, links[link].way)
        }
        Self.forEach(mask) { link in
            links[link].horizon = min(latest - links[link].way, Self.longestLag) + Self.standingQueue
        }
    }

    /// What was measured, else rates as given; all equal if any link lacks both.
    public var weights: [(link: Int, weight: UInt64)] {
        var isComplete = true
        var result: [(link: Int, weight: UInt64)] = []
        Self.forEach(known) { link in
            let measured = policy == .adaptive ? UInt64(capacity(of: link)) : 0
            let weight = measured > 0 ? measured : links[link].weight
            if weight == 0 { isComplete = false }
            result.append((link: link, weight: weight))
        }
        return isComplete ? result : result.map { (link: $0.link, weight: 1 << 20) }
    }

    /// Bytes per second that the links with a pace carry together; 0: none has one.
    public var pacedRate: Double {
        var rate: Double = 0
        Self.forEach(eligible & paced) { link in
            let capacity = capacity(of: link)
            let limit = links[link].pacer.limit
            rate += capacity == 0 || limit == 0 ? max(capacity, limit) : min(capacity, limit)
        }
        return rate
    }

    // MARK: Per packet

    /// Once per turn: follows the rate, and sees which paces let something through.
    public mutating func begin(now: Int64) {
        scheduler.observe(now: now)
        open(now: now)
    }

    /// Which paces let something through now.
    public mutating func open(now: Int64) {
        self.now = now
        blocked = 0
        paced = 0
        guard paces else { return }
        Self.forEach(known) { link in
            if links[link].pacer.isPaced {
                paced |= Self.bit(link)
                if links[link].pacer.allowance(now: now) <= 0 { blocked |= Self.bit(link) }
            }
            guard !links[link].observation.reports else { return }
            links[link].echoPacer.advance(to: now)
            guard policy == .adaptive, links[link].echoPacer.capacity > 0 else { return }
            paced |= Self.bit(link)
            if !links[link].echoPacer.isOpen(within: links[link].horizon) { blocked |= Self.bit(link) }
        }
    }

    /// Links that may take a packet now.
    public var openLinks: UInt32 { eligible & ~blocked }

    /// The link for a datagram of `size` bytes; -1: none may take it now.
    public mutating func pick(_ size: Int) -> Int {
        var open = eligible & ~blocked
        guard open != 0 else { return -1 }
        if ordersArrival {
            open = earliest(of: open)
        } else if open & near != 0 {
            open &= near
        }
        scheduler.restrict(to: open)
        let link = scheduler.pick(size)
        guard link >= 0 else { return -1 }
        charge(link, size)
        return link
    }

    /// Whether a link's cap is used up, for what does not wait.
    public func exceedsLimit(_ link: Int) -> Bool { links[link].pacer.exceedsLimit }

    /// A datagram of `size` bytes is sent on each of these links.
    public mutating func charge(_ mask: UInt32, _ size: Int) {
        var left = mask
        while left != 0 {
            charge(left.trailingZeroBitCount, size)
            left &= left - 1
        }
    }

    private mutating func charge(_ link: Int, _ size: Int) {
        links[link].pacer.sent(size)
        guard paced & Self.bit(link) != 0 || ordersArrival else { return }
        if links[link].pacer.isPaced, links[link].pacer.isExhausted { blocked |= Self.bit(link) }
        guard !links[link].observation.reports else { return }
        links[link].echoPacer.sent(size)
        if !links[link].echoPacer.isOpen(within: links[link].horizon), policy == .adaptive { blocked |= Self.bit(link) }
    }

    /// Those of a mask on which a packet sent now arrives first.
    private func earliest(of mask: UInt32) -> UInt32 {
        guard mask & (mask &- 1) != 0 else { return mask }
        var least = Int64.max
        Self.forEach(mask) { least = min(least, links[$0].way + links[$0].echoPacer.delay) }
        var found: UInt32 = 0
        Self.forEach(mask) { link in
            if links[link].way + links[link].echoPacer.delay <= least + Self.sameArrival { found |= Self.bit(link) }
        }
        return found
    }

    /// When a pace opens for what waits.
    public func deadline(now: Int64) -> Int64 {
        var earliest = Int64.max
        Self.forEach(eligible) { link in
            var opening = links[link].pacer.nextAllowance(now: now)
            if paces, policy == .adaptive, !links[link].observation.reports {
                opening = max(opening, links[link].echoPacer.nextOpening(within: links[link].horizon))
            }
            earliest = min(earliest, opening)
        }
        return earliest
    }

    private static func bit(_ link: Int) -> UInt32 { 1 << UInt32(link) }

    @inline(__always)
    private static func forEach(_ mask: UInt32, _ body: (Int) -> Void) {
        var left = mask
        while left != 0 {
            body(left.trailingZeroBitCount)
            left &= left - 1
        }
    }
}
