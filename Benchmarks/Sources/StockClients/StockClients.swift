import Glibc
import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

/// Many clients of the stock protocol in one process, without devices: what a concentrator's customers look like from
/// the network.
///
/// All share one socket for each wire: the server's port says whose a datagram is. Link n of every tunnel goes to
/// 10.71.n.1. Each tunnel has as many links, and sends keepalives, or tries to connect, once a second.
public struct StockClients {
    public struct Tunnel {
        public var password: String
        /// Of the server, link by link.
        public var ports: [Int]

        public init(password: String, ports: [Int]) {
            self.password = password
            self.ports = ports
        }
    }

    private let links: Int
    private var sockets: [Int32] = []
    private var ciphers: [SessionCipher] = []
    /// Tunnel by tunnel, all its links.
    private var sessions: [LinkSession] = []
    private var deadlines: [Int64] = []
    private var dataSequences: [UInt64]
    /// When each session last asked to be let in.
    public private(set) var authTimes: [Int64]
    /// Of all tunnels.
    public private(set) var linksUp = 0
    /// Wire by wire: the session of each of the server's ports.
    private var owners: [[UInt16: Int]]
    private let buffer = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 64)

    /// - Returns: nil if sockets or the cipher cannot be had; errno says why.
    public init?(_ tunnels: [Tunnel], links: Int) {
        guard SessionCipher.start() else { return nil }
        self.links = links
        dataSequences = Array(repeating: 0, count: tunnels.count)
        authTimes = Array(repeating: 0, count: tunnels.count * links)
        owners = Array(repeating: [:], count: links)
        let now = Self.now()
        for _ in 0..<links {
            let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
            guard descriptor >= 0 else { return nil }
            var bytes: Int32 = 8 << 20
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, 4)
            setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, 4)
            sockets.append(descriptor)
        }
        for tunnel in tunnels {
            ciphers.append(SessionCipher(password: Array(tunnel.password.utf8)))
            for (link, port) in tunnel.ports.enumerated() {
                var session = LinkSession(
                    settings: LinkSession.Settings(
                        isServer: false, isTAP: false, timeoutSeconds: 30, lossTolerance: 100, latencyTolerance: 1000),
                    flowID: UInt32.random(in: 1 ... .max), sequence: UInt64(now / 1000), now: now)
                session.configure(peer: SocketAddress(.v4(Self.wire(link)), port: UInt16(port)))
                owners[link][UInt16(port)] = sessions.count
                sessions.append(session)
                // Spread over a second, as customers are.
                deadlines.append(now + Int64(sessions.count) * 1_000_000_000 / Int64(tunnels.count * links))
            }
        }
    }

    /// The server's address on a wire, from 0.
    private static func wire(_ link: Int) -> UInt32 { 0x0a47_0001 + UInt32(link + 1) << 8 }

    /// Nanoseconds, the same in all processes of a machine.
    public static func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    public func isUp(_ tunnel: Int) -> Bool {
        sessions[tunnel * links..<(tunnel + 1) * links].contains(where: \.isUp)
    }

    /// Does what is due, after waiting at most so many milliseconds for datagrams.
    ///
    /// - Parameter received: a packet that came out of a tunnel.
    public mutating func turn(
        wait milliseconds: Int32, _ received: (_ tunnel: Int, _ packet: UnsafeRawBufferPointer) -> Void
    ) {
        var waits = sockets.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        poll(&waits, nfds_t(waits.count), milliseconds)
        var now = Self.now()
        for link in 0..<links where waits[link].revents != 0 { receive(link, now, received) }
        now = Self.now()
        for index in deadlines.indices where deadlines[index] <= now {
            sessions[index].tick(now: now)
            settle(index, now)
        }
    }

    /// Sends a packet through a tunnel, over those of its links that are up in turn; false if none is.
    public mutating func send(_ packet: UnsafeRawBufferPointer, through tunnel: Int) -> Bool {
        let turn = Int(dataSequences[tunnel] % UInt64(links))
        let step = (0..<links).first { sessions[tunnel * links + (turn + $0) % links].isUp }
        guard let step else { return false }
        let index = tunnel * links + (turn + step) % links
        send(index, .data, packet, dataSequence: dataSequences[tunnel], Self.now())
        dataSequences[tunnel] &+= 1
        return true
    }

    /// Sends what a session owes.
    private mutating func settle(_ index: Int, _ now: Int64) {
        while let control = sessions[index].nextControl(now: now) {
            var body: [UInt8] = []
            if control.type == .auth {
                body = [0x41, 0x55]
                authTimes[index] = now
            }
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
        ciphers[index / links].seal(
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
                _ = sendto(sockets[index % links], buffer, count, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    private mutating func receive(
        _ link: Int, _ now: Int64, _ received: (_ tunnel: Int, _ packet: UnsafeRawBufferPointer) -> Void
    ) {
        for _ in 0..<1000 {
            var address = sockaddr_in()
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let count = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    recvfrom(sockets[link], buffer, 4096, 0, $0, &length)
                }
            }
            guard count >= 0 else { return }
            let port = UInt16(bigEndian: address.sin_port)
            guard let index = owners[link][port] else { continue }
            let source = SocketAddress(.v4(UInt32(bigEndian: address.sin_addr.s_addr)), port: port)
            take(index, count, from: source, now, received)
        }
    }

    private mutating func take(
        _ index: Int, _ count: Int, from source: SocketAddress, _ now: Int64,
        _ received: (_ tunnel: Int, _ packet: UnsafeRawBufferPointer) -> Void
    ) {
        let wasUp = sessions[index].isUp
        guard let (header, type) = try? Datagram.parse(UnsafeRawBufferPointer(start: buffer, count: count)),
            sessions[index].isWorthOpening(header, type, now: now),
            ciphers[index / links].open(
                buffer + DatagramHeader.size, count: count - DatagramHeader.size, flowID: header.flowID,
                sequence: header.sequence)
        else { return }
        let body = UnsafeRawBufferPointer(start: buffer + Datagram.overhead, count: count - Datagram.overhead)
        let reception = sessions[index].receive(
            header, type, body: body, from: source, now: now, isOwnFlow: { _ in false })
        if reception == .data { received(index / links, body) }
        settle(index, now)
        if sessions[index].isUp != wasUp { linksUp += wasUp ? -1 : 1 }
    }
}
