import CLinux
import Glibc
import Logging
import ProcessChannel
import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

/// Tells copies of packets that are reordered, and of those that are not, which are numbered apart.
struct PeerCopies: ~Copyable {
    var ordered = CopyFilter()
    var unordered = CopyFilter()
}

/// A filter at work: its links by their places, as bits and in their order.
struct TunnelFilter {
    let program: BPFProgram
    let links: UInt32
    let order: [Int]
}

/// One tunnel at work: its device, its links, and what connects them. Belongs to one worker at a time, which alone
/// touches it; everything is done in that worker's turns, nothing waits.
///
/// A turn: sockets → open → resequence → coalesce → device (TunnelRuntime+Receive), then device → split → schedule →
/// seal → runs → sockets (TunnelRuntime+Transmit).
final class TunnelRuntime {
    static let maximumLinks = BurstScheduler.maximumLinks

    let slot: Slot
    let shared: EngineShared
    let record: UnsafeMutablePointer<StateMap.TunnelRecord>
    let resume: UnsafeMutablePointer<TunnelResume>
    var log: Logger

    var definition: TunnelDefinition
    var generation: UInt64 = 0
    /// Of sessions to come.
    var cipher: SessionCipher
    /// The engine's own switches; a tunnel's can only take away.
    let engineOffloads: OffloadSwitches

    var device: Int32 = -1
    var features = DeviceFeatures(hasVirtioHeader: false, tcpSegmentation: false, udpSegmentation: false)
    /// 0, or 14 for TAP.
    var linkHeaderLength = 0

    /// Places of links; `usedLinks` says which hold one. A link keeps its place for life.
    let links: UnsafeMutablePointer<LinkRuntime>
    var usedLinks: UInt32 = 0
    /// Where the next turn begins to receive.
    var firstLink: UInt32 = 0
    var names = [LinkName?](repeating: nil, count: maximumLinks)
    var peers = [[SocketAddress]](repeating: [], count: maximumLinks)

    /// In memory of their own, so that a packet's way needs no access check.
    let bond: UnsafeMutablePointer<LinkBond>
    /// Packets from the device, of which every 16th is looked at for what flows there are.
    var sampled: UInt8 = 0
    var resequencer: UnsafeMutablePointer<Resequencer>?
    var filters: [TunnelFilter] = []
    /// Of what the peer sends on several links; from the first session with a peer that may.
    var copies: UnsafeMutablePointer<PeerCopies>?
    /// Whether each packet is sent on every link: `scheduler = redundant`, with peers that drop copies.
    var isRedundant = false
    var wasToldOfCopies = false
    /// Links whose peers drop copies.
    var copyLinks: UInt32 = 0
    /// Links that are up.
    var upLinks: UInt32 = 0
    var lastPolicy: Int64 = 0
    /// What no link may take yet. In memory of its own, like the others.
    let queue: UnsafeMutablePointer<FairQueue>
    /// When something last had to wait; 0: the queue's memory has been given back since.
    var lastQueued: Int64 = 0
    /// What every packet needs of the definition.
    var isCleartext = false
    var clampsMSS = true
    var mtu = 0
    var lastTooBig: Int64 = 0
    var lastSendError: Int64 = 0
    /// When this tunnel next wants a turn though nothing came; `.max`: never.
    var deadline: Int64 = .max
    /// What an operator watches: captures (see ``Captures/review(_:)``) and debug tokens.
    var captures = Captures()
    var capturing: UInt64 = 0
    var tokens: DebugTokens = []
    var traceSince: Int64 = 0
    var tracedLines = 0
    /// Of the worker that has this tunnel; nil on the way between two.
    var poller: Poller?
    var place = 0
    var buffers: WorkerBuffers

    init?(
        slot: Slot, generation: UInt64, tunnel: CompiledTunnel, linkSlots: [LinkSlot], shared: EngineShared,
        offloads: OffloadSwitches, buffers: WorkerBuffers, now: Moment
    ) {
        guard let record = shared.state.tunnel(slot), let memory = shared.state.tunnelResume(slot) else { return nil }
        self.slot = slot
        self.shared = shared
        self.record = record
        self.buffers = buffers
        engineOffloads = offloads
        resume = memory.assumingMemoryBound(to: TunnelResume.self)
        definition = tunnel.definition
        cipher = SessionCipher(password: tunnel.definition.password.bytes)
        log = shared.log
        links = .allocate(capacity: Self.maximumLinks)
        bond = .allocate(capacity: 1)
        bond.initialize(to: LinkBond())
        bond.pointee.trainDelay = Int64(slot) * Self.trainDistance
        queue = .allocate(capacity: 1)
        queue.initialize(to: FairQueue(linkHeaderLength: definition.device == .tap ? 14 : 0))
        resequencer = Self.makeResequencer(tunnel.definition)
        let identity = Self.identity(of: tunnel.definition, cipher: cipher)
        if resume.pointee.layout != TunnelResume.layout || resume.pointee.identity != identity {
            resume.pointee = TunnelResume(
                layout: TunnelResume.layout, identity: identity, nextDataSequence: 0, nextCopySequence: 1)
            record.pointee = StateMap.TunnelRecord()
            record.pointee.since = now.wallMilliseconds
        } else {
            // What the engine before may have sent without its having been noted.
            resume.pointee.nextDataSequence &+= 1
            resume.pointee.nextCopySequence &+= 1
        }
        configure(generation: generation, tunnel: tunnel, linkSlots: linkSlots, now: now)
    }

