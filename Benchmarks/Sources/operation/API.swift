import ArgumentParser
import BenchmarkKit
import Foundation
import StockClients
import Synchronization
import TunnelTestKit

struct API: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Requests to the API under traffic: no stream may lose a packet.",
        discussion: """
            So many requests a second, over a few connections that stay open, to a concentrator whose tunnels carry \
            numbered UDP packets in both directions: definitions and states of single tunnels, states of all, metrics, and \
            changes. Exit code 1 if a packet was lost, a request failed, or the rate was not reached.
            """)

    @OptionGroup var traffic: TrafficOptions

    @Option(help: "Requests per second.")
    var requests = 500

    @Option(help: "Connections that make them.")
    var connections = 4

    @Flag(help: "A new connection for each request, as mlvpn-admin makes them.")
    var fresh = false

    @Option(help: "Seconds.")
    var duration = 30

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...10_000).contains(requests) else { throw ValidationError("--requests is 1 to 10000.") }
        guard (1...128).contains(connections) else { throw ValidationError("--connections is 1 to 128.") }
        guard (1...3600).contains(duration) else { throw ValidationError("--duration is 1 to 3600.") }
    }

    func run() throws {
        interruptible()
        let directory = try traffic.directory()
        let (result, load, cost) = try NetworkRig.with { rig in
            let stage = try Stage(traffic.shape(others: 0), programs: directory, rig: rig)
            let load = APILoad(
                path: "\(stage.daemon.runDirectory)/control.sock", tunnels: traffic.tunnels, requests: requests,
                connections: connections, isFresh: fresh, seconds: duration)
            let before = ProcessCost(of: stage.site.server)
            let result = try stage.whileStreaming { load.run() }
            let after = ProcessCost(of: stage.site.server)
            stage.daemon.stop()
            func spent(_ program: String) -> Double {
                ((after.programs[program]?.cpuSeconds ?? 0) - (before.programs[program]?.cpuSeconds ?? 0))
                    / (result.seconds + 3) * 100
            }
            return (result, load, ["mlvpn-engine", "mlvpn-control"].map { ($0, spent($0)) })
        }
        let entries = load.entries
        let rate = Double(entries.count) / result.seconds
        var streams = TextTable(["tunnels", "requests/s"] + StreamResult.header)
        streams.add(["\(traffic.tunnels)", rate.text(0)] + result.row)
        var table = TextTable(["request", "number", "failed", "median ms", "p99", "most"])
        var groups = Dictionary(grouping: entries, by: \.kind).sorted { $0.key < $1.key }
        groups.append(("all", entries))
        var chart = BarChart(title: "API requests under traffic", unit: "ms", series: ["median", "p99", "most"])
        for (kind, all) in groups {
            let times = all.map(\.milliseconds).sorted()
            chart.groups.append(
                .init(kind, [median(times), times.isEmpty ? nil : times[times.count * 99 / 100], times.last]))
            table.add([
                kind, "\(all.count)", "\(all.count { !$0.isGood })", (median(times) ?? 0).text(2),
                (times.isEmpty ? 0 : times[times.count * 99 / 100]).text(2), (times.last ?? 0).text(1),
            ])
        }
        let failed = entries.count { !$0.isGood }
        try output.show(
            Presentation(
                tables: [streams, table],
                notes: ["CPU % of one core: " + cost.map { "\($0) \($1.text(1))" }.joined(separator: ", ")]
                    + result.dropNotes, chart: chart),
            report: APIReport(requestsPerSecond: rate, failed: failed, packets: result.sent, lost: result.lost))
        if result.lost != 0 || result.unsent != 0 || failed > 0 || rate < Double(requests) * 0.99 {
            throw ExitCode.failure
        }
    }
}

private struct APIReport: Encodable {
    var machine = Machine()
    var requestsPerSecond: Double
    var failed: Int
    var packets: Int
    var lost: Int
}

/// Makes requests at a rate, from threads of its own.
private final class APILoad: Sendable {
    struct Entry {
        var kind: String
        var milliseconds: Double
        var isGood: Bool
    }

    private let path: String
    private let tunnels: Int
    private let interval: Int64
    private let connections: Int
    private let isFresh: Bool
    private let count: Int
    private let collected = Mutex<[Entry]>([])

    init(path: String, tunnels: Int, requests: Int, connections: Int, isFresh: Bool, seconds: Int) {
        self.path = path
        self.tunnels = tunnels
        self.connections = connections
        self.isFresh = isFresh
        interval = 1_000_000_000 / Int64(requests)
        count = requests * seconds
    }

    var entries: [Entry] { collected.withLock { $0 } }

    func run() {
        let start = StockClients.now()
        let done = DispatchSemaphore(value: 0)
        for place in 0..<connections {
            Thread.detachNewThread { [self] in
                work(place, start)
                done.signal()
            }
        }
        for _ in 0..<connections { done.wait() }
    }

    private func work(_ place: Int, _ start: Int64) {
        let connection = APIConnection(path)
        var mine: [Entry] = []
        for number in stride(from: place, to: count, by: connections) {
            let wait = start + interval * Int64(number) - StockClients.now()
            if wait > 0 { usleep(UInt32(wait / 1000)) }
            let (kind, method, target, body) = request(number)
            let began = StockClients.now()
            let isGood = (try? connection.send(method, target, body)) != nil
            if isFresh { connection.close() }
            mine.append(
                Entry(kind: kind, milliseconds: Double(StockClients.now() - began) / 1e6, isGood: isGood))
        }
        collected.withLock { $0 += mine }
    }

    private func request(_ number: Int) -> (kind: String, method: String, target: String, body: String) {
        let name = Plan.name(number / 7 % tunnels)
        switch number % 100 {
        case 0: return ("GET metrics", "GET", "/metrics", "")
        case 10, 60: return ("GET status", "GET", "/v1/status", "")
        case 20, 70: return ("GET tunnels", "GET", "/v1/tunnels", "")
        case 30, 55, 80, 95:
            return ("PATCH tunnels/NAME", "PATCH", "/v1/tunnels/\(name)", "{\"timeout\":\(20 + number / 100 % 10)}")
        case let rest where rest % 2 == 0: return ("GET status?tunnel=NAME", "GET", "/v1/status?tunnel=\(name)", "")
        default: return ("GET tunnels/NAME", "GET", "/v1/tunnels/\(name)", "")
        }
    }
}
