import TunnelCrypto
import TunnelModel
import TunnelWire

/// One link's end of the protocol: handshake, keepalive, timeout, disconnect, replay, roaming, RTT and loss
/// (wire-v1.md, Session, and What v1 leaves open).
///
/// A value of fixed layout without references: it can live in shared memory and be taken up by another process. It reads
/// no clock and touches no socket: datagrams and moments come in; ``nextControl(now:)`` tells what to send,
/// ``visibleState`` and ``reason`` what to report, ``deadline`` when to call ``tick(now:)``.
public struct LinkSession: BitwiseCopyable, Sendable {
    public var settings: Settings

    // Sending.
    public private(set) var flowID: UInt32
    public private(set) var nextSequence: UInt64
    /// Where the peer is: configured, or where its last fresh datagram came from.
    public private(set) var peer: SocketAddress = .none
    private var configuredPeer: SocketAddress = .none

    /// Where the peer was when ``move(to:now:)`` was called, which it may answer from a while; and whether it has not yet
    /// answered from where it is now.
    private var formerPeer: SocketAddress = .none
    private var isMoving = false
    private var movedAt: Int64 = 0
    /// When something told that the peer began anew; 0: nothing did, or it was heard since.
    private var doubtedAt: Int64 = 0

    // State.
    public private(set) var phase: Phase = .disconnected
    public private(set) var reason: LinkReason = .none
    public private(set) var quality: LinkState = .up
    private var qualitySince: Int64 = 0
    private var lastJudged: Int64 = 0
    private var wasEverUp = false
    /// Counts the peer's sessions: another number means that its data_seq may have started anew.
    public private(set) var epoch: UInt32 = 0
    private var begunAt: Int64 = 0
    public private(set) var disconnects: UInt64 = 0

    // What is to be sent at the next opportunity.
    private var owesAuth = false
    private var owesAuthOK = false
    private var owesKeepalive = false
    private var owesProbe = false
    /// Nothing but control messages is sent on the link.
    private var rests = false
    private var owesDisconnect = false
    /// Where a DISCONNECT goes that answers a datagram without a session.
    private var disconnectTo: SocketAddress = .none

    // Times, monotonic nanoseconds.
    private var lastAuthSent: Int64 = .min / 2
    /// Sent, or due and not yet fetched.
    private var lastKeepaliveSent: Int64 = .min / 2
    private var lastKeepaliveHeard: Int64 = .min / 2
    private var lastAnswer: Int64 = .min / 2
    /// When a stock peer's KEEPALIVE is answered; .max: it is.
    private var answerAt = Int64.max
    private var lastRefusal: Int64 = .min / 2
    /// Last authenticated, fresh datagram; 0: none yet.
    public private(set) var lastHeard: Int64 = 0
    private var startedAt: Int64

    // The peer's clock, for its echo.
    private var peerTimestamp: UInt16 = DatagramHeader.noTimestamp
    private var peerTimestampAt: Int64 = 0
    /// When the peer last echoed one of our timestamps within 5 s; 0: never.
    public private(set) var lastEcho: Int64 = 0

    public private(set) var roundTrip = RoundTrip()
    public private(set) var loss = LossWindow()
    /// What the peer said that it can do.
    public private(set) var capabilities = Capabilities()
    /// What came in the present flow, for our reports.
    public var meter = LinkMeter()
    private var incomingReport: ReceiverReport?
    private var incomingRoundTrip: Int64 = -1
    private var incomingRest = false
    public var flows = PeerFlows()

    /// `flowID` differs from every other that is in use under the same key; `sequence` is above any that was sent with it:
    /// the wall clock in microseconds will do.
    public init(settings: Settings, flowID: UInt32, sequence: UInt64, now: Int64) {
        self.settings = settings
        self.flowID = flowID
        nextSequence = sequence
        startedAt = now
    }

    // MARK: What to report

    // These change nothing. But the compiler makes a copy of a structure of this size for every call that cannot, which
    // took a tenth of the time of an engine at rest.

