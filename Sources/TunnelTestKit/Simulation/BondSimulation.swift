import TunnelCore
import TunnelWire

/// A report on its way, with what its arrival tells of the round trip.
struct Report {
    var report: ReceiverReport
    /// When the last packet that it answers was sent, and how long the answer waited.
    var sentAt: Int64
    var held: Int64
}

/// TCP through a bond of emulated lines, in virtual time: minutes of traffic in seconds, the same for the same seed.
///
/// Data goes one way. Acknowledgements return over the line with the least delay, reports over their own lines, and the
/// echoes of a stock peer, with an acknowledgement now and then, over each line in turn; nothing on the way back waits or
/// is lost. Handshakes and failures are not simulated: links are up.
public struct BondSimulation {
    /// Who receives.
    public enum Peer: Sendable {
        case ours
        /// Stock MLVPN: it reports nothing, and is sent nothing that it is to put in order.
        case stock
    }

    public var lines: [PathConditions]
    public var peer = Peer.ours
    public var flows: Int
    /// Nanoseconds; what arrives in the second part counts.
    public var warmUp: Int64 = 4 * second
    public var duration: Int64 = 8 * second
    public var seed: UInt64
    public var changes: [LineChange] = []
    /// A packet of 100 bytes is sent every so many nanoseconds beside the flows.
    public var probeInterval: Int64?
    /// The receiver answers packet trains, if it is ours.
    public var answersTrains = true
    /// How long the tunnel is up before the flows begin, nanoseconds, where the receiver answers packet trains: others learn
    /// nothing from that.
    public var rest: Int64 = 15 * second

    public struct Outcome: Sendable {
        /// Bits per second of TCP payload.
        public var goodput: Double
        /// How long each probe took to be delivered, nanoseconds, in order of delivery.
        public var probeDelays: [Int64] = []
    }

    /// What becomes of a line, at a time in nanoseconds from when the flows begin.
    public struct LineChange: Sendable {
        public var at: Int64
        public var line: Int
        public var settings: [PathSetting]

        public init(at: Int64, line: Int, settings: [PathSetting]) {
            self.at = at
            self.line = line
            self.settings = settings
        }
    }

    public init(lines: [PathConditions], flows: Int, peer: Peer = .ours, seed: UInt64) {
        self.lines = lines
        self.flows = flows
        self.peer = peer
        self.seed = seed
    }

    public func run() -> Outcome {
        var run = BondRun(self)
        return run.run()
    }

    /// Bits per second of TCP payload.
    public func goodput() -> Double { run().goodput }
}

private struct BondRun: ~Copyable {
    /// Inner packets of 1400 bytes, 1348 of them payload.
    private static let packetSize = 1400
    private static let payload = 1348
    private static let probeSize = 100

    private struct Packet {
        var content: Content
        var size: Int
        /// A KEEPALIVE that says something asks for no report.
        var asksForNothing: Bool {
            switch content {
            case .rest, .train: true
            case .segment, .probe, .ping: false
            }
        }
    }

    private enum Content {
        case segment(flow: Int, number: Int, transmission: UInt16)
        case probe(sentAt: Int64)
        /// The link rests.
        case rest
        case train(TrainPlace)
        case ping
    }

    private struct Datagram {
        var packet: Packet
        /// 0: not put in order.
        var dataSequence: UInt64
        var linkSequence: UInt64
        var sentAt: Int64
    }

    private enum Event {
        case acknowledge(flow: Int, segment: Int, transmission: UInt16)
        case report(link: Int, Report)
        case train(link: Int, TrainResult)
        case echo(link: Int, sentAt: Int64)
        case change(line: Int, [PathSetting])
        case begin
        case probe
    }

    private struct Receiver {
        var meter = LinkMeter()
        var trains = TrainMeter()
        var owesEcho = false
        var lastSentAt: Int64 = 0
        var lastArrival: Int64 = 0
    }

