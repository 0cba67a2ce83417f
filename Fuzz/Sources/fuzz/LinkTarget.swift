import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

/// Datagrams, forged and genuine, through one link's parser, cipher, session, schedule and health, with time between them.
func fuzzLink(_ input: inout FuzzInput) {
    var link = FuzzedLink(&input)
    // A step takes some bytes; one without input would change nothing more.
    while !input.isEmpty { link.step(&input) }
    link.checkAtEnd()
}

private let cipher = SessionCipher(password: Array("fuzz".utf8))

private struct FuzzedLink: ~Copyable {
    private var session: LinkSession
    private var bond = LinkBond()
    private var health = LinkHealth()
    private var trains = TrainMeter()
    private let isCleartext: Bool
    private var now: Int64 = second
    private var delivered: Set<[UInt64]> = []
    private var sent: Set<UInt64> = []
    private var peerSequence: UInt64 = 1 << 40

    init(_ input: inout FuzzInput) {
        let options = input.byte()
        isCleartext = options & 4 != 0
        let settings = LinkSession.Settings(
            isServer: options & 1 != 0, isTAP: options & 2 != 0, isCleartext: isCleartext,
            timeoutSeconds: 2 + Int(options >> 5), lossTolerance: options & 8 != 0 ? 20 : 100,
            latencyTolerance: options & 16 != 0 ? 50 : 1000)
        session = LinkSession(settings: settings, flowID: 7, sequence: 1 << 50, now: now)
        session.configure(peer: Self.address(1))
        bond.configure(0, weight: 0, limit: input.flag() ? Double(input.integer(UInt32.self)) : 0)
        bond.configure(1, weight: 0, limit: 0)
        session.announceStart()
    }

    private static func address(_ number: UInt8) -> SocketAddress {
        SocketAddress(.v4(0x0a00_0000 | UInt32(number)), port: 5000)
    }

    mutating func step(_ input: inout FuzzInput) {
        switch input.byte() & 15 {
        case 0: now += Int64(input.integer(UInt16.self)) * millisecond
        case 1: take(input.bytes(Int(input.byte())), from: Self.address(input.byte() & 3))
        case 2: session.disconnect(.shutdown, now: now)
        case 3: session.probe()
        case 4: session.resume(now: now)
        case 5: session.configure(peer: Self.address(input.byte() & 3))
        case 6: bond.charge(1, Int(input.integer(UInt16.self)))
        case 7: bond.reset(0)
        case 8: bond.sample(flow: input.integer(UInt32.self), bytes: Int(input.integer(UInt16.self)))
        case 9: sendData(Int(input.byte()))
        default: takeSealed(&input)
        }
        turn()
    }

