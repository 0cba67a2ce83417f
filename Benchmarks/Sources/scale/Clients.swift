import ArgumentParser
import Glibc
import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

/// Many clients of the stock protocol in one process, without devices: what a concentrator's customers look like from
/// the network.
///
/// Each has two links and a password of its own, sends keepalives once a second, and, if told to, ICMP echo requests that
/// the other end's kernel answers. All share one socket for each wire: the server's port says which link a datagram is of.
struct Clients: ParsableCommand {
    static let configuration = CommandConfiguration(shouldDisplay: false)

    @Option var tunnels: Int
    @Option var rate = 0
    @Option var size = 1000

    func run() throws {
        guard SessionCipher.start() else { throw ValidationError("libsodium cannot be started.") }
        var crowd = try ClientCrowd(tunnels: tunnels, rate: rate, size: size)
        say("ready")
        crowd.run()
    }
}

/// Where the scale benchmark's tunnels lie.
enum Plan {
    static func port(tunnel: Int, link: Int) -> Int { 10_000 + tunnel * 2 + link }

    static func password(_ tunnel: Int) -> String { "tunnel \(tunnel)" }

    /// A network of four addresses for each tunnel; the server has the first, the client the second.
    static func inner(_ tunnel: Int) -> UInt32 { 0x0a50_0000 + UInt32(tunnel) * 4 }

    static func text(_ address: UInt32) -> String { IPAddress.v4(address).description }
}