    /// The state as the operator sees it.
    public var visibleState: LinkState {
        mutating get {
            switch phase {
            case .up: quality
            case .authSent: .connecting
            case .disconnected: wasEverUp || settings.isServer == false ? .down : .connecting
            }
        }
    }

    @inlinable public var isUp: Bool { phase == .up }

    /// When ``tick(now:)`` has something to do.
    public var deadline: Int64 {
        mutating get {
            switch phase {
            case .up:
                min(
                    keepaliveDeadline, lastKeepaliveHeard + settings.timeout, renewalDeadline,
                    settings.judgesQuality || quality != .up ? lastJudged + second : .max)
            case .disconnected, .authSent: settings.isServer || configuredPeer.isNone ? .max : lastAuthSent + second
            }
        }
    }

    private var keepaliveDeadline: Int64 { mutating get { min(answerAt, lastKeepaliveSent + second) } }

    /// When a client asks a server that has fallen silent for a new session, in case it lost the old one: stock's server
    /// does not say so. Just after a new flow may take over, and then each second, as if the session had ended.
    private var renewalDeadline: Int64 {
        mutating get {
            guard !settings.isServer else { return .max }
            var silence = lastHeard + PeerFlows.takeoverSilence + 10 * millisecond
            if isMoving { silence = 0 } else if doubtedAt != 0 { silence = min(silence, doubtedAt + Self.benefit) }
            return max(silence, lastAuthSent + second)
        }
    }

    /// How long a peer that is doubted has to be heard: what it sent last may come after what told of its end.
    private static let benefit = 500 * millisecond

    /// When a report for the peer's pacing is due; to the millisecond, unlike ``deadline``.
    public var reportDeadline: Int64 {
        mutating get { isUp && reportsToPeer && !owesKeepalive ? meter.deadline : .max }
    }

    /// With cleartext DATA a report would count control messages alone.
    private var reportsToPeer: Bool {
        mutating get { capabilities.contains(.receiverReports) && !settings.isCleartext }
    }

    /// The peer's last report, once.
    public mutating func takeReport() -> ReceiverReport? {
        defer { incomingReport = nil }
        return incomingReport
    }

    /// The last round-trip sample, microseconds, once.
    public mutating func takeRoundTrip() -> Int64? {
        defer { incomingRoundTrip = -1 }
        return incomingRoundTrip < 0 ? nil : incomingRoundTrip
    }

    /// The last datagram said that the link rests, and the peer sent nothing on it later that has come: once.
    public mutating func takeRest() -> Bool {
        defer { incomingRest = false }
        return incomingRest
    }

    // MARK: Orders

    /// Where a client's server is, or a server's peer may be found before it speaks. Takes effect at once unless up.
    public mutating func configure(peer address: SocketAddress) {
        configuredPeer = address
        if phase != .up { peer = address }
    }

    /// The server is to be found at another address from now on. It may be the same one, for which the session goes on, or
    /// another, which is asked for one at once and takes the link over when it answers.
    public mutating func move(to address: SocketAddress, now: Int64) {
        configuredPeer = address
        guard phase == .up, address != peer else {
            if phase != .up { peer = address }
            return
        }
        formerPeer = peer
        peer = address
        isMoving = true
        movedAt = now
        owesAuth = true
        lastAuthSent = now
    }

    /// Another link's session with the same peer has ended, or it began anew there. Stock's farewell gets lost on some links:
    /// unless the peer is heard again, it is asked for a new session, and may begin one.
    public mutating func doubtPeer(now: Int64) {
        guard phase == .up, doubtedAt == 0, !capabilities.contains(.receiverReports) else { return }
        if now - begunAt >= PeerFlows.takeoverSilence { doubtedAt = now }
    }

    /// A client that starts tells a peer which still holds an older session of it to end that.
    public mutating func announceStart() {
        if !settings.isServer, phase != .up { owesDisconnect = !configuredPeer.isNone }
    }

    /// Ends the session, telling the peer; a client starts over with the next tick.
    public mutating func disconnect(_ why: LinkReason, now: Int64) {
        guard phase != .disconnected else { return }
        if phase == .up {
            owesDisconnect = true
            disconnectTo = peer
        }
        leave(why, now: now)
    }

