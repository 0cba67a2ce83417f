import Glibc
import Logging
import ProcessChannel
import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

// Which links may take a packet, and what happens when none takes it. Ten times a second while something is sent, and at
// every change, the links that may share the traffic are sorted out by state and scheduler; which of them do, and which
// takes a packet, is the LinkBond's to say.

extension TunnelRuntime {
    private static let policyInterval = 100 * millisecond
    private static let idlePolicyInterval = 5 * second

    /// Links that are up but do not answer.
    var suspects: UInt32 {
        var mask: UInt32 = 0
        forEachLink { if links[$0].health.isSuspect { mask |= 1 << UInt32($0) } }
        return mask
    }

    // MARK: Who shares the traffic

    /// Chooses among links that are up: good ones before fallback ones before lossy and slow; of these, by the scheduler.
    func updateEligible(_ now: Moment) {
        lastPolicy = now.nanoseconds
        var good: UInt32 = 0
        var fallback: UInt32 = 0
        var poor: UInt32 = 0
        forEachLink { link in
            let bit: UInt32 = 1 << UInt32(link)
            switch links[link].session.pointee.visibleState {
            case .up: if links[link].isFallback { fallback |= bit } else { good |= bit }
            case .lossy, .slow: poor |= bit
            case .down, .connecting: break
            }
        }
        noteTunnelState(good | fallback | poor, now)
        // A suspect serves only when all others are suspects too.
        let suspects = suspects
        let classes = [good, fallback, poor]
        let trusted = classes.first(where: { $0 & ~suspects != 0 }).map { $0 & ~suspects }
        updateCopyLinks(good | fallback | poor)
        var candidates: UInt32 = trusted ?? classes.first(where: { $0 != 0 }) ?? 0
        switch definition.scheduler {
        case .wrr, .adaptive: break
        // A bad line's copy costs nothing but its bytes.
        case .redundant: if isRedundant { candidates = good | poor != 0 ? good | poor : fallback }
        case .failover: candidates = firstInOrder(of: candidates)
        }
        bond.pointee.policy = definition.scheduler == .wrr || isRedundant ? .weighted : .adaptive
        bond.pointee.paces = paces
        forEachLink { bond.pointee.observe($0, observation($0)) }
        if bond.pointee.choose(among: candidates, now: now.nanoseconds) {
            let weights = bond.pointee.weights.map(\.weight)
            trace(.wrr, "links that share the traffic, and weights: \(namesOf(bond.pointee.eligible)) \(weights)")
        }
        tellOfRest(now)
        updateHoldTime()
        tuneQueue()
    }

    /// Tells the peer which links carry nothing from now on, that it wait for nothing there.
    private func tellOfRest(_ now: Moment) {
        let carrying = bond.pointee.carrying | (isRedundant ? copyLinks : 0)
        forEachLink { link in
            let isResting = carrying & 1 << UInt32(link) == 0
            guard links[link].session.pointee.rest(isResting) else { return }
            // Behind all that was sent there.
            flush(link, now)
            sendControls(link, now)
        }
    }

    private func observation(_ link: Int) -> LinkBond.Observation {
        let session = links[link].session
        let roundTrip = session.pointee.roundTrip
        return LinkBond.Observation(
            roundTrip: roundTrip.hasSample ? roundTrip.minimum : nil,
            incomingLossPermille: Double(session.pointee.loss.permille),
            reports: session.pointee.capabilities.contains(.receiverReports) && !isCleartext,
            takesCopies: session.pointee.capabilities.contains(.redundantCopies),
            answersTrains: session.pointee.capabilities.contains(.packetTrains) && !isCleartext)
    }

    /// The queue's delays follow what the paced links carry together.
    private func tuneQueue() {
        let rate = bond.pointee.pacedRate
        guard rate > 0 else { return }
        queue.pointee.tune(bytesPerSecond: Int64(min(rate, 1e12)), lag: bond.pointee.lag)
    }

    /// Sending everything several times is for peers that drop the copies: a stock one would hand them all to its device.
    private func updateCopyLinks(_ up: UInt32) {
        copyLinks = 0
        forEachLink {
            let bit: UInt32 = 1 << UInt32($0)
            if up & bit != 0, links[$0].session.pointee.capabilities.contains(.redundantCopies) { copyLinks |= bit }
        }
        let wasRedundant = isRedundant
        isRedundant = definition.scheduler == .redundant && up != 0 && up & ~copyLinks == 0
        record.pointee.isSchedulerRefused = definition.scheduler == .redundant && up & ~copyLinks != 0 ? 1 : 0
        guard definition.scheduler == .redundant, up != 0, wasRedundant != isRedundant || !wasToldOfCopies else {
            return
        }
        wasToldOfCopies = true
        if isRedundant {
            log.notice("every packet goes over every link", metadata: ["tunnel": "\(definition.name)"])
        } else {
            log.warning(
                "scheduler redundant is refused: the peer does not drop copies, as stock MLVPN does not; adaptive is used",
                metadata: ["tunnel": "\(definition.name)"])
        }
    }

    private func noteTunnelState(_ up: UInt32, _ now: Moment) {
        upLinks = up
        let isUp: UInt8 = up != 0 ? 1 : 0
        guard record.pointee.isUp != isUp else { return }
        record.pointee.isUp = isUp
        record.pointee.since = now.wallMilliseconds
        var event = StateMap.Event()
        event.time = now.wallMilliseconds
        event.generation = generation
        event.slot = slot
        event.kind = 2
        event.state = (isUp != 0 ? LinkState.up : LinkState.down).rawValue
        event.previousState = (isUp != 0 ? LinkState.down : LinkState.up).rawValue
        shared.record(event)
    }

