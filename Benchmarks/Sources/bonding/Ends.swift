import ArgumentParser
import BenchmarkKit
import Foundation
import TunnelTestKit

/// Which implementation is at which end of the tunnel.
enum Ends: String, CaseIterable, ExpressibleByArgument {
    /// This project at both.
    case ours
    /// This project at the server's end, stock MLVPN at the customer's.
    case stockClient = "stock-client"
    /// Stock MLVPN at both.
    case stock
}

/// Options that say what to run.
struct EndOptions: ParsableArguments {
    @Option(help: "Where this project's executables are.")
    var programs = "../.build/release"

    @Option(help: "ours, stock-client (ours at the server's end) or stock; the last two need --mlvpn.")
    var ends = Ends.ours

    @Option(help: "A stock MLVPN.")
    var mlvpn: String?

    @Option(help: "The user whom stock MLVPN runs as; its home becomes MLVPN's root directory.")
    var mlvpnUser = "daemon"

    @Option(help: "This project's scheduler; without it, the default.")
    var scheduler: String?

    @Flag(help: "Tell both ends each line's rate; otherwise they find out.")
    var setBandwidths = false

    func validate() throws {
        guard ends == .ours || mlvpn != nil else {
            throw ValidationError("--ends \(ends.rawValue) needs --mlvpn PATH.")
        }
    }

    /// The tunnel over some of the lines, ready for traffic.
    func start(at site: Site, links: [Int], lines: [Line]) throws -> [RunningProcess] {
        let path = URL(fileURLWithPath: programs).standardizedFileURL.path
        let ours = Concentrator(directory: path, scheduler: scheduler)
        let stock = StockMLVPN(program: mlvpn ?? "", user: mlvpnUser)
        let obstacles = [ends != .stock ? ours.obstacle : nil, ends != .ours ? stock.obstacle : nil]
        if let obstacle = obstacles.compactMap(\.self).first {
            throw RigError.unexpected(obstacle)
        }
        var bandwidths: [Int: Int] = [:]
        if setBandwidths {
            for link in links { bandwidths[link] = Int(lines[link - 1].rate * 125_000) }
        }
        let processes = [
            ends == .stock
                ? try stock.startEnd(.server, at: site, links: links, bandwidths: bandwidths)
                : try ours.startServer(at: site, links: links, bandwidths: bandwidths),
            ends == .ours
                ? try ours.startClient(at: site, links: links, bandwidths: bandwidths)
                : try stock.startEnd(.client, at: site, links: links, bandwidths: bandwidths),
        ]
        try site.waitForTunnel("the tunnel", processes: processes)
        return processes
    }
}