    private let plan: BondSimulation
    private var now: Int64 = 1000 * second
    private var flowsBegin: Int64 = 0
    private var paths: [EmulatedPath<Datagram>] = []
    private var linkSequences: [UInt64]
    private var sender: BondSender
    private var flows: [SimulatedFlow]
    private var receivers: [Receiver]
    private var resequencer: Resequencer
    private var dataSequence: UInt64 = 1
    private var outcome = BondSimulation.Outcome(goodput: 0)
    private var events = EventHeap<Event>()
    private let acknowledgementDelay: Int64
    private let rest: Int64
    private let isStock: Bool
    /// The line that a stock peer's next acknowledgement takes.
    private var nextAcknowledger = 0
    /// Packets on their way, by their tags.
    private var packets: [Packet] = []
    private var freePackets: [Int] = []

    init(_ plan: BondSimulation) {
        self.plan = plan
        linkSequences = Array(repeating: 1, count: plan.lines.count)
        isStock = plan.peer == .stock
        sender = BondSender(
            losses: plan.lines.map(\.loss), reports: !isStock, answersTrains: !isStock && plan.answersTrains)
        rest = !isStock && plan.answersTrains ? plan.rest : 0
        flows = Array(repeating: SimulatedFlow(), count: plan.flows)
        receivers = Array(repeating: Receiver(), count: plan.lines.count)
        resequencer = Resequencer(limit: 4096, links: 32)
        acknowledgementDelay = Int64(plan.lines.map(\.delay).min() ?? 0)
        for (index, line) in plan.lines.enumerated() {
            paths.append(EmulatedPath(line, seed: plan.seed &+ UInt64(index) &* 7919))
        }
        for change in plan.changes where paths.indices.contains(change.line) {
            events.insert(.change(line: change.line, change.settings), at: now + rest + change.at)
        }
    }

    mutating func run() -> BondSimulation.Outcome {
        // What keepalives have found out before.
        for link in plan.lines.indices {
            sender.addRoundTrip(max(1000, Int64(plan.lines[link].delay) / 500), link: link, now: now)
        }
        sender.choose(now)
        flowsBegin = now + rest
        events.insert(.begin, at: flowsBegin)
        let counted = flowsBegin + plan.warmUp
        let end = counted + plan.duration
        if plan.probeInterval != nil { events.insert(.probe, at: counted) }
        var before = -1
        while now < end {
            if before < 0, now >= counted { before = flows.reduce(0) { $0 + $1.deliveredCount } }
            pump()
            now = max(now + 1, min(end, nextTime()))
            step()
        }
        let delivered = flows.reduce(0) { $0 + $1.deliveredCount } - max(0, before)
        outcome.goodput = Double(delivered * Self.payload * 8) / (Double(plan.duration) / 1e9)
        return outcome
    }

    // MARK: Time

    private mutating func nextTime() -> Int64 {
        var next = min(
            events.firstTime ?? .max, sender.deadline(now: now), resequencer.deadline(now: now), sender.trainDeadline)
        for path in paths { if let time = path.nextEvent { next = min(next, Int64(time)) } }
        if !isStock { for receiver in receivers { next = min(next, receiver.meter.deadline) } }
        for flow in flows { next = min(next, flow.deadline) }
        return next
    }

    private mutating func step() {
        for link in paths.indices {
            var arrived: [Datagram] = []
            paths[link].advance(to: UInt64(now)) { datagram, _ in arrived.append(datagram) }
            for datagram in arrived { receive(datagram, link) }
        }
        while resequencer.review(now: now) { deliverInOrder() }
        if !isStock {
            for link in receivers.indices where receivers[link].meter.deadline <= now { report(link) }
        }
        while let time = events.firstTime, time <= now, let event = events.removeFirst() { obey(event) }
        for flow in flows.indices where flows[flow].deadline <= now { flows[flow].timeOut(now: now) }
        drain()
        guard !isStock else { return }
        tellOfRest()
        measure()
    }