    private func firstInOrder(of mask: UInt32) -> UInt32 {
        for link in definition.links {
            if let place = names.firstIndex(of: link.name), mask & 1 << UInt32(place) != 0 {
                return 1 << UInt32(place)
            }
        }
        return mask
    }

    private func namesOf(_ mask: UInt32) -> [String] {
        names.indices.filter { mask & 1 << UInt32($0) != 0 }.compactMap { names[$0]?.text }
    }

    /// Stock's round robin takes what it is given; a cap holds for every scheduler.
    private var paces: Bool { definition.scheduler != .wrr || definition.links.contains { $0.limit != nil } }

    // MARK: The queue

    func enqueue(_ packet: UnsafeMutableRawBufferPointer, _ flow: UInt32, _ now: Moment) {
        guard let bytes = packet.baseAddress, let slot = takeSlot() else {
            record.pointee.droppedQueue &+= 1
            return
        }
        lastQueued = now.nanoseconds
        let place = slot + SessionCipher.headroom
        memcpy(place, bytes, packet.count)
        queue.pointee.enqueue(QueuedPacket(bytes: place, count: packet.count), flow: flow, now: now.nanoseconds)
        collectDropped()
    }

    /// Where the worker's memory is used up, those who use most of it here give way.
    private func takeSlot() -> UnsafeMutableRawPointer? {
        if let slot = buffers.pool.take() { return slot }
        queue.pointee.shed()
        collectDropped()
        return buffers.pool.take()
    }

    private func giveSlot(of packet: QueuedPacket) { buffers.pool.give(packet.bytes - SessionCipher.headroom) }

    /// Gives the memory of a queue back that nothing needed for a while.
    func releaseQueue(_ now: Moment) {
        guard lastQueued != 0, now.nanoseconds - lastQueued > 10 * second, queue.pointee.isEmpty else { return }
        lastQueued = 0
        queue.pointee.releaseMemory()
    }

    private func collectDropped() {
        while let dropped = queue.pointee.takeDropped() {
            giveSlot(of: dropped)
            record.pointee.droppedQueue &+= 1
        }
    }

    /// Sends what waits, as far as the paces allow.
    func drainQueue(_ now: Moment) {
        guard !queue.pointee.isEmpty else { return }
        bond.pointee.open(now: now.nanoseconds)
        let stamp = now.wireTimestamp
        while !queue.pointee.isEmpty {
            guard bond.pointee.eligible != 0 else { return dropQueue() }
            guard bond.pointee.openLinks != 0, let packet = queue.pointee.dequeue(now: now.nanoseconds) else { break }
            // A link is open: it takes any packet.
            _ = sendScheduled(
                UnsafeMutableRawBufferPointer(start: packet.bytes, count: Int(packet.count)), stamp, now)
            giveSlot(of: packet)
        }
        collectDropped()
        record.pointee.queuedPackets = UInt64(queue.pointee.count)
        forEachLink { flush($0, now) }
    }

    /// No link is left: what waits has nowhere to go.
    func dropQueue() {
        while let packet = queue.pointee.dequeue(now: .max / 2) {
            giveSlot(of: packet)
            record.pointee.droppedNoLink &+= 1
        }
        collectDropped()
        record.pointee.queuedPackets = 0
    }

    /// When a pace opens for what waits.
    func queueDeadline(_ now: Int64) -> Int64 {
        queue.pointee.isEmpty ? .max : bond.pointee.deadline(now: now)
    }

    // MARK: Measuring

    /// Takes what a link's session learnt from its peer.
    func measure(_ link: Int, _ now: Moment) {
        let session = links[link].session
        trace(
            .rtt, "\(session.pointee.roundTrip.smoothed) µs, varies by \(session.pointee.roundTrip.variation) µs",
            link: link)
        if let sample = session.pointee.takeRoundTrip() {
            bond.pointee.observe(link, observation(link))
            bond.pointee.note(roundTrip: sample, link: link, now: now.nanoseconds)
            // Not with the choice: a tunnel may receive much and send nothing.
            updateHoldTime()
        }
        if let report = session.pointee.takeReport() {
            bond.pointee.take(report, link: link, now: now.nanoseconds)
            links[link].record.pointee.remoteLossPermille = UInt32(bond.pointee.lossPermille(of: link))
        }
        links[link].record.pointee.capacity = UInt64(bond.pointee.capacity(of: link))
        checkHealth(link, now)
        let interval = bond.pointee.wasUsed ? Self.policyInterval : Self.idlePolicyInterval
        if now.nanoseconds - lastPolicy >= interval { updateEligible(now) }
    }

    /// Before something is sent: the choice may be of a time when nothing was.
    func reviewChoice(_ now: Moment) {
        if now.nanoseconds - lastPolicy >= second { updateEligible(now) }
    }

    /// Suspects a link that does not answer, and probes it until it does.
    func checkHealth(_ link: Int, _ now: Moment) {
        let session = links[link].session
        guard session.pointee.isUp else { return }
        let roundTrip = session.pointee.roundTrip
        if session.pointee.capabilities.contains(.receiverReports), !isCleartext {
            links[link].health.expectPromptAnswers(
                roundTrip: roundTrip.hasSample ? max(1, roundTrip.smoothed * 1000) : 0,
                variation: roundTrip.variation * 1000)
        } else {
            links[link].health.expectSlowAnswers()
        }
        if links[link].health.check(lastEcho: session.pointee.lastEcho, now: now.nanoseconds) {
            log.notice(
                links[link].health.isSuspect ? "link does not answer and leaves the bond" : "link answers again",
                metadata: ["tunnel": "\(definition.name)", "link": "\(names[link]?.text ?? "")"])
            updateEligible(now)
        }
        let isProbed = links[link].health.takeProbe(now: now.nanoseconds)
        if isProbed { session.pointee.probe() }
    }
}
