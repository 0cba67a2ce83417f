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

    /// Writes a tunnel's intervals anew from `start` on, and logs the changes of its state that were not there before.
    ///
    /// - Parameter reason: what of it has changed.
    static func rebuild(_ db: Database, tunnel: String, from start: Int64, reason: String) throws {
        let id = try Series.idForUse(db, tunnel: tunnel, link: "")
        let known = Set(try changes(db, id, from: start))
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
        for change in try changes(db, id, from: start) where !known.contains(change) {
            try db.execute(
                sql: "INSERT INTO state_changes (series_id, at, previous, state, reason) VALUES (?, ?, ?, ?, ?)",
                arguments: [id, change.at, change.previous, change.state, reason])
        }
    }

    private struct Change: Hashable {
        var at: Int64
        var previous: String
        var state: String
    }

    /// The changes of state at and after `start` that the intervals of a series show, in order.
    private static func changes(_ db: Database, _ id: Int64, from start: Int64) throws -> [Change] {
        let spans = try Row.fetchAll(
            db,
            sql: """
                SELECT state, started_at, ended_at FROM intervals
                WHERE series_id = :id AND (ended_at IS NULL OR ended_at > started_at) AND started_at >= coalesce((
                    SELECT max(started_at) FROM intervals
                    WHERE series_id = :id AND started_at < :start AND (ended_at IS NULL OR ended_at > started_at)), 0)
                ORDER BY started_at
                """,
            arguments: ["id": id, "start": start])
        return zip(spans, spans.dropFirst()).compactMap { before, after in
            let change = Change(at: after["started_at"], previous: before["state"], state: after["state"])
            let isOne = change.previous != change.state && change.at == (before["ended_at"] as Int64?)
            return isOne ? change : nil
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