    /// Whether a flow_id of the peer's is remembered.
    public mutating func knows(_ flow: UInt32) -> Bool { flows.find(flow) != nil }

    /// Takes the place of another session with the same peer on the same link: what is counted over all sessions, and
    /// what is known of the path, goes on.
    public mutating func follow(_ former: inout LinkSession) {
        epoch = former.epoch &+ epoch &+ 1
        disconnects &+= former.disconnects
        wasEverUp = wasEverUp || former.wasEverUp
        if !roundTrip.hasSample { roundTrip = former.roundTrip }
        lastEcho = max(lastEcho, former.lastEcho)
        lastHeard = max(lastHeard, former.lastHeard)
    }

    /// Goes on after the process that held this session died: numbers that it may have used are left out.
    public mutating func resume(now: Int64) {
        nextSequence &+= 1 << 16
        if phase == .up { reason = .resumed }
        owesAuth = false
        owesAuthOK = false
        lastKeepaliveSent = min(lastKeepaliveSent, now - second)
    }

    /// Asks the peer for a sign of life, and for one that shows that ours arrives.
    public mutating func probe() { owesProbe = phase == .up }

    /// Whether nothing but control messages is sent on the link from now on. True when a peer that understands it is to be
    /// told now.
    public mutating func rest(_ isResting: Bool) -> Bool {
        guard rests != isResting else { return false }
        rests = isResting
        guard rests, tellsRest else { return false }
        owesKeepalive = true
        return true
    }

    private var tellsRest: Bool { mutating get { isUp && capabilities.contains(.receiverReports) } }

    /// Time has passed.
    public mutating func tick(now: Int64) {
        switch phase {
        case .up:
            if now - lastKeepaliveHeard >= settings.timeout {
                leave(.timeout, now: now)
                tick(now: now)
                return
            }
            if now >= keepaliveDeadline || now >= reportDeadline {
                owesKeepalive = true
                lastKeepaliveSent = now
                if now >= answerAt { answerAt = .max }
            }
            if now >= renewalDeadline {
                owesAuth = true
                lastAuthSent = now
            }
            if settings.judgesQuality {
                if now - lastJudged >= second { judgeQuality(now: now) }
            } else if quality != .up {
                quality = .up
                reason = .recovered
            }
        case .disconnected, .authSent:
            guard !settings.isServer, !configuredPeer.isNone, now - lastAuthSent >= second else { return }
            owesAuth = true
            lastAuthSent = now
            phase = .authSent
        }
    }

    private mutating func enter(now: Int64) {
        if phase != .up {
            phase = .up
            quality = .up
            qualitySince = now
            lastJudged = now
            reason = .handshake
            owesDisconnect = false
            loss.reset()
        }
        wasEverUp = true
        owesAuth = false
        lastAuthSent = .min / 2
        lastKeepaliveHeard = now
        owesKeepalive = true
    }

    private mutating func leave(_ why: LinkReason, now: Int64) {
        if phase == .up { disconnects &+= 1 }
        phase = .disconnected
        reason = why
        owesKeepalive = false
        owesProbe = false
        owesAuthOK = false
        peerTimestamp = DatagramHeader.noTimestamp
        formerPeer = .none
        isMoving = false
        doubtedAt = 0
        answerAt = .max
        // Half a second of rest: a peer that just said DISCONNECT is going away, not waiting for AUTH.
        lastAuthSent = why == .peerDisconnect ? now - second / 2 : now - second
        if !configuredPeer.isNone { peer = configuredPeer }
    }

