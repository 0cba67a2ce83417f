import GRDB

/// The timeline of a tunnel, made from those of its links: up while any link is.
enum Timeline {
    struct Span: Equatable {
        var state: HistoryState
        var startedAt: Int64
        /// Nil: it lasts.
        var endedAt: Int64?
    }

    struct TunnelSpan: Equatable {
        var state: HistoryState
        /// Up, with a link down.
        var degraded: Bool
        var startedAt: Int64
        var endedAt: Int64?
    }

    /// What a tunnel was from `start` on, given the spans of its links.
    ///
    /// Down means that every link is known to be down; a link of which nothing is known leaves the tunnel unknown,
    /// unless another one is up.
    static func tunnel(_ links: [Span], from start: Int64) -> [TunnelSpan] {
        var times: Set<Int64> = [start]
        for span in links {
            if span.startedAt > start { times.insert(span.startedAt) }
            if let end = span.endedAt, end > start { times.insert(end) }
        }
        var spans: [TunnelSpan] = []
        for time in times.sorted() {
            let held = links.filter { $0.startedAt <= time && ($0.endedAt.map { $0 > time } ?? true) }.map(\.state)
            let isUp = held.contains { $0.isUp }
            let state: HistoryState = isUp ? .up : !held.isEmpty && held.allSatisfy { $0 == .down } ? .down : .unknown
            let degraded = isUp && held.contains(.down)
            if let last = spans.last, last.state == state, last.degraded == degraded { continue }
            if !spans.isEmpty { spans[spans.count - 1].endedAt = time }
            spans.append(TunnelSpan(state: state, degraded: degraded, startedAt: time, endedAt: nil))
        }
        return spans
    }

    /// Writes a tunnel's intervals anew from `start` on.
    static func rebuild(_ db: Database, tunnel: String, from start: Int64) throws {
        let id = try Series.idForUse(db, tunnel: tunnel, link: "")
        let open = try Row.fetchOne(
            db, sql: "SELECT state, started_at FROM intervals WHERE series_id = ? AND ended_at IS NULL", arguments: [id]
        )
        try db.execute(
            sql: "DELETE FROM intervals WHERE series_id = ? AND started_at >= ?", arguments: [id, start])
        let before = try Row.fetchOne(
            db,
            sql: """
                SELECT id, state, degraded, ended_at FROM intervals WHERE series_id = ?
                ORDER BY started_at DESC, id DESC LIMIT 1
                """,
            arguments: [id])
        let reachesStart = before.map { before in (before["ended_at"] as Int64?).map { $0 >= start } ?? true } ?? false
        if let before, reachesStart {
            try db.execute(
                sql: "UPDATE intervals SET ended_at = ? WHERE id = ?", arguments: [start, before["id"] as Int64])
        }
        var spans = Self.tunnel(try linkSpans(db, tunnel: tunnel, from: start), from: start)
        if let before, let first = spans.first, reachesStart, (before["state"] as String) == first.state.rawValue,
            (before["degraded"] as Bool) == first.degraded
        {
            try db.execute(
                sql: "UPDATE intervals SET ended_at = ? WHERE id = ?",
                arguments: [first.endedAt, before["id"] as Int64])
            spans.removeFirst()
        }
        for span in spans {
            try db.execute(
                sql: """
                    INSERT INTO intervals (series_id, state, degraded, started_at, ended_at) VALUES (?, ?, ?, ?, ?)
                    """,
                arguments: [id, span.state.rawValue, span.degraded, span.startedAt, span.endedAt])
        }
        let now = try Row.fetchOne(
            db, sql: "SELECT state, started_at FROM intervals WHERE series_id = ? AND ended_at IS NULL", arguments: [id]
        )
        if let open, let now, (open["state"] as String) != now["state"] {
            try db.execute(
                sql: "INSERT INTO state_changes (series_id, at, previous, state) VALUES (?, ?, ?, ?)",
                arguments: [id, now["started_at"] as Int64, open["state"] as String, now["state"] as String])
        }
    }

    private static func linkSpans(_ db: Database, tunnel: String, from start: Int64) throws -> [Span] {
        try Row.fetchAll(
            db,
            sql: """
                SELECT intervals.state, intervals.started_at, intervals.ended_at
                FROM series JOIN intervals ON intervals.series_id = series.id
                WHERE series.tunnel = :tunnel AND series.link <> '' AND intervals.started_at >= coalesce((
                    SELECT max(earlier.started_at) FROM intervals AS earlier
                    WHERE earlier.series_id = series.id AND earlier.started_at <= :start), 0)
                """,
            arguments: ["tunnel": tunnel, "start": start]
        ).map {
            Span(
                state: HistoryState(rawValue: $0["state"]) ?? .unknown, startedAt: $0["started_at"],
                endedAt: $0["ended_at"])
        }
    }
}
