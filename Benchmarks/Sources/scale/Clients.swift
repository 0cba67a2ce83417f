import ArgumentParser
import Glibc
import StockClients
import TunnelModel

/// The clients of the scale benchmark: two links each and a password of its own, and, if told to, ICMP echo requests that
/// the other end's kernel answers.
struct Clients: ParsableCommand {
    static let configuration = CommandConfiguration(shouldDisplay: false)

    @Option var tunnels: Int
    @Option var rate = 0
    @Option var size = 1000
    /// Say how long the answers took.
    @Flag var delays = false

    func run() throws {
        let plan = (0..<tunnels).map { number in
            StockClients.Tunnel(
                password: Plan.password(number), ports: (1...2).map { Plan.port(tunnel: number, link: $0) })
        }
        guard let clients = StockClients(plan, links: 2) else {
            throw ValidationError("no clients: \(String(cString: strerror(errno)))")
        }
        var crowd = ClientCrowd(clients: clients, tunnels: tunnels, rate: rate, size: size, tellsDelays: delays)
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
    private var clients: StockClients
    private let tunnels: Int
    private let size: Int
    /// Between two requests of a tunnel, nanoseconds; 0: none are sent.
    private let interval: Int64
    private var sendTimes: [Int64]
    private var numbers: [UInt16]
    private var sent = 0
    private var answered = 0
    private let tellsDelays: Bool

    init(clients: StockClients, tunnels: Int, rate: Int, size: Int, tellsDelays: Bool) {
        self.tellsDelays = tellsDelays
        self.clients = clients
        self.tunnels = tunnels
        self.size = size
        interval = rate > 0 ? 1_000_000_000 / Int64(rate) : 0
        sendTimes = Array(repeating: .max, count: tunnels)
        numbers = Array(repeating: 0, count: tunnels)
    }

    mutating func run() {
        var lastReport = StockClients.now()
        // Microseconds, since the last report.
        var delays: [Int64] = []
        while true {
            // What is due within the same 5 ms is done together.
            var answers = 0
            clients.turn(wait: 5) { _, packet in
                guard InnerPacket.isEchoReply(packet) else { return }
                answers += 1
                if tellsDelays { delays.append((StockClients.now() - InnerPacket.echoStamp(packet)) / 1000) }
            }
            answered += answers
            let now = StockClients.now()
            if interval > 0 { for tunnel in 0..<tunnels { request(tunnel, now) } }
            if now - lastReport >= 100_000_000 {
                lastReport = now
                if tellsDelays {
                    say("delays" + delays.map { " \($0)" }.joined())
                    delays.removeAll(keepingCapacity: true)
                }
                say("up \(clients.linksUp) sent \(sent) answered \(answered)")
            }
        }
    }

    /// An ICMP echo request to the server's inner address, when it is time.
    private mutating func request(_ tunnel: Int, _ now: Int64) {
        if sendTimes[tunnel] == .max {
            guard clients.isUp(tunnel) else { return }
            sendTimes[tunnel] = now + Int64.random(in: 0..<interval)
        }
        guard sendTimes[tunnel] <= now else { return }
        sendTimes[tunnel] += interval
        let isSent = withUnsafeTemporaryAllocation(byteCount: size, alignment: 16) { packet in
            InnerPacket.makeEcho(
                packet, from: Plan.inner(tunnel) + 2, to: Plan.inner(tunnel) + 1,
                id: UInt16(truncatingIfNeeded: tunnel), sequence: numbers[tunnel],
                stamp: StockClients.now())
            return clients.send(UnsafeRawBufferPointer(packet), through: tunnel)
        }
        guard isSent else { return }
        numbers[tunnel] &+= 1
        sent += 1
    }
}

/// At once, whatever standard output is.
private func say(_ text: String) {
    let bytes = Array("\(text)\n".utf8)
    var rest = bytes[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
        guard count > 0 else { return }
        rest = rest.dropFirst(count)
    }
}