    /// Lossy and slow, entered at the tolerance, left after 3 s below three quarters of it.
    private mutating func judgeQuality(now: Int64) {
        lastJudged = now
        let percent = loss.permille / 10
        let latency = Int(roundTrip.smoothed / 1000)
        let wasLossy = quality == .lossy
        let wasSlow = quality == .slow
        let lossLimit = wasLossy ? settings.lossTolerance * 3 / 4 : settings.lossTolerance
        let latencyLimit = wasSlow ? settings.latencyTolerance * 3 / 4 : settings.latencyTolerance
        let isLossy = settings.lossTolerance < 100 && percent > lossLimit
        let isSlow = settings.latencyTolerance != 1000 && roundTrip.hasSample && latency > latencyLimit
        let verdict: LinkState = isLossy ? .lossy : isSlow ? .slow : .up
        guard verdict != quality else {
            qualitySince = now
            return
        }
        // `qualitySince` is when the present verdict was last confirmed.
        if verdict == .up, now - qualitySince < 3 * second { return }
        quality = verdict
        qualitySince = now
        reason = isLossy ? .loss : isSlow ? .latency : .recovered
    }

    // MARK: Receiving

    // What is asked per datagram is `mutating` without changing anything: that spares a copy of the whole session at each
    // call, which cost more than all else that a session does per packet.

    /// Whether to spend crypto on a datagram. A number seen already, or a flow nobody knows that brings no handshake
    /// (and needs no answer), is refused before.
    @inlinable
    public mutating func isWorthOpening(_ header: DatagramHeader, _ type: DatagramType, now: Int64) -> Bool {
        if let index = flows.find(header.flowID) { return flows.entries[index].window.isFresh(header.sequence) }
        return type == .auth || type == .authOK || wouldRefuse(now: now) || mayObeyStranger(type, now: now)
    }

    /// Whether a datagram of a flow without a session is to be answered with DISCONNECT now.
    @usableFromInline
    mutating func wouldRefuse(now: Int64) -> Bool {
        settings.isServer && phase != .up && now - lastRefusal >= second
    }

    /// A client whose server has been silent for 3 s believes an unknown flow that there is no session any more.
    @usableFromInline
    mutating func mayObeyStranger(_ type: DatagramType, now: Int64) -> Bool {
        type == .disconnect && !settings.isServer && phase == .up && flows.mayBeTakenOver(now: now)
    }

    /// Takes a datagram whose MAC was right. `body` is its plaintext; `isOwnFlow` says whether a flow_id is one of this
    /// process's own, whose datagrams somebody sent back.
    public mutating func receive(
        _ header: DatagramHeader, _ type: DatagramType, body: UnsafeRawBufferPointer, from source: SocketAddress,
        now: Int64, isOwnFlow: (UInt32) -> Bool
    ) -> Reception {
        guard type == .data ? isInnerPacket(body) : ControlBody.isPlausible(type, body) else {
            return .dropped(.implausible)
        }
        var isLatest = true
        if let index = flows.find(header.flowID) {
            let advances = header.sequence > flows.entries[index].window.highest
            guard flows.entries[index].window.accept(header.sequence) else { return .dropped(.replayed) }
            let isStale = type == .disconnect || flows.entries[index].isDisconnected || index != flows.current
            // Overtaken by what the flow sent later: it must neither end nor revive a session, nor take a link back.
            if !advances, isStale { return .dropped(.state) }
            if index != flows.current {
                if type == .disconnect {
                    flows.entries[index].isDisconnected = true
                    return .dropped(.state)
                }
                flows.select(index)
                beginFlow(now: now)
            }
            if advances { heard(header, from: source, now: now) }
            isLatest = advances
        } else {
            guard !isOwnFlow(header.flowID) else { return .dropped(.unknownFlow) }
            guard type == .auth || type == .authOK, mayBeTakenOver(from: source, now: now), canHandshake else {
                return answerStranger(type, from: source, now: now)
            }
            let index = flows.adopt(header.flowID, now: now)
            _ = flows.entries[index].window.accept(header.sequence)
            beginFlow(now: now)
            heard(header, from: source, now: now)
        }
        if !settings.isCleartext { loss.note(header.sequence) }
        meter.note(
            sequence: header.sequence, size: Int(header.length) + DatagramHeader.size,
            delay: UInt16(truncatingIfNeeded: now / millisecond) &- header.timestamp,
            wantsReport: type == .data || (type == .keepalive && body.isEmpty), now: now)
        flows.entries[flows.current].lastHeard = now
        flows.entries[flows.current].isDisconnected = type == .disconnect
        lastHeard = now
        incomingRest = type == .keepalive && isLatest && RestNotice.isIn(body: body)
        return act(on: type, body, from: source, now: now)
    }