    deinit {
        bond.deinitialize(count: 1)
        bond.deallocate()
        queue.deinitialize(count: 1)
        queue.deallocate()
        resequencer?.deinitialize(count: 1)
        resequencer?.deallocate()
        copies?.deinitialize(count: 1)
        copies?.deallocate()
        links.deallocate()
    }

    /// The engine's own part of the state map is only for the same tunnel, key and role.
    static func identity(of definition: TunnelDefinition, cipher: SessionCipher) -> UInt64 {
        // Not its name: who is renamed is the same to the peer.
        stableHash(definition.mode.rawValue + "/" + definition.device.rawValue) ^ cipher.fingerprint
    }

    static func identity(of link: LinkName, in tunnel: UInt64) -> UInt64 {
        stableHash(link.text) &* 0x9e37_79b9_7f4a_7c15 ^ tunnel
    }

    /// FNV-1a: the same in every process, as Hasher is not.
    private static func stableHash(_ text: String) -> UInt64 {
        text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }

    /// A gap may hold as many packets as a definition says; `auto` as many as 4096.
    static func makeResequencer(_ definition: TunnelDefinition) -> UnsafeMutablePointer<Resequencer>? {
        let limit: Int
        switch definition.reorder {
        case .off: return nil
        case .auto: limit = 4096
        case .packets(let count): limit = count
        }
        let resequencer = UnsafeMutablePointer<Resequencer>.allocate(capacity: 1)
        resequencer.initialize(to: Resequencer(limit: limit, links: maximumLinks))
        return resequencer
    }

    @inline(__always)
    func forEachLink(_ body: (Int) -> Void) {
        var left = usedLinks
        while left != 0 {
            body(left.trailingZeroBitCount)
            left &= left - 1
        }
    }

    // MARK: Time

    /// Sessions, resequencer and retries; sets ``deadline``.
    func tick(_ now: Moment) {
        forEachLink { link in
            links[link].session.pointee.tick(now: now.nanoseconds)
            reviewOther(link, now)
            if now.nanoseconds >= links[link].nextSocketTakesOver || !links[link].session.pointee.isUp {
                moveToNextSocket(link, now)
            }
            checkHealth(link, now)
            sendControls(link, now)
            noticeState(link, now)
            askForAddresses(link, now.nanoseconds)
        }
        drainQueue(now)
        sendTrains(now)
        releaseQueue(now)
        resequencer?.pointee.releaseMemory(now: now.nanoseconds)
        reviewOrder(now)
        reviewCaptures(now)
        updateDeadline(now)
    }

    /// Deadlines of sessions are rounded up to 50 ms, so that many tunnels share a wake-up.
    func updateDeadline(_ now: Moment) {
        var relaxed = Int64.max
        var earliest = Int64.max
        forEachLink { link in
            relaxed = min(relaxed, links[link].session.pointee.deadline)
            relaxed = min(relaxed, links[link].nextSocketTakesOver)
            if let other = links[link].other {
                relaxed = min(relaxed, other.pointee.until)
                if other.pointee.isNext { relaxed = min(relaxed, other.pointee.session.deadline) }
            }
            earliest = min(
                earliest, links[link].session.pointee.reportDeadline, links[link].health.deadline)
        }
        if relaxed != .max {
            let grid = 50 * millisecond
            earliest = min(earliest, (max(relaxed, now.nanoseconds) / grid + 1) * grid)
        }
        earliest = min(earliest, queueDeadline(now.nanoseconds), bond.pointee.trainDeadline)
        if capturing != 0 { earliest = min(earliest, captures.deadline) }
        if let resequencer { earliest = min(earliest, resequencer.pointee.deadline(now: now.nanoseconds)) }
        deadline = earliest
    }