    /// What the peer, who has the key, may send: any header, any body.
    private mutating func takeSealed(_ input: inout FuzzInput) {
        let flags = UInt16(truncatingIfNeeded: input.byte()) << 4 | 1 | UInt16(input.byte() & 4) << 8
        let jump = input.byte()
        peerSequence = jump & 0x80 != 0 ? peerSequence &- UInt64(jump & 0x7f) : peerSequence &+ UInt64(jump)
        if jump == 0xff { peerSequence = input.integer() }
        var header = DatagramHeader(
            type: .data, reorder: false, length: 0, timestamp: input.integer(), timestampReply: input.integer(),
            flowID: UInt32(input.byte() & 31), sequence: peerSequence, dataSequence: UInt64(input.byte()))
        header.flags = flags
        var plaintext: [UInt8]
        switch header.type {
        case .auth: plaintext = Array("AU".utf8)
        case .authOK: plaintext = Array("OK".utf8)
        case .data: plaintext = [0x45] + [UInt8](repeating: 0, count: 19)
        default: plaintext = []
        }
        plaintext += input.bytes(Int(input.byte() & 63))
        header.length = UInt16(plaintext.count + Datagram.macSize)
        var datagram = [UInt8](repeating: 0, count: Datagram.overhead + plaintext.count)
        datagram.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            header.write(to: base)
            plaintext.withUnsafeBytes { plaintext in
                cipher.seal(
                    plaintext.baseAddress ?? UnsafeRawPointer(base), count: plaintext.count,
                    to: base + DatagramHeader.size, flowID: header.flowID, sequence: header.sequence)
            }
        }
        take(datagram, from: Self.address(input.byte() & 3))
    }

    /// As the engine does it.
    private mutating func take(_ datagram: [UInt8], from source: SocketAddress) {
        var datagram = datagram
        let count = datagram.count
        datagram.withUnsafeMutableBytes { bytes in
            guard let (header, type) = try? Datagram.parse(UnsafeRawBufferPointer(bytes)),
                let base = bytes.baseAddress
            else { return }
            let body = base + DatagramHeader.size
            let bodyCount = count - DatagramHeader.size
            if type == .data, isCleartext {
                let before = session.peer
                let reception = session.receiveCleartext(
                    UnsafeRawBufferPointer(start: body, count: bodyCount), from: source)
                check(reception != .data || source == before, "cleartext from elsewhere than the peer")
                check(session.peer == before, "cleartext moved the peer's address")
                return
            }
            guard session.isWorthOpening(header, type, now: now),
                cipher.open(body, count: bodyCount, flowID: header.flowID, sequence: header.sequence)
            else { return }
            let plaintext = UnsafeRawBufferPointer(
                start: body + Datagram.macSize, count: bodyCount - Datagram.macSize)
            let reception = session.receive(header, type, body: plaintext, from: source, now: now) { $0 == 7 }
            if reception == .data {
                check(session.isUp, "data delivered while down")
                check(header.flowID != 7, "our own datagram delivered")
                let isNew = delivered.insert([UInt64(header.flowID), header.sequence]).inserted
                // A flow that was forgotten, after 16 others, may be replayed.
                check(isNew || header.flowID >= 16 || session.flows.current < 0 || hasForgotten, "delivered twice")
            }
            if header.flowID >= 16 { hasForgotten = true }
            if reception == .control, type == .keepalive { takeTrain(plaintext) }
        }
    }

    private mutating func takeTrain(_ body: UnsafeRawBufferPointer) {
        if let place = TrainPlace(body: body) { _ = trains.note(place, now: now) }
        if let result = TrainResult(body: body) { _ = bond.take(result, link: 0, now: now) }
    }

    private var hasForgotten = false

    private mutating func sendData(_ count: Int) {
        guard session.isUp else { return }
        let header = session.nextHeader(
            .data, bodyLength: count + Datagram.macSize, reorder: true, dataSequence: 0, stamp: 0, now: now)
        noteSent(header)
        health.sent(now: now)
        _ = bond.pick(count)
    }

    private mutating func noteSent(_ header: DatagramHeader) {
        check(header.flowID == 7 && sent.insert(header.sequence).inserted, "a nonce is used twice")
    }

    private mutating func turn() {
        if session.deadline <= now || session.reportDeadline <= now { session.tick(now: now) }
        var controls = 0
        while let control = session.nextControl(now: now) {
            controls += 1
            check(controls < 8, "control messages without end")
            if control.carriesReport { _ = session.meter.takeReport(now: now) }
            noteSent(
                session.nextHeader(
                    control.type, bodyLength: Datagram.macSize, reorder: false, dataSequence: 0, stamp: 0, now: now))
        }
        bond.observe(
            0,
            .init(
                roundTrip: session.roundTrip.hasSample ? session.roundTrip.minimum : nil,
                incomingLossPermille: Double(session.loss.permille),
                reports: session.capabilities.contains(.receiverReports), takesCopies: true, answersTrains: true))
        if let sample = session.takeRoundTrip() { bond.note(roundTrip: sample, link: 0, now: now) }
        if let report = session.takeReport() { bond.take(report, link: 0, now: now) }
        // The second link never carries anything: with one alone there are no trains.
        _ = bond.choose(among: 3, now: now)
        _ = bond.choose(among: 1, now: now)
        bond.begin(now: now)
        if bond.areTrainsDue(now: now), let train = bond.nextTrain(link: 0, size: 1400, now: now) {
            check((4...64).contains(train.count), "a train of \(train.count)")
        }
        check((0...10).contains(bond.nextPings(link: 0, now: now)), "many at once")
        check(bond.trainDeadline > now, "a train that waits for nothing")
        check(bond.deadline(now: now) >= now, "an opening in the past")
        let capacity = bond.capacity(of: 0)
        check(capacity >= 0 && capacity.isFinite, "capacity \(capacity)")
        check((0...1000).contains(bond.lossPermille(of: 0)), "loss \(bond.lossPermille(of: 0))")
        check(bond.pacedRate >= 0, "rate \(bond.pacedRate)")
        _ = health.check(lastEcho: session.lastEcho, now: now)
        _ = health.takeProbe(now: now)
        check((0...1000).contains(session.loss.permille), "loss \(session.loss.permille)")
        check(session.roundTrip.smoothed >= 0, "round trip \(session.roundTrip.smoothed)")
    }

    /// However it went, time alone brings a server's link down.
    mutating func checkAtEnd() {
        for _ in 0..<2 {
            now += session.settings.timeout + second
            session.tick(now: now)
        }
        check(!session.isUp, "up without a peer")
    }
}
