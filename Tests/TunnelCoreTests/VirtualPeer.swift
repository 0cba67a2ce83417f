import Testing
import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

/// A session with what the engine does around it: parsing, sealing, opening, and sending what is owed.
final class VirtualPeer: VirtualEnd {
    enum Outcome: Equatable {
        case malformed
        case notOpened
        case forged
        case taken(LinkSession.Reception)
    }

    struct Number: Hashable {
        var flow: UInt32
        var sequence: UInt64
    }

    var address: SocketAddress
    var session: LinkSession
    let cipher: SessionCipher
    /// Announces receiver reports, as our own peers do.
    var announces = false
    private(set) var outcomes: [Outcome] = []
    private(set) var received: [[UInt8]] = []
    /// Every (flow_id, seq) sent; a nonce, so none may come twice.
    private(set) var numbers: Set<Number> = []
    /// Moments at which control messages were sent.
    private(set) var controls: [(type: DatagramType, time: Int64, to: SocketAddress)] = []
    private var dataSequence: UInt64 = 0

    static let password = Array("correct horse battery staple".utf8)

    init(
        _ number: UInt32, isServer: Bool, flowID: UInt32? = nil, sequence: UInt64 = 1_700_000_000_000_000,
        isTAP: Bool = false, isCleartext: Bool = false, timeout: Int = 10, lossTolerance: Int = 100,
        latencyTolerance: Int = 1000, now: Int64
    ) {
        _ = SessionCipher.start()
        cipher = SessionCipher(password: Self.password)
        address = .host(number)
        session = LinkSession(
            settings: LinkSession.Settings(
                isServer: isServer, isTAP: isTAP, isCleartext: isCleartext, timeoutSeconds: timeout,
                lossTolerance: lossTolerance, latencyTolerance: latencyTolerance),
            flowID: flowID ?? 0x1000 * number, sequence: sequence, now: now)
    }

    var isUp: Bool { session.isUp }
    var deadline: Int64 { min(session.deadline, session.reportDeadline) }
    func count(_ type: DatagramType) -> Int { controls.count { $0.type == type } }

    func rest(_ isResting: Bool) -> Bool { session.rest(isResting) }
    func takeRest() -> Bool { session.takeRest() }

    func tick(_ now: Int64) -> [Flight] {
        session.tick(now: now)
        #expect(session.deadline > now, "a session that wants a tick at once, for ever")
        #expect(session.reportDeadline > now)
        return owed(now)
    }

    func take(_ bytes: [UInt8], from: SocketAddress, _ now: Int64) -> [Flight] {
        outcomes.append(open(bytes, from: from, now))
        return owed(now)
    }

    func disconnect(_ now: Int64) -> [Flight] {
        session.disconnect(.shutdown, now: now)
        return owed(now)
    }

    /// A DATA datagram with this inner packet.
    func data(_ packet: [UInt8], _ now: Int64) -> [Flight] {
        defer { dataSequence += 1 }
        return [flight(.data, packet, to: session.peer, now)]
    }

    /// Any datagram of this end's, taking a number.
    func flight(_ type: DatagramType, _ plaintext: [UInt8], to: SocketAddress, _ now: Int64) -> Flight {
        let isClear = type == .data && session.settings.isCleartext
        let header = session.nextHeader(
            type, bodyLength: plaintext.count + (isClear ? 0 : 16), reorder: type == .data,
            dataSequence: type == .data ? dataSequence : 0,
            stamp: Moment(nanoseconds: now, wallMilliseconds: 0).wireTimestamp, now: now)
        let isNew = numbers.insert(Number(flow: header.flowID, sequence: header.sequence)).inserted
        #expect(isNew, "a nonce is used twice")
        #expect(header.timestamp != 0xffff)
        let bytes = encode(header, plaintext, cipher: isClear ? nil : cipher)
        return Flight(time: now, bytes: bytes, from: address, to: to)
    }

    private func owed(_ now: Int64) -> [Flight] {
        var flights: [Flight] = []
        while let control = session.nextControl(now: now) {
            controls.append((type: control.type, time: now, to: control.destination))
            flights.append(flight(control.type, body(of: control, now), to: control.destination, now))
            guard flights.count < 10 else {
                Issue.record("a session owes without end")
                break
            }
        }
        return flights
    }

    private func body(of control: LinkSession.Control, _ now: Int64) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = bytes.withUnsafeMutableBytes { out -> Int in
            switch control.type {
            case .auth, .authOK:
                out.storeBytes(of: control.type == .auth ? ControlBody.auth : ControlBody.authOK, as: UInt16.self)
                guard announces else { return 2 }
                Capabilities.receiverReports.write(to: out.baseAddress! + 2)
                return 2 + Capabilities.encodedSize
            case .keepalive:
                var count = 0
                if control.carriesReport {
                    session.meter.takeReport(now: now).write(to: out.baseAddress!)
                    count += ReceiverReport.encodedSize
                }
                if control.carriesRest {
                    RestNotice.write(to: out.baseAddress! + count)
                    count += RestNotice.encodedSize
                }
                return count
            case .disconnect, .data: return 0
            }
        }
        return Array(bytes.prefix(count))
    }

    private func open(_ bytes: [UInt8], from: SocketAddress, _ now: Int64) -> Outcome {
        var bytes = bytes
        return bytes.withUnsafeMutableBytes { all -> Outcome in
            guard let parsed = try? Datagram.parse(UnsafeRawBufferPointer(all)) else { return .malformed }
            let (header, type) = parsed
            let body = UnsafeMutableRawBufferPointer(rebasing: all.dropFirst(DatagramHeader.size))
            if type == .data, session.settings.isCleartext {
                let reception = session.receiveCleartext(UnsafeRawBufferPointer(body), from: from)
                if reception == .data { received.append(Array(body)) }
                return .taken(reception)
            }
            guard session.isWorthOpening(header, type, now: now) else { return .notOpened }
            let isOpened = cipher.open(
                body.baseAddress!, count: body.count, flowID: header.flowID, sequence: header.sequence)
            guard isOpened else { return .forged }
            let plaintext = UnsafeRawBufferPointer(rebasing: body.dropFirst(Datagram.macSize))
            let own = session.flowID
            let reception = session.receive(
                header, type, body: plaintext, from: from, now: now, isOwnFlow: { $0 == own })
            if reception == .data { received.append(Array(plaintext)) }
            return .taken(reception)
        }
    }
}

/// Header and body; the body is plain without a cipher.
func encode(_ header: DatagramHeader, _ plaintext: [UInt8], cipher: SessionCipher?) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: DatagramHeader.size + (cipher == nil ? 0 : 16)) + plaintext
    bytes.withUnsafeMutableBytes { out in
        let body = out.baseAddress! + DatagramHeader.size
        header.write(to: out.baseAddress!)
        cipher?.seal(
            body + 16, count: plaintext.count, to: body, flowID: header.flowID, sequence: header.sequence)
    }
    return bytes
}

/// An IPv4 packet of 20 bytes and a tail that tells it from others.
func innerPacket(_ tail: [UInt8] = []) -> [UInt8] {
    [0x45, 0, 0, UInt8(20 + tail.count)] + [UInt8](repeating: 7, count: 16) + tail
}