private struct ClientCrowd {
    private let tunnels: Int
    private let size: Int
    /// Between two requests of a tunnel, nanoseconds; 0: none are sent.
    private let interval: Int64
    private var sockets: [Int32] = []
    private var ciphers: [SessionCipher] = []
    /// Tunnel by tunnel, two links each.
    private var sessions: [LinkSession] = []
    private var deadlines: [Int64] = []
    private var dataSequences: [UInt64]
    private var sendTimes: [Int64]
    private var upCount = 0
    private var sent = 0
    private var answered = 0
    private let buffer = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 64)

    init(tunnels: Int, rate: Int, size: Int) throws {
        self.tunnels = tunnels
        self.size = size
        interval = rate > 0 ? second / Int64(rate) : 0
        dataSequences = Array(repeating: 0, count: tunnels)
        sendTimes = Array(repeating: .max, count: tunnels)
        let now = Self.now()
        for _ in 1...2 {
            let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
            guard descriptor >= 0 else { throw ValidationError("no socket: \(String(cString: strerror(errno)))") }
            var bytes: Int32 = 8 << 20
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, 4)
            setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, 4)
            sockets.append(descriptor)
        }
        for tunnel in 0..<tunnels {
            ciphers.append(SessionCipher(password: Array(Plan.password(tunnel).utf8)))
            for link in 1...2 {
                var session = LinkSession(
                    settings: LinkSession.Settings(
                        isServer: false, isTAP: false, timeoutSeconds: 30, lossTolerance: 100, latencyTolerance: 1000),
                    flowID: UInt32.random(in: 1 ... .max), sequence: UInt64(now / 1000), now: now)
                session.configure(peer: Self.server(tunnel, link))
                sessions.append(session)
                // Spread over a second, as customers are.
                deadlines.append(now + Int64(sessions.count) * second / Int64(tunnels * 2))
            }
        }
    }

    private static func server(_ tunnel: Int, _ link: Int) -> SocketAddress {
        SocketAddress(.v4(0x0a47_0001 + UInt32(link) << 8), port: UInt16(Plan.port(tunnel: tunnel, link: link)))
    }

    private static func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * second + Int64(time.tv_nsec)
    }

    mutating func run() {
        var lastReport = Self.now()
        while true {
            var waits = sockets.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            // What is due within the same 5 ms is done together.
            Glibc.poll(&waits, nfds_t(waits.count), 5)
            var now = Self.now()
            for link in 1...2 where waits[link - 1].revents != 0 { receive(link, now) }
            now = Self.now()
            for index in deadlines.indices where deadlines[index] <= now {
                sessions[index].tick(now: now)
                settle(index, now)
            }
            if interval > 0 { for tunnel in 0..<tunnels where sendTimes[tunnel] <= now { request(tunnel, now) } }
            if now - lastReport >= 100 * millisecond {
                lastReport = now
                say("up \(upCount) sent \(sent) answered \(answered)")
            }
        }
    }

    /// Sends what a session owes, and notes whether it is up.
    private mutating func settle(_ index: Int, _ now: Int64) {
        while let control = sessions[index].nextControl(now: now) {
            var body: [UInt8] = []
            if control.type == .auth { body = [0x41, 0x55] }
            if control.type == .authOK { body = [0x4f, 0x4b] }
            body.withUnsafeBytes { send(index, control.type, $0, dataSequence: 0, now) }
        }
        deadlines[index] = sessions[index].deadline
    }

    private mutating func send(
        _ index: Int, _ type: DatagramType, _ plaintext: UnsafeRawBufferPointer, dataSequence: UInt64, _ now: Int64
    ) {
        let header = sessions[index].nextHeader(
            type, bodyLength: plaintext.count + Datagram.macSize, reorder: type == .data, dataSequence: dataSequence,
            stamp: Moment(nanoseconds: now, wallMilliseconds: 0).wireTimestamp, now: now)
        header.write(to: buffer)
        let source = plaintext.baseAddress ?? UnsafeRawPointer(buffer)
        ciphers[index / 2].seal(
            source, count: plaintext.count, to: buffer + DatagramHeader.size, flowID: header.flowID,
            sequence: header.sequence)
        let peer = sessions[index].peer
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(truncatingIfNeeded: peer.low).bigEndian
        address.sin_port = peer.port.bigEndian
        let count = plaintext.count + Datagram.overhead
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = sendto(sockets[index & 1], buffer, count, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    private mutating func receive(_ link: Int, _ now: Int64) {
        for _ in 0..<1000 {
            var address = sockaddr_in()
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let count = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    recvfrom(sockets[link - 1], buffer, 4096, 0, $0, &length)
                }
            }
            guard count >= 0 else { return }
            let port = UInt16(bigEndian: address.sin_port)
            let tunnel = (Int(port) - 10_000 - link) / 2
            guard tunnel >= 0, tunnel < tunnels, Plan.port(tunnel: tunnel, link: link) == Int(port) else { continue }
            take(tunnel * 2 + link - 1, count, from: Self.server(tunnel, link), now)
        }
    }

    private mutating func take(_ index: Int, _ count: Int, from source: SocketAddress, _ now: Int64) {
        let wasUp = sessions[index].isUp
        guard let (header, type) = try? Datagram.parse(UnsafeRawBufferPointer(start: buffer, count: count)),
            sessions[index].isWorthOpening(header, type, now: now),
            ciphers[index / 2].open(
                buffer + DatagramHeader.size, count: count - DatagramHeader.size, flowID: header.flowID,
                sequence: header.sequence)
        else { return }
        let body = UnsafeRawBufferPointer(start: buffer + Datagram.overhead, count: count - Datagram.overhead)
        let reception = sessions[index].receive(
            header, type, body: body, from: source, now: now, isOwnFlow: { _ in false })
        if reception == .data, body.count > 20, body[9] == 1, body[20] == 0 { answered += 1 }
        settle(index, now)
        if sessions[index].isUp != wasUp { upCount += wasUp ? -1 : 1 }
        if sessions[index].isUp, interval > 0, sendTimes[index / 2] == .max {
            sendTimes[index / 2] = now + Int64.random(in: 0..<interval)
        }
    }

    /// An ICMP echo request to the server's inner address, over the links in turn.
    private mutating func request(_ tunnel: Int, _ now: Int64) {
        sendTimes[tunnel] += interval
        let index = tunnel * 2 + Int(dataSequences[tunnel] & 1)
        guard sessions[index].isUp else { return }
        withUnsafeTemporaryAllocation(byteCount: size, alignment: 16) { packet in
            guard let base = packet.baseAddress else { return }
            memset(base, 0, size)
            func put16(_ value: UInt16, _ offset: Int) {
                base.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
            }
            put16(0x4500, 0)
            put16(UInt16(size), 2)
            put16(0x4001, 8)
            base.storeBytes(of: (Plan.inner(tunnel) + 2).bigEndian, toByteOffset: 12, as: UInt32.self)
            base.storeBytes(of: (Plan.inner(tunnel) + 1).bigEndian, toByteOffset: 16, as: UInt32.self)
            var sum = InternetChecksum()
            sum.add(base, count: 20)
            base.storeBytes(of: sum.complement, toByteOffset: 10, as: UInt16.self)
            put16(0x0800, 20)
            put16(UInt16(truncatingIfNeeded: tunnel), 24)
            put16(UInt16(truncatingIfNeeded: dataSequences[tunnel]), 26)
            sum = InternetChecksum()
            sum.add(base + 20, count: size - 20)
            base.storeBytes(of: sum.complement, toByteOffset: 22, as: UInt16.self)
            send(index, .data, UnsafeRawBufferPointer(packet), dataSequence: dataSequences[tunnel], now)
        }
        dataSequences[tunnel] &+= 1
        sent += 1
    }
}

/// At once, whatever standard output is.
private func say(_ text: String) {
    let bytes = Array("\(text)\n".utf8)
    _ = bytes.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
}
