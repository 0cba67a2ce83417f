import TunnelWire

/// The schedule of a bond: which links share a tunnel's traffic, and which of them takes the next packet.
///
/// Links that may be used are told by ``choose(among:now:)`` ten times a second, while something is sent, and at every
/// change; of these the adaptive policy takes those that carry most together (``LinkChoice``). Per packet, ``pick(_:)``
/// takes the link on which the packet arrives first, so that packets arrive in order as far as that can be foreseen. A link
/// is held back by what was measured of it (``LinkPacer``) and by its cap (``RateLimit``). A link that is not the bottleneck
/// has no pace, and as long as one of them is open nothing queues on our side. Times are nanoseconds unless said otherwise.
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
        /// The peer drops copies.
        public var takesCopies: Bool
        /// The peer answers packet trains.
        public var answersTrains: Bool

        public init(
            roundTrip: Int64?, incomingLossPermille: Double, reports: Bool, takesCopies: Bool,
            answersTrains: Bool = false
        ) {
            self.roundTrip = roundTrip
            self.incomingLossPermille = incomingLossPermille
            self.reports = reports
            self.takesCopies = takesCopies
            self.answersTrains = answersTrains
        }
    }

    private struct Link: BitwiseCopyable {
        var pacer = LinkPacer()
        var limit = RateLimit()
        var reports = PathReports()
        var probe = CapacityProbe()
        var lossProbe = LossProbe()
        /// When its last train was sent; 0: none was.
        var probedAt: Int64 = 0
        /// Bytes per second that it carries at the least, by its trains.
        var shown: Double = 0
        var weight: UInt64 = 0
        /// Of what the peer sends, thousandths, over some seconds.
        var incomingLoss: Double = 0
        var roundTrip: Int64 = 0
        var roundTripAt: Int64 = .min / 2
        var observation = Observation(roundTrip: nil, incomingLossPermille: 0, reports: false, takesCopies: false)
        /// What its path may hold.
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
    private var choice = LinkChoice()
    private var flows = FlowCount()
    private var sparse = SparseFlows()
    private var sparseTurn = 0

    /// Links that share the traffic.
    public private(set) var eligible: UInt32 = 0
    /// The peer is to put what is picked in order. Stock's buffer waits for what was lost, and once something has come too
    /// late for it, it may put nothing in order any more (wire-v1.md, Tunnel): what the adaptive policy sends to a peer of
    /// that kind is to be handed out as it comes, since it comes in order as far as that can be foreseen.
    public private(set) var ordersAtPeer = true
    /// Links whose pace lets nothing through at the moment, and those that have a pace.
    private var blocked: UInt32 = 0
    private var paced: UInt32 = 0
    /// While none has a pace: those on which a packet arrives first. What is sent does not change that.
    private var soonest: UInt32 = 0
    /// No link was open at some moment since the last choice.
    private var wasBusy = false
    /// Something was sent since the last choice.
    public private(set) var wasUsed = false
    private var smoothedAt: Int64 = 0
    /// How much earlier than the farthest link's a packet of the nearest arrives, of links that share the traffic, at most
    /// 40 ms: what is put in order takes as long whether it waits here or there.
    public private(set) var lag: Int64 = 0

    /// What may wait in a path while there is more to send.
    private static let standingQueue = 10 * millisecond
    /// A path, or our queue, may hold so much more for packets to arrive in order with those of a later path.
    private static let longestLag = 40 * millisecond
    /// Thousandths; less is in the noise of what a stock peer's datagrams tell.
    private static let tolerableLoss: Double = 8
    /// So much more may wait before a packet of a sparse flow.
    private static let sparseQueue = 10 * millisecond
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
            new.limit = links[link].limit
            new.probedAt = links[link].probedAt
        }
        (links + link).initialize(to: new)
        known |= Self.bit(link)
        choice.reset(link)
        updateTrainDeadline()
    }

    /// `weight` and `limit` in bytes per second; 0: none.
    public mutating func configure(_ link: Int, weight: UInt64, limit: Double) {
        if known & Self.bit(link) == 0 { reset(link) }
        links[link].weight = weight
        links[link].limit.bytesPerSecond = limit
    }

    public mutating func remove(_ link: Int) {
        known &= ~Self.bit(link)
        eligible &= ~Self.bit(link)
        soonest &= ~Self.bit(link)
        updateTrainDeadline()
    }

    /// The next ``choose(among:now:)`` begins anew.
    public mutating func forgetChoice() { eligible = 0 }

    /// The peer counts anew what arrives on a link.
    public mutating func restartCounting(_ link: Int) { links[link].pacer.restartCounting() }

    // From here on much is mutating that changes nothing: the compiler would copy all of this for each call otherwise.

    /// Bytes per second that a link is known to carry; 0: not known.
    public mutating func capacity(of link: Int) -> Double { links[link].pacer.capacity }

    /// What a link loses of what is sent, thousandths, by the peer's reports.
    public mutating func lossPermille(of link: Int) -> Double { links[link].reports.lossPermille }

    // MARK: Measuring

    public mutating func observe(_ link: Int, _ observation: Observation) { links[link].observation = observation }

    /// A round-trip sample, microseconds. From a peer that reports they only go with its reports.
    public mutating func note(roundTrip: Int64, link: Int, now: Int64) {
        links[link].roundTrip = roundTrip * 1000
        links[link].roundTripAt = now
        let observation = links[link].observation
        guard !observation.reports, let floor = observation.roundTrip else { return }
        let queued = max(0, roundTrip - floor) * 1000
        links[link].pacer.take(.init(roundTrip: roundTrip * 1000, queued: queued, least: queued), now: now)
    }

    /// A peer's report. What waits on the way there is taken from it: what comes the other way may be queueing, too.
    public mutating func take(_ report: ReceiverReport, link: Int, now: Int64) {
        links[link].reports.take(report, now: now)
        let reports = links[link].reports
        var roundTrip = links[link].roundTrip
        if now - links[link].roundTripAt > 100 * millisecond {
            roundTrip = (links[link].observation.roundTrip ?? 0) * 1000 + reports.queued
        }
        var echo = LinkPacer.Echo(roundTrip: roundTrip, queued: reports.queued, least: reports.leastQueued)
        echo.received = (UInt32(truncatingIfNeeded: report.bytes), reports.arrival)
        echo.hasOverflowed = reports.hasOverflowed
        links[link].pacer.take(echo, now: now)
    }

    // MARK: Measuring before use

    /// Trains of a link that begins wait so long, unless traffic comes that is to be put in order, nanoseconds: where many
    /// tunnels begin at once, not all send theirs at once.
    public var trainDelay: Int64 = 0
    /// When ``nextTrain(link:size:now:)`` or ``nextPings(link:now:)`` has something to do; .max: not until something changes.
    public private(set) var trainDeadline = Int64.max
    /// Something is to be put in order while there are links whose trains still wait.
    private var needsTrains = false
    private var waitingTrains: UInt32 = 0

    private static let trainPause = 20 * second

    /// Links that are new wait for traffic, or until their time has come; after that, those that rest while there is more to
    /// send than others take are asked now and then, since nothing else would tell that they carry more than before.
    private mutating func scheduleTrains(_ mask: UInt32, now: Int64) {
        waitingTrains = 0
        guard policy == .adaptive, mask & (mask &- 1) != 0 else { return }
        let resting = wasBusy ? mask & ~(eligible | choice.trial) : 0
        Self.forEach(mask) { link in
            guard links[link].observation.answersTrains else { return }
            let last = links[link].probedAt
            if !links[link].probe.hasEnded {
                links[link].probe.schedule(max(now + trainDelay, last == 0 ? 0 : last + Self.trainPause / 2))
                if links[link].probe.dueAt != .max, last == 0 { waitingTrains |= Self.bit(link) }
                return
            }
            links[link].lossProbe.begin(now)
            if resting & Self.bit(link) != 0, now - last >= Self.trainPause {
                links[link].probe.schedule(now)
            }
        }
        updateTrainDeadline()
    }

    /// Whether a train or small datagrams are due. What waited for traffic is due once there was some.
    public mutating func areTrainsDue(now: Int64) -> Bool {
        if needsTrains, waitingTrains != 0 {
            Self.forEach(waitingTrains) { links[$0].probe.schedule(now) }
            waitingTrains = 0
            updateTrainDeadline()
        }
        needsTrains = false
        return trainDeadline <= now
    }

    /// A train to be sent on a link now, of datagrams of `size` bytes.
    public mutating func nextTrain(link: Int, size: Int, now: Int64) -> CapacityProbe.Train? {
        defer { updateTrainDeadline() }
        let roundTrip = (links[link].observation.roundTrip ?? 1_000_000) * 1000
        guard let train = links[link].probe.next(size: size, roundTrip: roundTrip, now: now) else { return nil }
        links[link].probedAt = now
        waitingTrains &= ~Self.bit(link)
        links[link].limit.sent(size * train.count)
        return train
    }

    /// How many small datagrams that ask for a report are to be sent on a link now.
    public mutating func nextPings(link: Int, now: Int64) -> Int {
        let count = links[link].lossProbe.next(now: now)
        if count > 0 { updateTrainDeadline() }
        return count
    }

    /// The peer's answer to a train. True when something was found out.
    public mutating func take(_ result: TrainResult, link: Int, now: Int64) -> Bool {
        defer { updateTrainDeadline() }
        let cap = links[link].limit.isSet ? links[link].limit.bytesPerSecond : .infinity
        switch links[link].probe.take(result, now: now) {
        case nil: return false
        case .atLeast(let rate): links[link].shown = min(rate, cap)
        case .capacity(let rate):
            if links[link].pacer.capacity == 0 { choice.forget() }
            links[link].pacer.learn(min(rate, cap))
        }
        links[link].lossProbe.begin(now)
        return true
    }

    private mutating func updateTrainDeadline() {
        trainDeadline = .max
        Self.forEach(known) { trainDeadline = min(trainDeadline, links[$0].probe.deadline, links[$0].lossProbe.dueAt) }
    }

    // MARK: Who shares the traffic

    /// `mask`: links that may be used. True when those that are changed.
    public mutating func choose(among mask: UInt32, now: Int64) -> Bool {
        var chosen = mask
        wasUsed = false
        if policy == .adaptive {
            smoothLosses(now)
            let links = links
            chosen = choice.choose(from: mask, flows: flows.count(now: now), isBusy: wasBusy, now: now) {
                Self.judge(links[$0])
            }
            scheduleTrains(mask, now: now)
            wasBusy = false
            setHorizons(chosen, trial: choice.trial)
        }
        ordersAtPeer = policy == .weighted
        Self.forEach(mask) { if links[$0].observation.takesCopies { ordersAtPeer = true } }
        let isChanged = chosen != eligible
        eligible = chosen
        if isChanged { scheduler.configure(weights: weights, eligible: chosen) }
        open(now: now)
        return isChanged
    }

    /// A session counts loss over a few dozen datagrams.
    private mutating func smoothLosses(_ now: Int64) {
        guard now - smoothedAt >= 50 * millisecond else { return }
        smoothedAt = now
        Self.forEach(known) { link in
            links[link].incomingLoss += (links[link].observation.incomingLossPermille - links[link].incomingLoss) * 0.03
        }
    }

    private static func judge(_ link: Link) -> LinkChoice.Observation {
        let seen = link.observation
        return LinkChoice.Observation(
            capacity: link.pacer.capacity, guess: max(link.shown, Double(link.weight)),
            recentRate: link.pacer.recentRate,
            // Who sends no reports leaves us what we lose of theirs to go by.
            lossPermille: seen.reports
                ? link.reports.likelyLossPermille : link.incomingLoss > tolerableLoss ? link.incomingLoss : 0,
            roundTrip: seen.roundTrip, takesCopies: seen.takesCopies)
    }

    /// A path may hold a little, unless its queue is known to be shorter. Towards a stock peer, which puts nothing in
    /// order, also what arrives before the latest of them brings something sent at the same time; for others that waits with
    /// us, where packets of sparse flows pass it.
    private mutating func setHorizons(_ mask: UInt32, trial: UInt32) {
        var latest: Int64 = 0
        Self.forEach(mask | trial) { link in
            // Of a peer without reports, what waits on the way back is in it.
            let observation = links[link].observation
            let foreign = links[link].pacer.foreignDelay
            links[link].way = (observation.roundTrip ?? 0) * 500 + (observation.reports ? foreign : foreign / 2)
            if mask & Self.bit(link) != 0 { latest = max(latest, links[link].way) }
        }
        lag = 0
        Self.forEach(mask | trial) { link in
            let own = min(max(0, latest - links[link].way), Self.longestLag)
            if mask & Self.bit(link) != 0 { lag = max(lag, own) }
            let room = Self.standingQueue + (links[link].observation.reports ? 0 : own)
            links[link].horizon = min(room, links[link].reports.overflow)
        }
    }

    /// What was measured, else rates as given; all equal if any link lacks both.
    public var weights: [(link: Int, weight: UInt64)] {
        mutating get {
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
    }

    /// Bytes per second that the links with a pace carry together; 0: none has one.
    public var pacedRate: Double {
        mutating get {
            var rate: Double = 0
            Self.forEach(eligible & paced) { link in
                let capacity = capacity(of: link)
                let limit = links[link].limit.bytesPerSecond
                rate += capacity == 0 || limit == 0 ? max(capacity, limit) : min(capacity, limit)
            }
            return rate
        }
    }

    // MARK: Per packet

    /// Once per turn: follows the rate, and sees which paces let something through.
    public mutating func begin(now: Int64) {
        scheduler.observe(now: now)
        open(now: now)
    }

    /// Which paces let something through now.
    public mutating func open(now: Int64) {
        blocked = 0
        paced = 0
        Self.forEach(known) { link in
            links[link].pacer.advance(to: now)
            if links[link].limit.isSet {
                links[link].limit.refill(now: now)
                paced |= Self.bit(link)
            }
            if holdsBack, links[link].pacer.capacity > 0 { paced |= Self.bit(link) }
            if !isOpen(link) { blocked |= Self.bit(link) }
        }
        if eligible & ~blocked == 0 { wasBusy = true }
        soonest = eligible & paced == 0 ? earliest(of: eligible) : 0
    }

    /// Whether measured rates hold sending back; caps always do.
    private var holdsBack: Bool { mutating get { paces && policy == .adaptive } }

    private mutating func isOpen(_ link: Int) -> Bool {
        links[link].limit.isOpen && (!holdsBack || links[link].pacer.isOpen(within: links[link].horizon))
    }

    /// Links that may take a packet now.
    public var openLinks: UInt32 { mutating get { eligible & ~blocked } }

    /// The link for a datagram of `size` bytes; -1: none may take it now.
    public mutating func pick(_ size: Int) -> Int {
        needsTrains = true
        var open = eligible & ~blocked
        guard open != 0 else { return -1 }
        if policy == .adaptive { open = soonest != 0 ? soonest : earliest(of: open) }
        scheduler.restrict(to: open)
        let link = scheduler.pick(size)
        guard link >= 0 else { return -1 }
        charge(link, size)
        return link
    }

    /// The link for a datagram of `size` bytes of a flow that sends so little that it needs no order with other traffic: the
    /// one on which it arrives first, though its pace lets nothing else through. -1: it takes its turn with the rest, in order.
    ///
    /// Called for every packet, since that tells which flows send little; one in order with the rest is ``pick(_:)``'s. Of
    /// one link, or with given weights, there is none: -1.
    public mutating func pickSparse(_ size: Int, flow: UInt32, now: Int64) -> Int {
        guard policy == .adaptive, known & (known &- 1) != 0, let last = sparse.admit(flow, bytes: size, now: now)
        else {
            return -1
        }
        guard eligible & (eligible &- 1) != 0 else { return -1 }
        var able: UInt32 = 0
        Self.forEach(eligible) { link in
            let isShort = !holdsBack || links[link].pacer.delay < links[link].horizon + Self.sparseQueue
            if isShort, !links[link].limit.isExceeded { able |= Self.bit(link) }
        }
        guard able != 0 else {
            sparse.order(flow)
            return -1
        }
        let link = last >= 0 && able & Self.bit(last) != 0 ? last : turn(of: earliest(of: able))
        sparse.note(flow, link: link)
        charge(link, size)
        return link
    }

    /// One of a mask after the other.
    private mutating func turn(of mask: UInt32) -> Int {
        sparseTurn = (sparseTurn + 1) % mask.nonzeroBitCount
        var left = mask
        for _ in 0..<sparseTurn { left &= left - 1 }
        return left.trailingZeroBitCount
    }

    /// Links that carry packets, or copies of them.
    public var carrying: UInt32 { mutating get { eligible | choice.trial } }

    /// Links on trial that a copy of the next packet is to be sent on.
    public var copyLinks: UInt32 { mutating get { choice.trial & ~blocked } }

    /// Whether a link's cap is used up, for what does not wait.
    public mutating func exceedsLimit(_ link: Int) -> Bool { links[link].limit.isExceeded }

    /// A packet of `bytes` of a flow was sent; one in many will do.
    public mutating func sample(flow: UInt32, bytes: Int) { flows.note(flow, bytes: bytes) }

    /// A datagram of `size` bytes is sent on each of these links.
    public mutating func charge(_ mask: UInt32, _ size: Int) {
        var left = mask
        while left != 0 {
            charge(left.trailingZeroBitCount, size)
            left &= left - 1
        }
    }

    private mutating func charge(_ link: Int, _ size: Int) {
        wasUsed = true
        links[link].pacer.sent(size)
        links[link].limit.sent(size)
        if paced & Self.bit(link) != 0, !isOpen(link) { blocked |= Self.bit(link) }
    }

    /// Those of a mask on which a packet sent now arrives first.
    private mutating func earliest(of mask: UInt32) -> UInt32 {
        guard mask & (mask &- 1) != 0 else { return mask }
        let links = links
        var least = Int64.max
        Self.forEach(mask) { least = min(least, links[$0].way + links[$0].pacer.delay) }
        var found: UInt32 = 0
        Self.forEach(mask) { link in
            if links[link].way + links[link].pacer.delay <= least + Self.sameArrival { found |= Self.bit(link) }
        }
        return found
    }

    /// When a pace opens for what waits.
    public mutating func deadline(now: Int64) -> Int64 {
        var earliest = Int64.max
        Self.forEach(eligible) { link in
            var opening = links[link].limit.nextOpening(now: now)
            if holdsBack { opening = max(opening, links[link].pacer.nextOpening(within: links[link].horizon)) }
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
