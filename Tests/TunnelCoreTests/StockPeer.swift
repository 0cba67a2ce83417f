import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

/// The reference implementation's session as wire-v1.md has it: it believes whatever decodes.
final class StockPeer: VirtualEnd {
    enum State { case down, authSent, up }

    var address: SocketAddress
    var peer: SocketAddress
    let isServer: Bool
    private(set) var state = State.down
    /// How often it went up.
    private(set) var handshakes = 0
    private let cipher = SessionCipher(password: VirtualPeer.password)
    private let flowID: UInt32
    private var sequence: UInt64 = 0
    private var nextTick: Int64
    private var lastKeepalive: Int64 = 0
    private var lastAnswer: Int64 = 0
    private var nextKeepalive: Int64 = 0
    /// An answer to a KEEPALIVE, which waits for the next tick.
    private var owesAnswer = false
    private let timeout: Int64

    init(_ number: UInt32, isServer: Bool, peer: SocketAddress, flowID: UInt32, timeout: Int64, now: Int64) {
        address = .host(number)
        self.isServer = isServer
        self.peer = peer
        self.flowID = flowID
        self.timeout = timeout
        nextTick = now
    }

    var isUp: Bool { state == .up }
    var deadline: Int64 { nextTick }

    func tick(_ now: Int64) -> [Flight] {
        nextTick = now + second
        if state == .up, now - lastKeepalive >= timeout { state = .down }
        if state == .up {
            guard owesAnswer || now > nextKeepalive else { return [] }
            if !owesAnswer { nextKeepalive = now + second }
            owesAnswer = false
            return [send(.keepalive, [], now)]
        }
        guard !isServer else { return [] }
        state = .authSent
        return [send(.auth, Array("AU".utf8), now)]
    }

    func data(_ packet: [UInt8], _ now: Int64) -> [Flight] { [send(.data, packet, now)] }

    func take(_ bytes: [UInt8], from: SocketAddress, _ now: Int64) -> [Flight] {
        guard let type = open(bytes) else { return [] }
        peer = from
        switch type {
        case .auth, .authOK:
            if isServer {
                if state != .up { goUp(now) }
                return [send(.authOK, Array("OK".utf8), now)]
            }
            if state == .authSent { goUp(now) }
        case .keepalive:
            guard state == .up else { return [] }
            lastKeepalive = now
            guard now - lastAnswer > second else { return [] }
            lastAnswer = now
            nextKeepalive = now + second
            owesAnswer = true
        case .disconnect: if state == .up { state = .down }
        case .data: break
        }
        return []
    }

    /// What it says when it is told to end: the first of what waits.
    func end(_ now: Int64) -> DatagramType? { isUp ? owesAnswer ? .keepalive : .disconnect : nil }

    private func goUp(_ now: Int64) {
        state = .up
        handshakes += 1
        lastKeepalive = now
        lastAnswer = now
        nextKeepalive = now + second
        owesAnswer = false
    }

    private func open(_ bytes: [UInt8]) -> DatagramType? {
        var bytes = bytes
        return bytes.withUnsafeMutableBytes { all in
            guard let (header, type) = try? Datagram.parse(UnsafeRawBufferPointer(all)) else { return nil }
            let body = all.baseAddress! + DatagramHeader.size
            let isOpened = cipher.open(
                body, count: Int(header.length), flowID: header.flowID, sequence: header.sequence)
            return isOpened ? type : nil
        }
    }

    private func send(_ type: DatagramType, _ plaintext: [UInt8], _ now: Int64) -> Flight {
        let header = DatagramHeader(
            type: type, reorder: true, length: UInt16(plaintext.count + 16),
            timestamp: Moment(nanoseconds: now, wallMilliseconds: 0).wireTimestamp, timestampReply: 0xffff,
            flowID: flowID, sequence: sequence, dataSequence: 0)
        sequence += 1
        return Flight(time: now, bytes: encode(header, plaintext, cipher: cipher), from: address, to: peer)
    }
}
