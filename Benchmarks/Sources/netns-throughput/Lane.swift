import BenchmarkKit
import Foundation
import TunnelTestKit

/// What iperf3 does in one measurement.
struct Workload {
    var name: String
    var flags: [String]
    var isUDP = false

    static let all = [
        Workload(name: "tcp1-up", flags: []),
        Workload(name: "tcp1-down", flags: ["-R"]),
        Workload(name: "tcp4-up", flags: ["-P", "4"]),
        Workload(name: "tcp4-down", flags: ["-P", "4", "-R"]),
        Workload(name: "udp-up", flags: [], isUDP: true),
        Workload(name: "udp-down", flags: ["-R"], isUDP: true),
    ]
}

/// One program's tunnel, with an iperf3 server at its server's end.
struct Lane {
    let peer: any Peer
    private let site: Site

    init(_ peer: any Peer, in rig: NetworkRig, links: Int) throws {
        self.peer = peer
        site = try Site(in: rig, name: peer.name, links: links)
        try peer.start(at: site)
        let server = try rig.start(["iperf3", "-s", "--forceflush"], in: site.server)
        try waitUntil("iperf3", within: .seconds(10)) { server.output.contains("listening") }
    }

    func measure(_ workload: Workload, seconds: Int, udpRate: String) throws -> Sample {
        var command = ["iperf3", "-c", site.serverAddress, "-t", "\(seconds)", "-J"] + workload.flags
        if workload.isUDP {
            // The largest datagram that fits into one packet of the tunnel: 20 bytes of IPv4 and 8 of UDP.
            command += ["-u", "-b", udpRate, "-l", "\(site.mtu - 28)"]
        }
        let before = ProcessCost(of: site.server)
        let output = try site.rig.run(command, in: site.client, within: .seconds(seconds + 30))
        let after = ProcessCost(of: site.server)
        let iperf = try Iperf(json: output)
        return Sample(
            peer: peer.name, workload: workload.name, gigabitsPerSecond: iperf.receivedBitsPerSecond / 1e9,
            cpuSecondsPerGigabit: (after.cpuSeconds - before.cpuSeconds) / (iperf.receivedBytes * 8 / 1e9),
            megabytes: after.memory / 1e6, retransmits: iperf.retransmits, lostPercent: iperf.lostPercent)
    }
}

/// One measurement.
struct Sample: Encodable {
    var peer: String
    var workload: String
    var gigabitsPerSecond: Double
    var cpuSecondsPerGigabit: Double
    var megabytes: Double
    var retransmits: Int?
    var lostPercent: Double?

    var summary: String {
        let loss = lostPercent.map { ", \($0.text(1)) % lost" } ?? ""
        return
            "\(peer): \(gigabitsPerSecond.text(3)) Gbit/s, \(cpuSecondsPerGigabit.text(3)) s/Gbit, "
            + "\(megabytes.text(1)) MB\(loss)"
    }
}

/// All measurements of one run.
struct Report: Encodable {
    var machine = Machine()
    var links: Int
    var duration: Int
    var samples: [Sample]

    /// One table per workload; the first peer is what the ratios refer to.
    func presentation(workloads: [String], peers: [String]) -> Presentation {
        var tables: [TextTable] = []
        var chart = BarChart(title: "TCP and UDP through one tunnel", unit: "Gbit/s of payload", series: peers)
        for workload in workloads {
            var table = TextTable([
                workload, "Gbit/s", "min", "max", "cpu/Gbit", "MB", "loss %", "Gbit/s ratio", "cpu ratio",
            ])
            let first = row(workload, peers[0])
            for peer in peers {
                let row = row(workload, peer)
                table.add([
                    peer, row.rate.text(3), row.least.text(3), row.most.text(3), row.cpu.text(3), row.memory.text(1),
                    row.loss.map { $0.text(1) } ?? "", (first.rate / row.rate).text(2), (first.cpu / row.cpu).text(2),
                ])
            }
            tables.append(table)
            chart.groups.append(.init(workload, peers.map { row(workload, $0).rate }))
        }
        let medians = samples.count / (workloads.count * peers.count)
        return Presentation(
            tables: tables,
            notes: [
                "medians of \(medians), \(duration) s each, \(links) link(s) where the program bonds; "
                    + "ratios: \(peers[0]) to the row's"
            ], chart: chart)
    }

    private func row(
        _ workload: String, _ peer: String
    ) -> (rate: Double, least: Double, most: Double, cpu: Double, memory: Double, loss: Double?) {
        let own = samples.filter { $0.workload == workload && $0.peer == peer }
        let rates = own.map(\.gigabitsPerSecond)
        return (
            median(rates) ?? .nan, rates.min() ?? .nan, rates.max() ?? .nan,
            median(own.map(\.cpuSecondsPerGigabit)) ?? .nan, median(own.map(\.megabytes)) ?? .nan,
            median(own.compactMap(\.lostPercent))
        )
    }
}
