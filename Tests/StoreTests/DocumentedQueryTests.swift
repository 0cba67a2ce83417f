import Foundation
import Testing

@testable import Store

/// The queries of `db/queries/` on a year of 100 customers, in the shell that operators have (Debian's sqlite3), on a
/// database that the daemon holds open.
@Suite struct DocumentedQueryTests {
    /// What each finds first, of the facts that `Fixtures/year.sql` has put there.
    private static let found: [(query: String, first: [String])] = [
        // On the first of a month, only what is away now has been away in it.
        ("worst-links-this-month", day(0).hasSuffix("-01") ? ["customer013"] : ["customer042", "lte"]),
        ("customer-sla-by-month", [thisMonth, "customer013"]),
        ("flapping-links", ["customer007", "adsl"]),
        ("longest-outages", ["customer042", "lte"]),
        ("links-down-now", ["customer013", "adsl"]),
        ("busiest-hours", [busiestHour]),
        ("busiest-hour-of-each-customer", ["customer059", busiestHour]),
        ("traffic-per-customer-this-month", ["customer001", "adsl"]),
        ("slowest-links", ["customer077", "lte"]),
        ("bonding-benefit-this-year", ["customer042"]),
    ]

    /// A second is some 40 million of them; `Benchmarks/.build/release/operation queries` measures time.
    private static let mostSteps = 10_000_000

    @Test func eachFindsWhatIsThereWithLittleWork() throws {
        let year = try Year()
        for (query, first) in Self.found {
            let answer = try year.shell(file: query)
            let rows = answer.rows
            #expect(rows.count > 1, "\(query): \(answer.text)")
            #expect(rows.dropFirst().first.map { Array($0.prefix(first.count)) } == first, "\(query): \(answer.text)")
            #expect((1...Self.mostSteps).contains(answer.steps), "\(query): \(answer.steps) steps of SQLite's machine")
            // The daemon gives the same answer to `mlvpn-admin sql`.
            let table = try year.store.query(try year.text(of: query))
            #expect(table.columns == rows.first)
            #expect(table.rows.count == rows.count - 1)
        }
        let bytes = try FileManager.default.attributesOfItem(atPath: year.store.path)[.size] as? Int ?? .max
        #expect(bytes < 100 * 50_000_000, "a year of 100 tunnels")
    }

    /// However long ago it began: an outage that lasts is one of today.
    @Test func anOutageOfFortyDaysIsNotLeftOut() throws {
        let year = try Year()
        try year.store.sql(
            """
            DELETE FROM intervals WHERE series_id = (SELECT id FROM series WHERE tunnel = 'customer100' AND link = 'lte');
            DELETE FROM uptime_days WHERE series_id = (SELECT id FROM series WHERE tunnel = 'customer100' AND link = 'lte');
            INSERT INTO intervals (series_id, state, started_at, reason)
            SELECT id, 'down', (strftime('%s', 'now') - 40 * 86400) * 1000, 'timeout' FROM series
            WHERE tunnel = 'customer100' AND link = 'lte';
            """)
        #expect(try year.shell(file: "longest-outages").rows.dropFirst().first?.prefix(2) == ["customer100", "lte"])
        let worst = try year.shell(file: "worst-links-this-month").rows
        let row = try #require(worst.first { $0.prefix(2) == ["customer100", "lte"] })
        #expect(row[5] == "1" && (Double(row[6]) ?? 0) >= 40 * 1440, "\(row)")
    }

    /// No query is left out above, and none is missing from the directory's README.
    @Test func everyFileIsTestedAndDocumented() throws {
        let files = try FileManager.default.contentsOfDirectory(atPath: Year.queries).filter { $0.hasSuffix(".sql") }
        #expect(files.sorted() == Self.found.map { $0.query + ".sql" }.sorted())
        let readme = try String(contentsOfFile: Year.queries + "/README.md", encoding: .utf8)
        for file in files { #expect(readme.contains("`\(file)`"), "\(file)") }
    }

    private static var thisMonth: String { String(day(0).prefix(7)) }
    private static var busiestHour: String { day(-3) + "T20:00:00.000Z" }

    /// `YYYY-MM-DD`, so many days from the day of the fixture.
    private static func day(_ offset: Int) -> String {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(identifier: "UTC")
        formatter.dateFormat = "yyyy-MM-dd"
        return formatter.string(from: Date().addingTimeInterval(Double(offset) * 86_400))
    }
}

/// The generated year.
private struct Year {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
    static let queries = root + "/db/queries"

    let store: Store
    private let directory: ScratchDirectory
    private var scratch: String { directory.path }

    struct Answer {
        var text: String
        var rows: [[String]]
        /// Of SQLite's virtual machine.
        var steps: Int
    }

    init() throws {
        directory = try ScratchDirectory()
        store = try Store(path: directory.database)
        try store.sql(try String(contentsOfFile: Self.root + "/Tests/StoreTests/Fixtures/year.sql", encoding: .utf8))
        // What the daemon does every minute: days and hours are summed up.
        try store.rollUp(Retention(), now: Int64(Date().timeIntervalSince1970 * 1000))
    }

    func text(of query: String) throws -> String {
        try String(contentsOfFile: "\(Self.queries)/\(query).sql", encoding: .utf8)
    }

    /// Runs a file's query in the sqlite3 shell.
    func shell(file: String) throws -> Answer {
        let input = scratch + "/\(file).input"
        let output = scratch + "/\(file).output"
        try (".stats vmstep\n.headers on\n.separator |\n" + (try text(of: file)))
            .write(toFile: input, atomically: false, encoding: .utf8)
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        shell.arguments = ["-c", "exec sqlite3 -bail '\(store.path)' < '\(input)' > '\(output)' 2>&1"]
        try shell.run()
        shell.waitUntilExit()
        let text = try String(contentsOfFile: output, encoding: .utf8)
        #expect(shell.terminationStatus == 0, "\(text)")
        var rows: [[String]] = []
        var steps = 0
        for line in text.split(separator: "\n") {
            if line.hasPrefix("VM-steps:") {
                steps += line.split(separator: " ").last.flatMap { Int($0) } ?? .max
            } else {
                rows.append(line.split(separator: "|", omittingEmptySubsequences: false).map(String.init))
            }
        }
        return Answer(text: text, rows: rows, steps: steps)
    }
}
