import ArgumentParser
import BenchmarkKit
import Foundation
import TunnelTestKit

struct Queries: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "queries",
        abstract: "How long the queries of db/queries take on a year of 100 customers.",
        discussion: """
            A running daemon's database is given the year that the tests use; then each query is run in the sqlite3 shell and \
            by mlvpn-admin sql. Both include the start of a process.
            """)

    @Option(help: "Where this project's executables are.")
    var programs = "../.build/release"

    @Option(help: "The top of the source tree.")
    var source = ".."

    @Option(help: "How often each query is run.")
    var repeats = 5

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...1000).contains(repeats) else { throw ValidationError("--repeats is 1 to 1000.") }
    }

    private struct Row: Encodable {
        var query: String
        var shellMilliseconds: [Double]
        var adminMilliseconds: [Double]
    }

    private struct Report: Encodable {
        var machine = Machine()
        var rows: [Row]
    }

    func run() throws {
        interruptible()
        let directory = try executables(programs)
        let queries = "\(source)/db/queries"
        let files = try FileManager.default.contentsOfDirectory(atPath: queries).filter { $0.hasSuffix(".sql") }
            .sorted()
        let rows = try NetworkRig.with { rig in
            let site = try Site(in: rig, name: "queries", links: Plan.links)
            let daemon = try Daemon(in: rig, site.server, programs: directory, name: "server")
            defer { daemon.stop() }
            let database = "\(daemon.stateDirectory)/mlvpn.db"
            func sqlite(_ command: String) throws -> String {
                try rig.run(["sqlite3", "-bail", "-cmd", ".timeout 60000", database, command], within: .seconds(300))
            }
            _ = try sqlite(".read \(source)/Tests/StoreTests/Fixtures/year.sql")
            return try files.map { file in
                let path = "\(queries)/\(file)"
                let text = try String(contentsOfFile: path, encoding: .utf8)
                let inShell = try (0..<repeats).map { _ in try milliseconds { _ = try sqlite(".read \(path)") } }
                let byAdmin = try (0..<repeats).map { _ in try milliseconds { _ = try daemon.admin("sql", text) } }
                return Row(query: file, shellMilliseconds: inShell, adminMilliseconds: byAdmin)
            }
        }
        var table = TextTable(["query", "sqlite3 ms", "most", "mlvpn-admin sql ms", "most"])
        for row in rows {
            table.add(
                [row.query]
                    + [row.shellMilliseconds, row.adminMilliseconds].flatMap { times in
                        [(median(times) ?? 0).text(0), (times.max() ?? 0).text(0)]
                    })
        }
        let chart = BarChart(
            title: "Documented queries, a year of 100 customers", unit: "ms, median",
            series: ["sqlite3", "mlvpn-admin sql"],
            groups: rows.map { row in
                BarChart.Group(row.query, [median(row.shellMilliseconds), median(row.adminMilliseconds)])
            })
        try output.show(
            Presentation(tables: [table], notes: ["medians of \(repeats), by wall clock"], chart: chart),
            report: Report(rows: rows))
    }
}
