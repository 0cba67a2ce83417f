import GRDB

// A line that flaps all day leaves a thousand times the traces of another. What is kept of it has a bound: with all the
// rest, 50 MB for a tunnel and a year.

extension Store {
    /// Changes of state, and outages, that are kept of a tunnel's year; its series share them.
    static let rowsPerTunnelAndYear: Int64 = 150_000
    /// For so long after a day was summed up, it may have to be again: a link's timeout is a day at most.
    private static let afterthought = 2 * millisecondsPerDay
    private static let millisecondsPerYear: Int64 = 31_557_600_000

    /// Once days have been summed up: of the time before, forgets the intervals that are of no use but for that, and the
    /// oldest of too many.
    func thinOut(most rows: Int64 = rowsPerTunnelAndYear) throws(StoreError) {
        let from = try write { db -> Int64? in
            let from = try Self.setting("days_rolled_until", db) - Self.afterthought
            guard from > (try Self.setting("intervals_whole_from", db)) else { return nil }
            try db.execute(
                sql: "DELETE FROM intervals WHERE ended_at < ? AND state <> 'down'", arguments: [from])
            try Self.set("intervals_whole_from", to: from, db)
            return from
        }
        guard let from else { return }
        try cut("state_changes", by: "at", where: "at < :from", from, most: rows)
        try cut("intervals", by: "started_at", where: "state = 'down' AND ended_at < :from", from, most: rows)
    }

    private func cut(
        _ table: String, by time: String, where condition: String, _ from: Int64, most rows: Int64
    ) throws(StoreError) {
        // Counted before the database is locked for anyone else.
        let excesses = try read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT series_id, year, rows - most AS excess
                    FROM (
                        SELECT
                            series_id, \(time) / :length AS year, count(*) AS rows,
                            :most / (
                                SELECT count(*) FROM series AS own JOIN series AS every ON every.tunnel = own.tunnel
                                WHERE own.id = series_id) AS most
                        FROM \(table) WHERE \(condition)
                        GROUP BY series_id, year
                    )
                    WHERE rows > most
                    """,
                arguments: ["length": Self.millisecondsPerYear, "most": rows, "from": from])
        }
        if excesses.isEmpty { return }
        try write { db in
            for row in excesses {
                let start = (row["year"] as Int64) * Self.millisecondsPerYear
                try db.execute(
                    sql: """
                        DELETE FROM \(table) WHERE id IN (
                            SELECT id FROM \(table)
                            WHERE series_id = :series AND \(time) >= :start AND \(time) < :end AND \(condition)
                            ORDER BY \(time) LIMIT :excess)
                        """,
                    arguments: [
                        "series": row["series_id"] as Int64, "start": start, "end": start + Self.millisecondsPerYear,
                        "from": from, "excess": row["excess"] as Int64,
                    ])
            }
        }
    }
}
