import BenchmarkKit
import Foundation
import StockClients
import TunnelTestKit

/// A daemon with tunnels that carry numbered streams in both directions, and others that carry none; and their customers.
///
/// The first `real` customers run this project's `mlvpn -c`; the others are simulated and speak the stock protocol.
final class Stage {
    let shape: Shape
    let rig: NetworkRig
    let site: Site
    let daemon: Daemon
    let api: APIConnection
    private let directory: String
    private var ends: [RunningProcess] = []
    private var drops: [String: Int] = [:]

    struct Shape {
        var tunnels: Int
        var others = 0
        var real = 0
        var rate = 200
        var size = 100
    }

    /// Defines the tunnels and waits until all their links are up.
    init(_ shape: Shape, programs: String, rig: NetworkRig) throws {
        self.shape = shape
        self.rig = rig
        directory = programs
        site = try Site(in: rig, name: "operation", links: Plan.links)
        daemon = try Daemon(in: rig, site.server, programs: programs, name: "server")
        api = APIConnection("\(daemon.runDirectory)/control.sock")
        for tunnel in 0..<shape.tunnels + shape.others { try add(tunnel) }
        try startEnds()
        for tunnel in 0..<shape.real { try startClient(tunnel) }
        try waitUntil("all links to be up", within: .seconds(60)) { () throws(RigError) -> Bool in
            guard let simulated = ends.last,
                linksUp(simulated) == (shape.tunnels + shape.others - shape.real) * Plan.links
            else { return false }
            for tunnel in 0..<shape.real where try !isUp(tunnel) { return false }
            return true
        }
    }

    func add(_ tunnel: Int) throws(RigError) {
        let links = (1...Plan.links).map {
            "\"link\($0),bind=\(Site.serverWire($0)):\(Plan.port(tunnel, link: $0))\""
        }.joined(separator: ",")
        try api.send(
            "POST", "/v1/tunnels",
            """
            {"name":"\(Plan.name(tunnel))","interface":"op\(tunnel)","password":"\(Plan.password(tunnel))",\
            "ip4":"\(Plan.text(Plan.server(tunnel)))/30","timeout":30,"links":[\(links)]}
            """)
    }

    private func startEnds() throws {
        let program = try BuiltProgram.path("operation")
        let flow = ["--rate", "\(shape.rate)", "--size", "\(shape.size)"]
        func start(_ words: [String], in namespace: NetworkNamespace) throws {
            let end = try rig.start([program] + words + flow, in: namespace, withInput: true)
            try waitUntil("an end of the streams", within: .seconds(30)) { () throws(RigError) -> Bool in
                if let status = end.exitStatus {
                    throw .commandFailed(command: words.joined(separator: " "), status: status, output: end.output)
                }
                return end.output.hasPrefix("ready")
            }
            ends.append(end)
        }
        try start(["ends", "--first", "0", "--end", "\(shape.tunnels)"], in: site.server)
        if shape.real > 0 {
            try start(["ends", "--first", "0", "--end", "\(shape.real)", "--customers"], in: site.client)
        }
        try start(
            [
                "customers", "--first", "\(shape.real)", "--end", "\(shape.tunnels)", "--others", "\(shape.others)",
            ], in: site.client)
    }

    /// `mlvpn -c` at a tunnel's customer.
    @discardableResult
    func startClient(_ tunnel: Int, links: Int = Plan.links) throws -> RunningProcess {
        var text = """
            [general]
            mode = "client"
            interface_name = "client\(tunnel)"
            password = "\(Plan.password(tunnel))"
            ip4 = "\(Plan.text(Plan.customer(tunnel)))/30"
            timeout = 30

            """
        for link in 1...links {
            text += """
                [link\(link)]
                bindhost = "\(Site.clientWire(link))"
                remotehost = "\(Site.serverWire(link))"
                remoteport = \(Plan.port(tunnel, link: link))

                """
        }
        let file = try rig.file("client\(tunnel).conf", text)
        return try rig.start(
            ["\(directory)/mlvpn", "--debug", "-n", Plan.name(tunnel), "-c", file, "-u", "mlvpn"], in: site.client)
    }

    private func linksUp(_ clients: RunningProcess) -> Int {
        let lines = clients.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
        return lines.last.flatMap { Int($0.dropFirst(3)) } ?? 0
    }

    private func isUp(_ tunnel: Int) throws(RigError) -> Bool {
        let text = String(decoding: try api.send("GET", "/v1/status?tunnel=\(Plan.name(tunnel))"), as: UTF8.self)
        return text.split(separator: "\"state\":\"up\"", omittingEmptySubsequences: false).count == Plan.links + 2
    }

    // MARK: Streams

    /// Lets the streams run while `body` does what it does, and a second before and after.
    func whileStreaming(_ body: () throws -> Void) throws -> StreamResult {
        drops = kernelDrops()
        for end in ends { try end.send(line: "go") }
        usleep(1_000_000)
        let start = StockClients.now()
        try body()
        let seconds = Double(StockClients.now() - start) / 1e9
        usleep(1_000_000)
        for end in ends { try end.send(line: "stop") }
        usleep(1_000_000)
        let reports = try ends.map(report)
        var after = kernelDrops()
        for (name, count) in drops { after[name, default: 0] -= count }
        return StreamResult(
            server: reports[0], customers: Array(reports.dropFirst()), seconds: seconds,
            kernelDrops: after.filter { $0.value != 0 })
    }