    /// A client that gets no answer has its server's name resolved again, and tries the other addresses.
    private func askForAddresses(_ link: Int, _ now: Int64) {
        guard definition.mode == .client, !links[link].session.pointee.isUp else {
            links[link].unanswered = 0
            return
        }
        guard now - links[link].lastResolve >= 5 * second else { return }
        links[link].lastResolve = now
        links[link].unanswered += 1
        let choices = peers[link]
        if choices.count > 1 {
            let index = (choices.firstIndex(of: links[link].session.pointee.peer) ?? -1) + 1
            links[link].session.pointee.configure(peer: choices[index % choices.count])
        }
        if links[link].unanswered % 3 == 2 { shared.post(.resolveAgain(slot: slot, linkSlot: links[link].slot)) }
    }

    // MARK: State changes

    /// Tells others of what a session did: state, statistics, the tunnel's own state, who may be sent to.
    func noticeState(_ link: Int, _ now: Moment) {
        let session = links[link].session
        publish(link, now)
        if links[link].epoch != session.pointee.epoch {
            beginEpoch(links + link)
            restartOrder(now)
            restartCopies(link)
            doubtPeer(but: link, now)
        }
        let state = session.pointee.visibleState
        guard state != links[link].reported else { return }
        let previous = links[link].reported
        links[link].reported = state
        let reason = session.pointee.reason
        if reason == .peerDisconnect, previous.isUp { doubtPeer(but: link, now) }
        log.notice(
            "link changes",
            metadata: [
                "tunnel": "\(definition.name)", "link": "\(names[link]?.text ?? "")", "state": "\(state.word)",
                "was": "\(previous.word)", "reason": "\(reason.word)", "peer": "\(session.pointee.peer)",
            ])
        links[link].record.pointee.state = state.rawValue
        links[link].record.pointee.reason = reason.rawValue
        links[link].record.pointee.since = now.wallMilliseconds
        record(link, state, previous, reason, now)
        if previous.isUp != state.isUp {
            resequencer?.pointee.forget(link: link)
            bond.pointee.reset(link)
            links[link].health = LinkHealth()
        }
        updateEligible(now)
        shared.post(.linkState(slot: slot, linkSlot: links[link].slot, state: state))
    }

    /// A peer that ended or began anew on one link did so on all.
    func doubtPeer(but link: Int, _ now: Moment) {
        forEachLink { if $0 != link { links[$0].session.pointee.doubtPeer(now: now.nanoseconds) } }
    }

    private func record(
        _ link: Int, _ state: LinkState, _ previous: LinkState, _ reason: LinkReason, _ now: Moment
    ) {
        var event = StateMap.Event()
        event.time = now.wallMilliseconds
        let heard = links[link].session.pointee.lastHeard
        event.lastHeard = heard == 0 ? 0 : now.wallTime(of: heard)
        event.generation = generation
        event.slot = slot
        event.linkSlot = links[link].slot
        event.state = state.rawValue
        event.previousState = previous.rawValue
        event.reason = reason.rawValue
        shared.record(event)
    }

    /// Copies what the session measured and what the link uses to where others read it.
    func publish(_ link: Int, _ now: Moment) {
        let session = links[link].session
        let out = links[link].record
        let heard = session.pointee.lastHeard
        out.pointee.lastHeard = heard == 0 ? 0 : now.wallTime(of: heard)
        out.pointee.peer = session.pointee.peer
        out.pointee.disconnects = session.pointee.disconnects
        out.pointee.smoothedRTT = UInt32(clamping: session.pointee.roundTrip.smoothed)
        out.pointee.rttVariation = UInt32(clamping: session.pointee.roundTrip.variation)
        out.pointee.lossPermille = UInt32(session.pointee.loss.permille)
        out.pointee.offloads = (links[link].usesSegmentation ? 1 : 0) | (links[link].usesGRO ? 2 : 0)
    }

    /// A gap is waited for as long as the slowest link may lag behind the fastest.
    func updateHoldTime() {
        guard let resequencer else { return }
        var slowest: Int64 = 0
        var fastest = Int64.max
        forEachLink { link in
            let roundTrip = links[link].session.pointee.roundTrip
            guard upLinks & 1 << UInt32(link) != 0, roundTrip.hasSample else { return }
            slowest = max(slowest, roundTrip.smoothed + 4 * roundTrip.variation)
            fastest = min(fastest, roundTrip.minimum)
        }
        let spread = fastest == .max ? 100 * millisecond : (slowest - fastest) * 1000
        resequencer.pointee.holdTime = min(max(spread + 10 * millisecond, 20 * millisecond), second)
    }
}
