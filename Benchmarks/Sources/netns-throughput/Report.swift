import BenchmarkKit

/// All measurements of one run.
struct Report: Encodable {
    var machine = Machine()
    var links: [Int]
    var duration: Int
    var samples: [Sample]

    /// One table per workload; the first peer is what the ratios refer to.
    func presentation(workloads: [Workload], peers: [String], plain: String?) -> Presentation {
        var tables: [TextTable] = []
        var chart = BarChart(title: "TCP and UDP through one tunnel", unit: "Gbit/s of payload", series: peers)
        let bulk = workloads.filter { !$0.isCalls }.map(\.name)
        for workload in bulk {
            tables.append(bulkTable(workload, peers))
            chart.groups.append(.init(workload, peers.map { row(workload, $0).rate }))
        }
        let calls = workloads.filter(\.isCalls).map(\.name)
        for workload in calls { tables.append(callTable(workload, peers)) }
        if bulk.isEmpty {
            chart = BarChart(title: "Small packets at a fixed rate", unit: "µs of processor per packet", series: peers)
            for workload in calls {
                chart.groups.append(
                    .init(
                        workload,
                        peers.map { peer in median(of(workload, peer).compactMap { $0.calls?.microsecondsPerPacket }) })
                )
            }
        }
        if let plain { tables.append(costTable(bulk, with: peers[0], without: plain)) }
        let medians = samples.count / (workloads.count * peers.count)
        let counts = links.map(String.init).joined(separator: " and ")
        return Presentation(
            tables: tables,
            notes: [
                "medians of \(medians), \(duration) s each, \(counts) link(s) where the program bonds; "
                    + "ratios: \(peers[0]) to the row's"
            ], chart: chart)
    }

    private func bulkTable(_ workload: String, _ peers: [String]) -> TextTable {
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
        return table
    }

    private func callTable(_ workload: String, _ peers: [String]) -> TextTable {
        var table = TextTable([
            workload, "packets/s", "lost", "lost %", "most %", "cpu us/packet", "cpu %", "MB", "sender late ms",
            "cpu ratio",
        ])
        func cost(_ peer: String) -> Double {
            median(of(workload, peer).compactMap { $0.calls?.microsecondsPerPacket }) ?? .nan
        }
        for peer in peers {
            let own = of(workload, peer)
            let calls = own.compactMap(\.calls)
            let lost = own.compactMap(\.lostPercent)
            table.add([
                peer, (median(calls.map(\.packetsPerSecond)) ?? .nan).text(0),
                (median(calls.map { Double($0.lost) }) ?? .nan).text(0), (median(lost) ?? .nan).text(3),
                (lost.max() ?? .nan).text(3), cost(peer).text(2), (median(calls.map(\.cpuPercent)) ?? .nan).text(1),
                (median(own.map(\.megabytes)) ?? .nan).text(1),
                (calls.map(\.latestMilliseconds).max() ?? .nan).text(1), (cost(peers[0]) / cost(peer)).text(2),
            ])
        }
        return table
    }

    /// The whole cost beside that of the same without encryption and that of the cipher alone.
    private func costTable(_ workloads: [String], with peer: String, without plain: String) -> TextTable {
        var table = TextTable([
            "cpu s/Gbit", "encrypted", "not encrypted", "cipher alone", "sum of these", "to the sum", "goal", "met",
        ])
        let goal = 1.15
        for workload in workloads {
            let whole = row(workload, peer).cpu
            let rest = row(workload, plain).cpu
            let cipher = median(of(workload, peer).compactMap(\.cryptoSecondsPerGigabit)) ?? .nan
            let ratio = whole / (rest + cipher)
            table.add([
                workload, whole.text(3), rest.text(3), cipher.text(3), (rest + cipher).text(3), ratio.text(2),
                goal.text(2), ratio <= goal ? "yes" : "no",
            ])
        }
        return table
    }

    private func of(_ workload: String, _ peer: String) -> [Sample] {
        samples.filter { $0.workload == workload && $0.peer == peer }
    }

    private func row(
        _ workload: String, _ peer: String
    ) -> (rate: Double, least: Double, most: Double, cpu: Double, memory: Double, loss: Double?) {
        let own = of(workload, peer)
        let rates = own.map(\.gigabitsPerSecond)
        return (
            median(rates) ?? .nan, rates.min() ?? .nan, rates.max() ?? .nan,
            median(own.map(\.cpuSecondsPerGigabit)) ?? .nan, median(own.map(\.megabytes)) ?? .nan,
            median(own.compactMap(\.lostPercent))
        )
    }
}
