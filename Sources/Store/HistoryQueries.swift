import GRDB
import TunnelModel

/// What part of history is asked for. Times are milliseconds since 1970; nil: without that bound.
public struct HistoryRange: Equatable, Sendable {
    public var tunnel: String?
    public var link: String?
    public var since: Int64?
    public var until: Int64?

    public init(tunnel: String? = nil, link: String? = nil, since: Int64? = nil, until: Int64? = nil) {
        self.tunnel = tunnel
        self.link = link
        self.since = since
        self.until = until
    }
}

extension Store {
    /// Rows that one answer may have.
    public static let maximumRows = 100_000

    /// The state that each link in use has in history.
    public func currentStates() throws(StoreError) -> [LinkSubject: HistoryState] {
        try read { db in
            var states: [LinkSubject: HistoryState] = [:]
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT series.tunnel, series.link, intervals.state
                    FROM intervals JOIN series ON series.id = intervals.series_id
                    WHERE intervals.ended_at IS NULL AND series.link <> ''
                    """)
            for row in rows {
                states[LinkSubject(tunnel: row["tunnel"], link: row["link"])] = HistoryState(rawValue: row["state"])
            }
            return states
        }
    }

    /// Throws when neither the definitions nor history know the tunnel, or the link of it.
    public func requireKnown(tunnel: String?, link: String?) throws(StoreError) {
        guard let tunnel else { return }
        let (knowsTunnel, knowsLink) = try read { db in
            let knowsTunnel = try Bool.fetchOne(
                db,
                sql: """
                    SELECT EXISTS (SELECT 1 FROM series WHERE tunnel = :name)
                        OR EXISTS (SELECT 1 FROM tunnels WHERE name = :name)
                    """, arguments: ["name": tunnel])
            let knowsLink = try Bool.fetchOne(
                db,
                sql: """
                    SELECT EXISTS (SELECT 1 FROM series WHERE tunnel = :tunnel AND link = :link)
                        OR EXISTS (
                            SELECT 1 FROM tunnels JOIN links ON links.tunnel_id = tunnels.id
                            WHERE tunnels.name = :tunnel AND links.name = :link)
                    """, arguments: ["tunnel": tunnel, "link": link])
            return (knowsTunnel == true, knowsLink == true)
        }
        if !knowsTunnel { throw .noSuchTunnel(tunnel) }
        if let link, !knowsLink { throw .noSuchLink(tunnel: tunnel, link: link) }
    }

    /// Uptime of each link, and of each tunnel (its link is null), by day.
    ///
    /// - Parameter limit: more rows are refused.
    public func uptimeByDay(
        _ range: HistoryRange, limit: Int = maximumRows
    ) async throws(StoreError) -> QueryTable {
        try await wholeTable(
            """
            WITH days AS (
                SELECT day, tunnel, link, up_seconds, lossy_seconds, slow_seconds, down_seconds, unknown_seconds,
                    uptime_percent
                FROM link_uptime_daily
                UNION ALL
                SELECT day, tunnel, NULL, up_seconds, NULL, NULL, down_seconds, unknown_seconds, uptime_percent
                FROM tunnel_uptime_daily WHERE :link IS NULL
            )
            SELECT * FROM days
            WHERE (:tunnel IS NULL OR tunnel = :tunnel) AND (:link IS NULL OR link = :link)
                AND (:since IS NULL OR day >= strftime('%Y-%m-%d', :since / 1000, 'unixepoch'))
                AND (:until IS NULL OR day <= strftime('%Y-%m-%d', :until / 1000, 'unixepoch'))
            ORDER BY day, tunnel, link LIMIT :limit
            """, range, limit: limit)
    }

    public func uptimeByMonth(
        _ range: HistoryRange, limit: Int = maximumRows
    ) async throws(StoreError) -> QueryTable {
        try await wholeTable(
            """
            SELECT * FROM link_uptime_monthly
            WHERE (:tunnel IS NULL OR tunnel = :tunnel) AND (:link IS NULL OR link = :link)
                AND (:since IS NULL OR month >= strftime('%Y-%m', :since / 1000, 'unixepoch'))
                AND (:until IS NULL OR month <= strftime('%Y-%m', :until / 1000, 'unixepoch'))
            ORDER BY month, tunnel, link LIMIT :limit
            """, range, limit: limit)
    }

    public func trafficByHour(
        _ range: HistoryRange, limit: Int = maximumRows
    ) async throws(StoreError) -> QueryTable {
        try await wholeTable(
            """
            SELECT * FROM link_traffic_hourly
            WHERE (:tunnel IS NULL OR tunnel = :tunnel) AND (:link IS NULL OR link = :link)
                AND (:since IS NULL OR hour >= strftime('%Y-%m-%dT%H:00:00.000Z', :since / 1000, 'unixepoch'))
                AND (:until IS NULL OR hour <= strftime('%Y-%m-%dT%H:%M:%fZ', :until / 1000.0, 'unixepoch'))
            ORDER BY hour, tunnel, link LIMIT :limit
            """, range, limit: limit)
    }

    /// Changes of state as they were seen, oldest first; the latest ones if there are more than `limit`.
    public func stateChanges(_ range: HistoryRange, limit: Int = maximumRows) async throws(StoreError) -> QueryTable {
        try await table(
            """
            SELECT * FROM (
                SELECT
                    strftime('%Y-%m-%dT%H:%M:%fZ', state_changes.at / 1000.0, 'unixepoch') AS at,
                    series.tunnel, nullif(series.link, '') AS link, previous, state, reason,
                    strftime('%Y-%m-%dT%H:%M:%fZ', last_heard / 1000.0, 'unixepoch') AS last_heard
                FROM state_changes JOIN series ON series.id = state_changes.series_id
                WHERE (:tunnel IS NULL OR series.tunnel = :tunnel) AND (:link IS NULL OR series.link = :link)
                    AND (:since IS NULL OR state_changes.at >= :since)
                    AND (:until IS NULL OR state_changes.at <= :until)
                ORDER BY state_changes.at DESC, state_changes.id DESC LIMIT :limit
            ) ORDER BY at, tunnel, link
            """, range, limit: limit)
    }

    /// Every row, or an error: a table that lacks some must not be taken for all.
    private func wholeTable(
        _ sql: String, _ range: HistoryRange, limit: Int
    ) async throws(StoreError) -> QueryTable {
        let table = try await table(sql, range, limit: limit + 1)
        guard table.rows.count <= limit else {
            throw .refused([
                DefinitionError(
                    "history", "has more than \(limit) rows; ask for less with 'since', 'until' or a tunnel's name")
            ])
        }
        return table
    }

    private func table(_ sql: String, _ range: HistoryRange, limit: Int) async throws(StoreError) -> QueryTable {
        try await readLater { db in
            let arguments: [String: (any DatabaseValueConvertible)?] = [
                "tunnel": range.tunnel, "link": range.link, "since": range.since, "until": range.until, "limit": limit,
            ]
            // Not every query has every parameter.
            let statement = try db.makeStatement(sql: sql)
            statement.setUncheckedArguments(StatementArguments(arguments.filter { sql.contains(":\($0.key)") }))
            var table = QueryTable(columns: statement.columnNames, rows: [])
            let cursor = try Row.fetchCursor(statement)
            while let row = try cursor.next() { table.rows.append(row.databaseValues.map(Cell.init)) }
            return table
        }
    }
}