    private mutating func obey(_ event: Event) {
        switch event {
        case .acknowledge(let flow, let segment, let transmission):
            flows[flow].acknowledge(segment, transmission: transmission, now: now)
        case .echo(let link, let sentAt):
            sender.addRoundTrip(max(0, now / millisecond - sentAt / millisecond) * 1000, link: link, now: now)
        case .report(let link, let report):
            sender.take(report, link: link, now: now)
            resequencer.holdTime = sender.holdTime
        case .train(let link, let result): sender.take(result, link: link, now: now)
        case .change(let line, let settings): paths[line].apply(settings, at: UInt64(now))
        case .begin: break
        case .probe:
            send(.init(content: .probe(sentAt: now), size: Self.probeSize), flow: .max)
            events.insert(.probe, at: now + (plan.probeInterval ?? second))
        }
    }

    // MARK: Sending

    /// Every flow sends what its window allows, in turn.
    private mutating func pump() {
        var isBusy = now >= flowsBegin
        while isBusy {
            isBusy = false
            for flow in flows.indices {
                guard let (segment, transmission) = flows[flow].next(now: now) else { continue }
                isBusy = true
                let content = Content.segment(flow: flow, number: segment, transmission: transmission)
                send(.init(content: content, size: Self.packetSize), flow: UInt32(flow) &* 0x9e37_79b9)
            }
        }
    }

    private mutating func send(_ packet: Packet, flow: UInt32) {
        let tag = keep(packet)
        var sent: [(UInt32, Int)] = []
        let link = sender.send(tag, bytes: packet.size, flow: flow, now: now) { sent.append(($0, $1)) }
        guard let link else { return transmit(sent) }
        transmit(packet, 0, link)
        freePackets.append(Int(tag))
    }

    private mutating func drain() {
        var sent: [(UInt32, Int)] = []
        sender.drain(now: now) { sent.append(($0, $1)) }
        transmit(sent)
    }

    /// Packets and their copies, which follow them.
    private mutating func transmit(_ sent: [(tag: UInt32, link: Int)]) {
        var previous: UInt32?
        for (tag, link) in sent {
            if tag != previous {
                if let previous { freePackets.append(Int(previous)) }
                dataSequence += 1
            }
            previous = tag
            transmit(packets[Int(tag)], dataSequence - 1, link)
        }
        if let previous { freePackets.append(Int(previous)) }
    }

    private mutating func transmit(_ packet: Packet, _ dataSequence: UInt64, _ link: Int) {
        let datagram = Datagram(
            packet: packet, dataSequence: dataSequence, linkSequence: linkSequences[link], sentAt: now)
        linkSequences[link] += 1
        // 28 bytes of IP and UDP around it.
        _ = paths[link].offer(datagram, bytes: packet.size + BondSender.overhead + 28, at: UInt64(now))
    }

    /// What is sent to measure by.
    private mutating func measure() {
        var due: [(content: Content, size: Int, link: Int)] = []
        sender.measure(bytes: Self.packetSize, now: now) { train, link in
            for place in 0..<train.count {
                let place = TrainPlace(train: train.number, place: UInt8(place), count: UInt8(train.count))
                due.append((.train(place), Self.packetSize, link))
            }
        } pings: { count, link in
            for _ in 0..<count { due.append((.ping, 0, link)) }
        }
        for (content, size, link) in due { transmit(.init(content: content, size: size), 0, link) }
    }

    private mutating func tellOfRest() {
        var resting = sender.takeResting()
        while resting != 0 {
            transmit(.init(content: .rest, size: RestNotice.encodedSize), 0, resting.trailingZeroBitCount)
            resting &= resting - 1
        }
    }

    /// What the queue drops keeps its number for good.
    private mutating func keep(_ packet: Packet) -> UInt32 {
        if let free = freePackets.popLast() {
            packets[free] = packet
            return UInt32(free)
        }
        packets.append(packet)
        return UInt32(packets.count - 1)
    }

    /// Stands for a packet in the resequencer, where nobody reads from it.
    private static func place(_ sequence: UInt64) -> UnsafeMutableRawPointer {
        // Never null.
        UnsafeMutableRawPointer(bitPattern: Int(sequence) + 4096).unsafelyUnwrapped
    }

    // MARK: Receiving

    /// Packets that wait in the resequencer, by data_seq.
    private var waiting: [UInt64: Packet] = [:]
    private var copies = CopyFilter()

