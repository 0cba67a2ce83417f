import TunnelCore
import TunnelWire

/// The sending side of a tunnel in virtual time: the engine's own schedule and queue, without descriptors and sessions.
struct BondSender: ~Copyable {
    private var bond = LinkBond()
    private var queue = FairQueue()
    private var roundTrips: [RoundTrip]
    /// Whether the peer reports what arrives; a stock one does not.
    private let reports: Bool
    private let answersTrains: Bool
    private let losses: [Double]
    private var lastPolicy: Int64 = 0
    private var carried: UInt32 = 0
    /// Of every packet: nothing that could be marked.
    private let contents = UnsafeMutableRawPointer.allocate(byteCount: 1500, alignment: 8)

    private static let policyInterval = 100 * millisecond

    /// `losses`: shares of what a stock peer's lines lose, of which only the way back tells.
    init(losses: [Double], reports: Bool, answersTrains: Bool) {
        let count = losses.count
        self.losses = losses
        roundTrips = Array(repeating: RoundTrip(), count: count)
        self.reports = reports
        self.answersTrains = answersTrains
        for link in 0..<count { bond.configure(link, weight: 0, limit: 0) }
        contents.initializeMemory(as: UInt8.self, repeating: 0, count: 1500)
    }

    deinit { contents.deallocate() }

    // MARK: Measuring

    /// A sample of the round trip, microseconds.
    mutating func addRoundTrip(_ sample: Int64, link: Int, now: Int64) {
        roundTrips[link].add(sample, now: now)
        observe(link)
        bond.note(roundTrip: sample, link: link, now: now)
        guard !reports else { return }
        if now - lastPolicy >= Self.policyInterval { choose(now) }
    }

    mutating func take(_ report: Report, link: Int, now: Int64) {
        let sample = now / millisecond - report.sentAt / millisecond - report.held / millisecond
        addRoundTrip(max(0, sample) * 1000, link: link, now: now)
        bond.take(report.report, link: link, now: now)
        if now - lastPolicy >= Self.policyInterval { choose(now) }
    }

    /// Links that carried something at the last call and do not any more.
    mutating func takeResting() -> UInt32 {
        defer { carried = bond.carrying }
        return carried & ~bond.carrying
    }

    /// How long the receiver waits for what is missing, by the same measurements.
    var holdTime: Int64 {
        var slowest: Int64 = 0
        var fastest = Int64.max
        for roundTrip in roundTrips where roundTrip.hasSample {
            slowest = max(slowest, roundTrip.smoothed + 4 * roundTrip.variation)
            fastest = min(fastest, roundTrip.minimum)
        }
        let spread = fastest == .max ? 100 * millisecond : (slowest - fastest) * 1000
        return min(max(spread + 10 * millisecond, 20 * millisecond), second)
    }

    // MARK: Measuring before use

    var trainDeadline: Int64 { bond.trainDeadline }

    /// Trains that are due now, of datagrams of `bytes` of inner packet, and numbers of small datagrams.
    mutating func measure(
        bytes: Int, now: Int64, train: (_ train: CapacityProbe.Train, _ link: Int) -> Void,
        pings: (_ count: Int, _ link: Int) -> Void
    ) {
        guard bond.areTrainsDue(now: now) else { return }
        for link in roundTrips.indices {
            if let next = bond.nextTrain(link: link, size: bytes + Self.overhead, now: now) { train(next, link) }
            pings(bond.nextPings(link: link, now: now), link)
        }
    }

    mutating func take(_ result: TrainResult, link: Int, now: Int64) {
        if bond.take(result, link: link, now: now) { choose(now) }
    }

    // MARK: Who shares the traffic

    mutating func choose(_ now: Int64) {
        lastPolicy = now
        for link in roundTrips.indices { observe(link) }
        _ = bond.choose(among: (1 << UInt32(roundTrips.count)) - 1, now: now)
        let rate = bond.pacedRate
        if rate > 0 { queue.tune(bytesPerSecond: Int64(rate), lag: bond.lag) }
    }

    private mutating func observe(_ link: Int) {
        let roundTrip = roundTrips[link]
        bond.observe(
            link,
            .init(
                roundTrip: roundTrip.hasSample ? roundTrip.minimum : nil, incomingLossPermille: losses[link] * 1000,
                reports: reports, takesCopies: reports, answersTrains: answersTrains))
    }

    // MARK: Per packet

    /// A packet came from the device; `tag` names it. The link that it takes at once, out of order with the rest, or nil.
    mutating func send(
        _ tag: UInt32, bytes: Int, flow: UInt32, now: Int64, transmit: (_ tag: UInt32, _ link: Int) -> Void
    ) -> Int? {
        bond.begin(now: now)
        bond.sample(flow: flow, bytes: bytes)
        let link = bond.pickSparse(bytes + Self.overhead, flow: flow, now: now)
        if link >= 0 { return link }
        if queue.isEmpty {
            let link = bond.pick(bytes + Self.overhead)
            if link >= 0 {
                pass(tag, bytes, link, transmit)
                return nil
            }
        }
        queue.enqueue(QueuedPacket(bytes: contents, count: bytes, tag: tag), flow: flow, now: now)
        while queue.takeDropped() != nil {}
        return nil
    }

    /// Sends what waits, as far as the paces allow.
    mutating func drain(now: Int64, transmit: (_ tag: UInt32, _ link: Int) -> Void) {
        guard !queue.isEmpty else { return }
        bond.begin(now: now)
        while bond.openLinks != 0, let packet = queue.dequeue(now: now) {
            let link = bond.pick(Int(packet.count) + Self.overhead)
            guard link >= 0 else { break }
            pass(packet.tag, Int(packet.count), link, transmit)
        }
        while queue.takeDropped() != nil {}
    }

    /// Sends a packet on its link, and copies of it on those that are on trial.
    private mutating func pass(
        _ tag: UInt32, _ bytes: Int, _ link: Int, _ transmit: (_ tag: UInt32, _ link: Int) -> Void
    ) {
        transmit(tag, link)
        let copies = bond.copyLinks & ~(1 << UInt32(link))
        bond.charge(copies, bytes + Self.overhead)
        for other in roundTrips.indices where copies & 1 << UInt32(other) != 0 { transmit(tag, other) }
    }

    /// When a pace opens for what waits.
    mutating func deadline(now: Int64) -> Int64 { queue.isEmpty ? .max : bond.deadline(now: now) }

    static let overhead = 44
}
