import Glibc
import Logging
import ProcessChannel
import TunnelCore
import TunnelModel
import TunnelWire

// Which link a packet takes, and what happens when none may take it. Ten times a second, and at every change, the links
// that share the traffic are chosen; per packet, one of these whose pace allows it. A link that is not the bottleneck has
// no pace, and as long as one of them is open nothing queues here.

extension TunnelRuntime {
    /// Links within this of the best share as equals, microseconds of round trip.
    private static let nearLag: Int64 = 8_000
    private static let policyInterval = 100 * millisecond

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
        var chosen: UInt32 = trusted ?? classes.first(where: { $0 != 0 }) ?? 0
        switch definition.scheduler {
        case .wrr: near = chosen
        case .redundant where isRedundant:
            // A bad line's copy costs nothing but its bytes.
            chosen = good | poor != 0 ? good | poor : fallback
            near = chosen
        case .failover:
            chosen = firstInOrder(of: chosen)
            near = chosen
        case .adaptive, .redundant:
            chosen = withoutHarmful(chosen, now)
            near = nearest(of: chosen)
        }
        let isChanged = chosen != eligible
        eligible = chosen
        if isChanged {
            scheduler.pointee.configure(weights: weights(), eligible: chosen)
            trace(.wrr, "links that share the traffic, and weights: \(namesOf(chosen)) \(weights().map(\.weight))")
        }
        updateHoldTime()
        openPaces(now)
        tuneQueue()
    }

    /// The queue's delays follow what the paced links carry together.
    private func tuneQueue() {
        var rate: Double = 0
        forEachLink { link in
            if eligible & pacedLinks & 1 << UInt32(link) != 0 { rate += links[link].pacer.capacityOrLimit }
        }
        if rate > 0 { queue.pointee.tune(bytesPerSecond: Int64(rate)) }
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

    /// Without the links that do more harm than good.
    private func withoutHarmful(_ mask: UInt32, _ now: Moment) -> UInt32 {
        let choice = useful.choose(from: mask, now: now.nanoseconds) { link in
            let roundTrip = links[link].session.pointee.roundTrip
            let pacer = links[link].pacer
            // Who sends no reports leaves us what we lose of theirs to go by.
            let reports = links[link].session.pointee.capabilities.contains(.receiverReports)
            let loss = reports ? pacer.lossPermille : Double(links[link].session.pointee.loss.permille)
            return UsefulLinks.Observation(
                rate: pacer.capacity > 0 ? pacer.capacity : pacer.recentRate, isMeasured: pacer.capacity > 0,
                lossPermille: loss, roundTrip: roundTrip.hasSample ? roundTrip.minimum : nil)
        }
        forEachLink { if choice.returned & 1 << UInt32($0) != 0 { links[$0].pacer.forgetLoss() } }
        return choice.useful
    }

    private func namesOf(_ mask: UInt32) -> [String] {
        names.indices.filter { mask & 1 << UInt32($0) != 0 }.compactMap { names[$0]?.text }
    }

    private func nearest(of mask: UInt32) -> UInt32 {
        var least = Int64.max
        forEachLink { link in
            guard mask & 1 << UInt32(link) != 0 else { return }
            least = min(least, links[link].session.pointee.roundTrip.minimum)
        }
        var found: UInt32 = 0
        forEachLink { link in
            let bit: UInt32 = 1 << UInt32(link)
            let roundTrip = links[link].session.pointee.roundTrip
            guard mask & bit != 0, !roundTrip.hasSample || roundTrip.minimum <= least &+ Self.nearLag else { return }
            found |= bit
        }
        return found == 0 ? mask : found
    }

    /// What was measured, else bandwidths as given; all equal if any link lacks both.
    private func weights() -> [(link: Int, weight: UInt64)] {
        let measures = definition.scheduler == .adaptive
        var known = true
        var result: [(link: Int, weight: UInt64)] = []
        forEachLink { link in
            let measured = measures ? UInt64(links[link].pacer.capacity) : 0
            let weight = measured > 0 ? measured : links[link].weight
            if weight == 0 { known = false }
            result.append((link: link, weight: weight))
        }
        return known ? result : result.map { (link: $0.link, weight: 1 << 20) }
    }

    // MARK: Per packet

    /// The link for a datagram of `size` bytes; -1: none may take it now.
    func pickLink(_ size: Int) -> Int {
        var open = eligible & ~blocked
        if open & near != 0 { open &= near }
        guard open != 0 else { return -1 }
        scheduler.pointee.restrict(to: open)
        let link = scheduler.pointee.pick(size)
        guard link >= 0 else { return -1 }
        charge(link, size)
        return link
    }

    private func charge(_ link: Int, _ size: Int) {
        links[link].pacer.sent(size)
        if pacedLinks & 1 << UInt32(link) != 0, links[link].pacer.isExhausted { blocked |= 1 << UInt32(link) }
    }

    /// A copy of `size` bytes each.
    func charge(_ mask: UInt32, _ size: Int) {
        var left = mask
        while left != 0 {
            charge(left.trailingZeroBitCount, size)
            left &= left - 1
        }
    }

    /// Which paces let something through now.
    func openPaces(_ now: Moment) {
        blocked = 0
        pacedLinks = 0
        forEachLink { link in
            guard links[link].pacer.isPaced, paces else { return }
            pacedLinks |= 1 << UInt32(link)
            if links[link].pacer.allowance(now: now.nanoseconds) <= 0 { blocked |= 1 << UInt32(link) }
        }
    }

    /// Stock's round robin takes what it is given; a cap holds for every scheduler.
    private var paces: Bool { definition.scheduler != .wrr || definition.links.contains { $0.limit != nil } }

    // MARK: The queue

    func enqueue(_ packet: UnsafeMutableRawBufferPointer, _ now: Moment) {
        guard let bytes = packet.baseAddress, let slot = takeSlot() else {
            record.pointee.droppedQueue &+= 1
            return
        }
        lastQueued = now.nanoseconds
        memcpy(slot, bytes, packet.count)
        let flow = flowHash(UnsafeRawBufferPointer(packet), linkHeaderLength: linkHeaderLength)
        queue.pointee.enqueue(QueuedPacket(bytes: slot, count: packet.count), flow: flow, now: now.nanoseconds)
        collectDropped()
    }

    /// Where the worker's memory is used up, those who use most of it here give way.
    private func takeSlot() -> UnsafeMutableRawPointer? {
        if let slot = buffers.pool.take() { return slot }
        queue.pointee.shed()
        collectDropped()
        return buffers.pool.take()
    }

    /// Gives the memory of a queue back that nothing needed for a while.
    func releaseQueue(_ now: Moment) {
        guard lastQueued != 0, now.nanoseconds - lastQueued > 10 * second, queue.pointee.isEmpty else { return }
        lastQueued = 0
        queue.pointee.releaseMemory()
    }

    private func collectDropped() {
        while let dropped = queue.pointee.takeDropped() {
            buffers.pool.give(dropped.bytes)
            record.pointee.droppedQueue &+= 1
        }
    }

    /// Sends what waits, as far as the paces allow.
    func drainQueue(_ now: Moment) {
        guard !queue.pointee.isEmpty else { return }
        openPaces(now)
        let stamp = now.wireTimestamp
        while !queue.pointee.isEmpty {
            guard eligible != 0 else { return dropQueue() }
            guard eligible & ~blocked != 0, let packet = queue.pointee.dequeue(now: now.nanoseconds) else { break }
            // A link is open: it takes any packet.
            _ = sendScheduled(
                UnsafeMutableRawBufferPointer(start: packet.bytes, count: Int(packet.count)), stamp, now)
            buffers.pool.give(packet.bytes)
        }
        collectDropped()
        record.pointee.queuedPackets = UInt64(queue.pointee.count)
        forEachLink { flush($0, now) }
    }

    /// No link is left: what waits has nowhere to go.
    func dropQueue() {
        while let packet = queue.pointee.dequeue(now: .max / 2) {
            buffers.pool.give(packet.bytes)
            record.pointee.droppedNoLink &+= 1
        }
        collectDropped()
    }

    /// When a pace opens for what waits.
    func queueDeadline(_ now: Int64) -> Int64 {
        guard !queue.pointee.isEmpty else { return .max }
        var earliest = Int64.max
        forEachLink { link in
            if eligible & 1 << UInt32(link) != 0 {
                earliest = min(earliest, links[link].pacer.nextAllowance(now: now))
            }
        }
        return earliest
    }

    // MARK: Measuring

    /// Takes what a link's session learnt from its peer.
    func measure(_ link: Int, _ now: Moment) {
        let session = links[link].session
        trace(
            .rtt, "\(session.pointee.roundTrip.smoothed) µs, varies by \(session.pointee.roundTrip.variation) µs",
            link: link)
        if let report = session.pointee.takeReport() {
            links[link].pacer.report(report, now: now.nanoseconds)
            links[link].record.pointee.capacity = UInt64(links[link].pacer.capacity)
            links[link].record.pointee.remoteLossPermille = UInt32(links[link].pacer.lossPermille)
        } else if let sample = session.pointee.takeRoundTrip(),
            !session.pointee.capabilities.contains(.receiverReports)
        {
            let least = session.pointee.roundTrip.minimum
            links[link].pacer.echo(sample - least, roundTrip: least, now: now.nanoseconds)
            links[link].record.pointee.capacity = UInt64(links[link].pacer.capacity)
        }
        checkHealth(link, now)
        if now.nanoseconds - lastPolicy >= Self.policyInterval { updateEligible(now) }
    }

    /// Suspects a link that does not answer, and probes it until it does.
    func checkHealth(_ link: Int, _ now: Moment) {
        let session = links[link].session
        guard session.pointee.isUp else { return }
        let roundTrip = session.pointee.roundTrip
        let answersPromptly = session.pointee.capabilities.contains(.receiverReports) && !isCleartext
        links[link].health.isAnsweredPromptly = answersPromptly
        links[link].health.patience =
            answersPromptly
            ? (roundTrip.smoothed + 4 * roundTrip.variation) * 1000 + 120 * millisecond : 2200 * millisecond
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
