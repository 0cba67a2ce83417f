import ArgumentParser
import Glibc
import StockClients

/// The end of numbered streams at which the kernel has the tunnels' devices.
struct Ends: ParsableCommand {
    static let configuration = CommandConfiguration(shouldDisplay: false)

    @Option(help: "From this tunnel on.") var first: Int
    @Option(help: "To before this one.") var end: Int
    @Option var rate: Int
    @Option var size: Int
    @Flag(help: "The customers' end.") var customers = false

    func run() throws {
        var streams = Streams(Array(first..<end), rate: rate, size: size)
        let descriptor = try openSocket()
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 2048, alignment: 8)
        say("ready")
        while true {
            var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            // What is due within the same millisecond is sent together.
            poll(&wait, 1, 1)
            let now = StockClients.now()
            while case let count = recv(descriptor, buffer.baseAddress, buffer.count, 0), count > 0 {
                streams.receive(UnsafeRawBufferPointer(rebasing: buffer[..<count]), now)
            }
            streams.send(StockClients.now()) { tunnel, payload in
                send(payload, to: customers ? Plan.server(tunnel) : Plan.customer(tunnel), descriptor)
            }
            switch word() {
            case "go": streams.start(StockClients.now())
            case "stop": streams.stop()
            case "report": say(try streams.report.line)
            case "end": return
            default: break
            }
        }
    }

    private func openSocket() throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        var bytes: Int32 = 16 << 20
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, 4)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, 4)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = Plan.streamPort.bigEndian
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else { throw ValidationError("no socket: \(String(cString: strerror(errno)))") }
        return descriptor
    }

    private func send(_ payload: UnsafeRawBufferPointer, to host: UInt32, _ descriptor: Int32) -> Bool {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = Plan.streamPort.bigEndian
        address.sin_addr.s_addr = host.bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                sendto(
                    descriptor, payload.baseAddress, payload.count, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        } == payload.count
    }
}

/// Customers of the stock protocol, with a numbered stream through each of the first tunnels; the others are only there.
struct Customers: ParsableCommand {
    static let configuration = CommandConfiguration(shouldDisplay: false)

    @Option(help: "From this tunnel on.") var first: Int
    @Option(help: "Streams to before this one.") var end: Int
    @Option(help: "Tunnels without a stream.") var others: Int
    @Option var rate: Int
    @Option var size: Int

    func run() throws {
        guard var clients = StockClients((first..<end + others).map(Plan.client), links: Plan.links) else {
            throw ValidationError("no clients: \(String(cString: strerror(errno)))")
        }
        var streams = Streams(Array(first..<end), rate: rate, size: size)
        let packet = UnsafeMutableRawBufferPointer.allocate(byteCount: InnerPacket.udpPayload + size, alignment: 8)
        var lastReport = StockClients.now()
        say("ready")
        while true {
            clients.turn(wait: 1) { _, packet in
                if let payload = InnerPacket.udpPayload(packet) { streams.receive(payload, StockClients.now()) }
            }
            let now = StockClients.now()
            streams.send(now) { tunnel, payload in
                UnsafeMutableRawBufferPointer(rebasing: packet[InnerPacket.udpPayload...]).copyMemory(from: payload)
                InnerPacket.makeUDP(
                    packet, from: Plan.customer(tunnel), to: Plan.server(tunnel), port: Plan.streamPort)
                return clients.send(UnsafeRawBufferPointer(packet), through: tunnel - first)
            }
            switch word() {
            case "go": streams.start(StockClients.now())
            case "stop": streams.stop()
            case "report": say(try streams.report.line)
            case "end": return
            default: break
            }
            if now - lastReport >= 100_000_000, !streams.isSending {
                lastReport = now
                say("up \(clients.linksUp)")
            }
        }
    }
}