    private mutating func beginFlow(now: Int64) {
        begunAt = now
        loss.reset()
        meter = LinkMeter()
        epoch &+= 1
    }

    /// DATA of a tunnel with cleartext_data: it proves nothing, so it changes nothing.
    @inlinable
    public mutating func receiveCleartext(_ body: UnsafeRawBufferPointer, from source: SocketAddress) -> Reception {
        guard isUp, source == peer else { return .dropped(.state) }
        return isInnerPacket(body) ? .data : .dropped(.implausible)
    }

    /// Whether the plaintext can be an inner packet: IPv4 or IPv6 with a whole header, or an Ethernet frame.
    @usableFromInline
    mutating func isInnerPacket(_ body: UnsafeRawBufferPointer) -> Bool {
        guard let first = body.first else { return false }
        if settings.isTAP { return body.count >= 14 }
        let words = Int(first & 0xf)
        return first >> 4 == 4 ? words >= 5 && body.count >= 4 * words : first >> 4 == 6 && body.count >= 40
    }

    /// A client listens to handshakes only when it asked, or when its server has gone silent while up.
    private var canHandshake: Bool { settings.isServer || phase != .disconnected }

    private mutating func answerStranger(_ type: DatagramType, from source: SocketAddress, now: Int64) -> Reception {
        if mayObeyStranger(type, now: now) {
            leave(.peerDisconnect, now: now)
        } else if wouldRefuse(now: now), type != .disconnect, type != .auth, type != .authOK {
            refuse(source, now: now)
        }
        return .dropped(.unknownFlow)
    }

    private mutating func refuse(_ source: SocketAddress, now: Int64) {
        lastRefusal = now
        owesDisconnect = true
        disconnectTo = source
    }

    /// Whether a flow that nobody knows may begin a session.
    private mutating func mayBeTakenOver(from source: SocketAddress, now: Int64) -> Bool {
        flows.mayBeTakenOver(now: now) || isMoving && source == configuredPeer
            || doubtedAt != 0 && now - doubtedAt >= Self.benefit
    }

    /// Milliseconds by which a peer's clock and ours, each in whole ones, may disagree about one interval.
    private static let echoRounding: UInt16 = 3

    private mutating func heard(_ header: DatagramHeader, from source: SocketAddress, now: Int64) {
        // Another server would have given us up by then: this is the same one, heard from where it chooses.
        if source != formerPeer || now - movedAt >= 2 * settings.timeout {
            peer = source
            isMoving = false
        }
        if doubtedAt != 0, now - doubtedAt >= Self.benefit { doubtedAt = 0 }
        if header.timestamp != DatagramHeader.noTimestamp {
            peerTimestamp = header.timestamp
            peerTimestampAt = now
        }
        guard header.timestampReply != DatagramHeader.noTimestamp else { return }
        let stamp = Moment(nanoseconds: now, wallMilliseconds: 0).wireTimestamp
        // The peer rounds how long it held our timestamp: one next door may seem to answer before it was asked.
        let elapsed = stamp &- header.timestampReply
        let sample = elapsed > .max - Self.echoRounding ? 0 : Int64(elapsed) * 1000
        guard sample < RoundTrip.ceiling else { return }
        roundTrip.add(sample, now: now)
        incomingRoundTrip = sample
        lastEcho = now
    }

    private mutating func act(
        on type: DatagramType, _ body: UnsafeRawBufferPointer, from source: SocketAddress, now: Int64
    ) -> Reception {
        switch type {
        case .auth, .authOK:
            capabilities = Capabilities(body: body)
            if settings.isServer {
                owesAuthOK = true
                enter(now: now)
            } else if phase != .disconnected {
                enter(now: now)
            }
            if !capabilities.contains(.receiverReports) { meetStock(now: now) }
        case .keepalive:
            guard isUp else { return withoutSession(source, now: now) }
            lastKeepaliveHeard = now
            if let report = ReceiverReport(body: body) { incomingReport = report }
            if capabilities.contains(.receiverReports) {
                if now - lastAnswer >= second {
                    lastAnswer = now
                    owesKeepalive = true
                }
            } else {
                answerStock(now: now)
            }
        case .disconnect:
            guard isUp else { return .dropped(.state) }
            leave(.peerDisconnect, now: now)
        case .data:
            return isUp ? .data : withoutSession(source, now: now)
        }
        return .control
    }