    private func report(_ end: RunningProcess) throws -> StreamReport {
        try end.send(line: "report")
        let line = try poll("a report", within: .seconds(30), every: .milliseconds(50)) {
            () throws(RigError) -> Substring? in
            let lines = end.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
            return lines.last { $0.hasPrefix("report ") }
        }
        return try JSONDecoder().decode(StreamReport.self, from: Data(line.dropFirst("report ".count).utf8))
    }

    /// What the kernel threw away: at sockets and at the devices and queues of both ends.
    private func kernelDrops() -> [String: Int] {
        var found: [String: Int] = [:]
        for (name, namespace) in [("server", site.server), ("customers", site.client)] {
            let text = (try? rig.run(["cat", "/proc/net/snmp", "/proc/net/dev"], in: namespace)) ?? ""
            let lines = text.split(separator: "\n")
            let udp = lines.filter { $0.hasPrefix("Udp:") }.map { $0.split(separator: " ") }
            if udp.count == 2 {
                for (field, value) in zip(udp[0], udp[1]) where ["RcvbufErrors", "SndbufErrors"].contains(field) {
                    found["\(name): UDP \(field)"] = Int(value)
                }
            }
            for line in lines {
                // Name: eight counters of what came in, the fourth the drops, and eight of what went out.
                let fields = line.split(whereSeparator: { $0 == " " || $0 == ":" })
                guard line.contains(":"), fields.count == 17, let device = fields.first,
                    device.hasPrefix("op") || device.hasPrefix("client") || device.hasPrefix("wire")
                else { continue }
                found["\(name): \(device) rx dropped"] = Int(fields[4])
                found["\(name): \(device) tx dropped"] = Int(fields[12])
            }
        }
        return found
    }
}

/// What became of the streams.
struct StreamResult {
    var server: StreamReport
    var customers: [StreamReport]
    var seconds: Double
    /// Of the machine's kernel, by place.
    var kernelDrops: [String: Int]

    struct Loss {
        var tunnel: Int
        var isUpward: Bool
        var missing: Int
        /// When the first of them was sent, if it is known.
        var at: Int64?
    }

    private var all: [StreamReport] { [server] + customers }
    private var streams: [StreamReport.Stream] { all.flatMap(\.streams) }

    var sent: Int { streams.reduce(0) { $0 + $1.sent } }
    var duplicates: Int { streams.reduce(0) { $0 + $1.duplicates } }
    var overtaken: Int { streams.reduce(0) { $0 + $1.overtaken } }
    var unsent: Int { all.reduce(0) { $0 + $1.unsent } }
    var lost: Int { losses.reduce(0) { $0 + $1.missing } }
    /// Milliseconds.
    var worstLateness: Double { Double(all.map(\.worstLateness).max() ?? 0) / 1e6 }

    var losses: [Loss] {
        var found: [Loss] = []
        for customer in customers {
            for stream in customer.streams {
                guard let other = server.streams.first(where: { $0.tunnel == stream.tunnel }) else { continue }
                for (sender, sent, receiver, isUpward) in [
                    (customer, stream, other, true), (server, other, stream, false),
                ] where sent.sent != receiver.received {
                    let first = receiver.missing.first ?? receiver.highest + 1
                    found.append(
                        Loss(
                            tunnel: stream.tunnel, isUpward: isUpward, missing: sent.sent - receiver.received,
                            at: sender.began + sender.interval * Int64(first)))
                }
            }
        }
        return found
    }

    /// Milliseconds that the given part of all packets took at most.
    func delay(_ part: Double) -> Double {
        var counts: [Int: Int] = [:]
        for pair in all.flatMap(\.delays) where pair.count == 2 { counts[pair[0], default: 0] += pair[1] }
        let rank = part * Double(counts.values.reduce(0, +))
        var seen = 0
        for (tenths, count) in counts.sorted(by: { $0.key < $1.key }) {
            seen += count
            if Double(seen) >= rank { return Double(tenths + 1) / 10 }
        }
        return 0
    }

    /// The row of a table.
    static let header = [
        "packets", "lost", "unsent", "twice", "overtaken", "p50 ms", "p99.9 ms", "most ms", "generator late ms",
    ]

    var row: [String] {
        [
            "\(sent)", "\(lost)", "\(unsent)", "\(duplicates)", "\(overtaken)", delay(0.5).text(1),
            delay(0.999).text(1), delay(1).text(1), worstLateness.text(1),
        ]
    }

    var dropNotes: [String] {
        kernelDrops.isEmpty
            ? ["dropped by the kernel, at sockets and devices: nothing"]
            : kernelDrops.sorted { $0.key < $1.key }.map { "dropped by the kernel: \($0.key): \($0.value)" }
    }
}
