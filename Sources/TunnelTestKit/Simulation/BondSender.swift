import TunnelCore

/// The sending side of a tunnel in virtual time: which of its links a packet takes, as the engine's adaptive scheduler
/// decides it for a peer that reports.
///
/// The rules are those of Engine/TunnelRuntime+Schedule.swift, without descriptors, sessions and records; everything that
/// measures, judges, paces and queues is the engine's own (LinkPacer, UsefulLinks, BurstScheduler, FairQueue, RoundTrip). Change both together.
struct BondSender: ~Copyable {
    struct Link {
        var pacer = LinkPacer()
        var roundTrip = RoundTrip()
    }

    private(set) var links: [Link]
    private var scheduler = BurstScheduler()
    private var queue = FairQueue()
    private(set) var eligible: UInt32 = 0
    private var near: UInt32 = 0
    private var blocked: UInt32 = 0
    private var pacedLinks: UInt32 = 0
    private var useful = UsefulLinks()
    private var lastPolicy: Int64 = 0
    /// Of every packet: nothing that could be marked.
    private let contents = UnsafeMutableRawPointer.allocate(byteCount: 1500, alignment: 8)

    private static let nearLag: Int64 = 8_000
    private static let policyInterval = 100 * millisecond

    init(links count: Int) {
        links = Array(repeating: Link(), count: count)
        contents.initializeMemory(as: UInt8.self, repeating: 0, count: 1500)
    }

    deinit { contents.deallocate() }

    var all: UInt32 { (1 << UInt32(links.count)) - 1 }
    var isQueueEmpty: Bool { queue.isEmpty }

    // MARK: Measuring

    mutating func addRoundTrip(_ microseconds: Int64, link: Int, now: Int64) {
        links[link].roundTrip.add(microseconds, now: now)
    }

    mutating func take(_ report: Report, link: Int, now: Int64) {
        links[link].pacer.report(report.report, now: now)
        if now - lastPolicy >= Self.policyInterval { updateEligible(now) }
    }

    /// How long the receiver waits for what is missing, by the same measurements.
    var holdTime: Int64 {
        var slowest: Int64 = 0
        var fastest = Int64.max
        for link in links where link.roundTrip.hasSample {
            slowest = max(slowest, link.roundTrip.smoothed + 4 * link.roundTrip.variation)
            fastest = min(fastest, link.roundTrip.minimum)
        }
        let spread = fastest == .max ? 100 * millisecond : (slowest - fastest) * 1000
        return min(max(spread + 10 * millisecond, 20 * millisecond), second)
    }

    // MARK: Who shares the traffic

    mutating func updateEligible(_ now: Int64) {
        lastPolicy = now
        let chosen = withoutHarmful(all, now)
        near = nearest(of: chosen)
        let isChanged = chosen != eligible
        eligible = chosen
        if isChanged { scheduler.configure(weights: weights(), eligible: chosen) }
        openPaces(now)
        var rate = 0.0
        for link in links.indices where eligible & pacedLinks & bit(link) != 0 {
            rate += links[link].pacer.capacityOrLimit
        }
        if rate > 0 { queue.tune(bytesPerSecond: Int64(rate)) }
    }

    private func bit(_ link: Int) -> UInt32 { 1 << UInt32(link) }

    private mutating func withoutHarmful(_ mask: UInt32, _ now: Int64) -> UInt32 {
        let links = links
        let choice = useful.choose(from: mask, now: now) { link in
            let pacer = links[link].pacer
            let roundTrip = links[link].roundTrip
            return UsefulLinks.Observation(
                rate: pacer.capacity > 0 ? pacer.capacity : pacer.recentRate, isMeasured: pacer.capacity > 0,
                lossPermille: pacer.lossPermille, roundTrip: roundTrip.hasSample ? roundTrip.minimum : nil)
        }
        for link in links.indices where choice.returned & bit(link) != 0 { self.links[link].pacer.forgetLoss() }
        return choice.useful
    }

    private func nearest(of mask: UInt32) -> UInt32 {
        var least = Int64.max
        for link in links.indices where mask & bit(link) != 0 { least = min(least, links[link].roundTrip.minimum) }
        var found: UInt32 = 0
        for link in links.indices where mask & bit(link) != 0 {
            let roundTrip = links[link].roundTrip
            if !roundTrip.hasSample || roundTrip.minimum <= least &+ Self.nearLag { found |= bit(link) }
        }
        return found == 0 ? mask : found
    }

    private func weights() -> [(link: Int, weight: UInt64)] {
        let measured = links.indices.map { (link: $0, weight: UInt64(links[$0].pacer.capacity)) }
        return measured.allSatisfy { $0.weight > 0 } ? measured : measured.map { (link: $0.link, weight: 1 << 20) }
    }

    // MARK: Per packet

    /// A packet came from the device; `tag` names it.
    mutating func send(
        _ tag: UInt32, bytes: Int, flow: UInt32, now: Int64, transmit: (_ tag: UInt32, _ link: Int) -> Void
    ) {
        scheduler.observe(now: now)
        if queue.isEmpty {
            openPaces(now)
            let link = pick(bytes + Self.overhead)
            if link >= 0 { return transmit(tag, link) }
        }
        queue.enqueue(QueuedPacket(bytes: contents, count: bytes, tag: tag), flow: flow, now: now)
        while queue.takeDropped() != nil {}
    }

    /// Sends what waits, as far as the paces allow.
    mutating func drain(now: Int64, transmit: (_ tag: UInt32, _ link: Int) -> Void) {
        guard !queue.isEmpty else { return }
        scheduler.observe(now: now)
        openPaces(now)
        while eligible & ~blocked != 0, let packet = queue.dequeue(now: now) {
            let link = pick(Int(packet.count) + Self.overhead)
            guard link >= 0 else { break }
            transmit(packet.tag, link)
        }
        while queue.takeDropped() != nil {}
    }

    /// When a pace opens for what waits.
    func deadline(now: Int64) -> Int64 {
        guard !queue.isEmpty else { return .max }
        var earliest = Int64.max
        for link in links.indices where eligible & bit(link) != 0 {
            earliest = min(earliest, links[link].pacer.nextAllowance(now: now))
        }
        return earliest
    }

    static let overhead = 44

    private mutating func pick(_ size: Int) -> Int {
        var open = eligible & ~blocked
        if open & near != 0 { open &= near }
        guard open != 0 else { return -1 }
        scheduler.restrict(to: open)
        let link = scheduler.pick(size)
        guard link >= 0 else { return -1 }
        links[link].pacer.sent(size)
        if pacedLinks & bit(link) != 0, links[link].pacer.isExhausted { blocked |= bit(link) }
        return link
    }

    private mutating func openPaces(_ now: Int64) {
        blocked = 0
        pacedLinks = 0
        for link in links.indices where links[link].pacer.isPaced {
            pacedLinks |= bit(link)
            if links[link].pacer.allowance(now: now) <= 0 { blocked |= bit(link) }
        }
    }
}