    /// Stock's answer to a KEEPALIVE waits for the tick of its one-second timer that sent this one, and if it is told to end
    /// meanwhile, it sends that answer and not its DISCONNECT. So ours arrives shortly before the next tick.
    private mutating func answerStock(now: Int64) {
        let margin = min(70 * millisecond + 4 * roundTrip.variation * 1000, 200 * millisecond)
        answerAt = now + max(0, second - margin - roundTrip.smoothed * 1000)
    }

    /// A stock client sends AUTH at a tick. When a stock server's ticks are is told by its first KEEPALIVE, one to two
    /// seconds from now, and it wants none from us before.
    private mutating func meetStock(now: Int64) {
        guard phase == .up else { return }
        answerAt = .max
        if settings.isServer {
            answerStock(now: now)
        } else {
            owesKeepalive = false
            lastKeepaliveSent = now + min(max(0, settings.timeout - 2 * second), 2 * second)
        }
    }

    /// The peer believes in a session that we have ended.
    private mutating func withoutSession(_ source: SocketAddress, now: Int64) -> Reception {
        if wouldRefuse(now: now) { refuse(source, now: now) }
        return .dropped(.state)
    }

    // MARK: Sending

    /// The next control message to send now; nil when nothing is owed.
    public mutating func nextControl(now: Int64) -> Control? {
        if owesDisconnect {
            owesDisconnect = false
            let destination = disconnectTo.isNone ? peer : disconnectTo
            disconnectTo = .none
            if !destination.isNone { return Control(type: .disconnect, destination: destination) }
        }
        guard !peer.isNone else { return nil }
        if owesAuth {
            owesAuth = false
            return Control(type: .auth, destination: peer)
        }
        if owesAuthOK {
            owesAuthOK = false
            return Control(type: .authOK, destination: peer)
        }
        guard owesKeepalive || owesProbe else { return nil }
        defer {
            owesKeepalive = false
            owesProbe = false
        }
        lastKeepaliveSent = now
        // Only a KEEPALIVE without a body asks for a report.
        if owesProbe { return Control(type: .keepalive, destination: peer) }
        return Control(
            type: .keepalive, destination: peer, carriesReport: reportsToPeer, carriesRest: rests && tellsRest)
    }

    /// The header of the next datagram, taking its sequence number. `bodyLength` includes the MAC.
    @inlinable
    public mutating func nextHeader(
        _ type: DatagramType, bodyLength: Int, reorder: Bool, dataSequence: UInt64, stamp: UInt16, now: Int64
    ) -> DatagramHeader {
        let sequence = nextSequence
        advanceSequence()
        // A receiver believes no header of cleartext DATA: the echo, given once, waits for a control message.
        let echo = type == .data && settings.isCleartext ? DatagramHeader.noTimestamp : takeEcho(now: now)
        return DatagramHeader(
            type: type, reorder: reorder, length: UInt16(truncatingIfNeeded: bodyLength), timestamp: stamp,
            timestampReply: echo, flowID: flowID, sequence: sequence, dataSequence: dataSequence)
    }

    @usableFromInline mutating func advanceSequence() { nextSequence &+= 1 }

    /// The peer's last timestamp, advanced by how long it was held; once, and only within a second.
    @usableFromInline
    mutating func takeEcho(now: Int64) -> UInt16 {
        guard peerTimestamp != DatagramHeader.noTimestamp else { return DatagramHeader.noTimestamp }
        let held = now - peerTimestampAt
        let echo = peerTimestamp &+ UInt16(truncatingIfNeeded: held / millisecond)
        peerTimestamp = DatagramHeader.noTimestamp
        return held >= 0 && held < second ? echo : DatagramHeader.noTimestamp
    }
}