    private mutating func receive(_ datagram: Datagram, _ link: Int) {
        receivers[link].lastSentAt = datagram.sentAt
        receivers[link].lastArrival = now
        let delay = UInt16(truncatingIfNeeded: now / millisecond &- datagram.sentAt / millisecond)
        receivers[link].owesEcho = true
        receivers[link].meter.note(
            sequence: datagram.linkSequence, size: datagram.packet.size + BondSender.overhead, delay: delay,
            wantsReport: !datagram.packet.asksForNothing, now: now)
        if case .rest = datagram.packet.content {
            resequencer.forget(link: link)
            return
        }
        if case .train(let place) = datagram.packet.content {
            guard let result = receivers[link].trains.note(place, now: now) else { return }
            return events.insert(.train(link: link, result), at: now + Int64(plan.lines[link].delay))
        }
        if case .ping = datagram.packet.content { return }
        guard !isStock, datagram.dataSequence != 0 else { return deliver(datagram.packet) }
        let place = Self.place(datagram.dataSequence)
        let packet = InboundPacket(bytes: place, count: Self.packetSize, link: link)
        guard !copies.isCopy(datagram.dataSequence) else { return }
        waiting[datagram.dataSequence] = datagram.packet
        var verdict = resequencer.insert(packet, sequence: datagram.dataSequence, now: now)
        if verdict == .full {
            deliverInOrder()
            verdict = resequencer.insert(packet, sequence: datagram.dataSequence, now: now)
        }
        if verdict == .held { deliverInOrder() } else { deliver(packet) }
    }

    private mutating func deliverInOrder() {
        while let packet = resequencer.next() { deliver(packet) }
    }

    private mutating func deliver(_ inbound: InboundPacket) {
        deliver(UInt64(Int(bitPattern: inbound.bytes) - 4096))
    }

    private mutating func deliver(_ sequence: UInt64) {
        if let packet = waiting.removeValue(forKey: sequence) { deliver(packet) }
    }

    private mutating func deliver(_ packet: Packet) {
        if isStock {
            let link = nextAcknowledger
            nextAcknowledger = (link + 1) % receivers.count
            if receivers[link].owesEcho {
                receivers[link].owesEcho = false
                // Advanced by the time for which it was held.
                let held = now / millisecond - receivers[link].lastArrival / millisecond
                let sentAt = receivers[link].lastSentAt + held * millisecond
                events.insert(.echo(link: link, sentAt: sentAt), at: now + Int64(plan.lines[link].delay))
            }
        }
        switch packet.content {
        case .segment(let flow, let segment, let transmission):
            events.insert(
                .acknowledge(flow: flow, segment: segment, transmission: transmission), at: now + acknowledgementDelay)
        case .rest, .train, .ping: break
        case .probe(let sentAt): outcome.probeDelays.append(now - sentAt)
        }
    }

    private mutating func report(_ link: Int) {
        let report = Report(
            report: receivers[link].meter.takeReport(now: now), sentAt: receivers[link].lastSentAt,
            held: now - receivers[link].lastArrival)
        events.insert(.report(link: link, report), at: now + Int64(plan.lines[link].delay))
    }
}

/// Events by time; those of the same time in the order in which they were put in.
private struct EventHeap<Event> {
    private var entries: [(time: Int64, number: Int, event: Event)] = []
    private var count = 0

    var firstTime: Int64? { entries.first?.time }

    mutating func insert(_ event: Event, at time: Int64) {
        count += 1
        entries.append((time, count, event))
        var child = entries.count - 1
        while child > 0, isEarlier(child, (child - 1) / 2) {
            entries.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func removeFirst() -> Event? {
        guard let first = entries.first else { return nil }
        let last = entries.removeLast()
        guard !entries.isEmpty else { return first.event }
        entries[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < entries.count && isEarlier(child, least) {
                least = child
            }
            if least == parent { break }
            entries.swapAt(parent, least)
            parent = least
        }
        return first.event
    }

    private func isEarlier(_ a: Int, _ b: Int) -> Bool {
        (entries[a].time, entries[a].number) < (entries[b].time, entries[b].number)
    }
}
