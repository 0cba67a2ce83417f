import GRDB

/// The timeline of one link, as far as a change of it needs: its open interval.
struct Series {
    /// The reason of an interval in which a link is expected to come up.
    static let starting = "starting"
    static let disabled = "disabled"
    static let removed = "removed"

    let id: Int64
    let tunnel: String
    let link: String
    private(set) var state: HistoryState
    private(set) var startedAt: Int64
    private(set) var reason: String
    private var intervalID: Int64

    /// The series in use for `subject`; a retired one is taken up again, or a new one begun, unknown from `time` on.
    init(_ db: Database, _ subject: LinkSubject, at time: Int64) throws {
        if let existing = try Series(db, existing: subject) {
            self = existing
            return
        }
        let id = try Self.idForUse(db, tunnel: subject.tunnel, link: subject.link)
        self = try Series(db, beginning: id, of: subject, at: time)
        try Timeline.rebuild(db, tunnel: tunnel, from: startedAt, reason: "\(subject.link): \(reason)")
    }

    /// Nil when there is none in use.
    init?(_ db: Database, existing subject: LinkSubject) throws {
        let row = try Row.fetchOne(
            db,
            sql: """
                SELECT series.id, intervals.id AS interval_id, intervals.state, intervals.started_at, intervals.reason
                FROM series JOIN intervals ON intervals.series_id = series.id AND intervals.ended_at IS NULL
                WHERE series.tunnel = ? AND series.link = ? AND series.retired_at IS NULL
                """,
            arguments: [subject.tunnel, subject.link])
        guard let row else { return nil }
        id = row["id"]
        tunnel = subject.tunnel
        link = subject.link
        state = HistoryState(rawValue: row["state"]) ?? .unknown
        startedAt = row["started_at"]
        reason = row["reason"]
        intervalID = row["interval_id"]
    }

    private init(_ db: Database, beginning id: Int64, of subject: LinkSubject, at time: Int64) throws {
        let last = try Int64.fetchOne(
            db, sql: "SELECT max(ended_at) FROM intervals WHERE series_id = ?", arguments: [id])
        self.id = id
        tunnel = subject.tunnel
        link = subject.link
        state = .unknown
        startedAt = max(time, last ?? time)
        reason = Self.starting
        try db.execute(
            sql: "INSERT INTO intervals (series_id, state, started_at, reason) VALUES (?, ?, ?, ?)",
            arguments: [id, state.rawValue, startedAt, reason])
        intervalID = db.lastInsertedRowID
    }

    /// The row for a link (or for a tunnel, with link ''): in use, taken up again, or new.
    static func idForUse(_ db: Database, tunnel: String, link: String) throws -> Int64 {
        let known = try Row.fetchOne(
            db,
            sql: """
                SELECT id, retired_at IS NULL AND tunnel_id IS NOT NULL AS is_settled
                FROM series WHERE tunnel = ? AND link = ?
                ORDER BY retired_at IS NOT NULL, retired_at DESC LIMIT 1
                """,
            arguments: [tunnel, link])
        let owner = "(SELECT id FROM tunnels WHERE name = :tunnel)"
        guard let known else {
            try db.execute(
                sql: "INSERT INTO series (tunnel, link, tunnel_id) VALUES (:tunnel, :link, \(owner))",
                arguments: ["tunnel": tunnel, "link": link])
            return db.lastInsertedRowID
        }
        let id: Int64 = known["id"]
        // One in use keeps its owner, whose name in the database may be another by now.
        if known["is_settled"] == false {
            try db.execute(
                sql: "UPDATE series SET retired_at = NULL, tunnel_id = \(owner) WHERE id = :id",
                arguments: ["tunnel": tunnel, "id": id])
        }
        return id
    }

    /// From `time` on, or from the open interval's start if that is later: intervals never overlap, whatever a clock did.
    mutating func move(_ db: Database, to next: HistoryState, at time: Int64, reason nextReason: String) throws {
        if next == state && (next != .unknown || nextReason == reason) { return }
        let time = max(time, startedAt)
        try Self.reopenDays(db, from: time)
        try db.execute(sql: "UPDATE intervals SET ended_at = ? WHERE id = ?", arguments: [time, intervalID])
        try db.execute(
            sql: "INSERT INTO intervals (series_id, state, started_at, reason) VALUES (?, ?, ?, ?)",
            arguments: [id, next.rawValue, time, nextReason])
        intervalID = db.lastInsertedRowID
        state = next
        startedAt = time
        reason = nextReason
        try Timeline.rebuild(
            db, tunnel: tunnel, from: time, reason: nextReason.isEmpty ? link : "\(link): \(nextReason)")
    }

    /// Takes back what was told of the quality of a link that is up after `time`, when it was last heard.
    mutating func takeBackQuality(_ db: Database, after time: Int64) throws {
        while state.isUp, startedAt > time {
            let row = try Row.fetchOne(
                db,
                sql: """
                    SELECT id, state, started_at, reason FROM intervals
                    WHERE series_id = ? AND ended_at = ? AND id <> ? ORDER BY started_at DESC, id DESC LIMIT 1
                    """,
                arguments: [id, startedAt, intervalID])
            guard let row, let before = HistoryState(rawValue: row["state"]), before.isUp else { return }
            try db.execute(sql: "DELETE FROM intervals WHERE id = ?", arguments: [intervalID])
            intervalID = row["id"]
            try db.execute(sql: "UPDATE intervals SET ended_at = NULL WHERE id = ?", arguments: [intervalID])
            state = before
            startedAt = row["started_at"]
            reason = row["reason"]
        }
    }

    /// The link is not there any more; its tunnel is.
    func retire(_ db: Database, at time: Int64) throws {
        let end = try end(db, at: time)
        try Timeline.rebuild(db, tunnel: tunnel, from: end, reason: "\(link): \(Self.removed)")
    }

    /// Ends its timeline; that of the tunnel is the caller's.
    func end(_ db: Database, at time: Int64) throws -> Int64 {
        let time = max(time, startedAt)
        if state != .unknown { try note(db, at: time, to: .unknown, reason: Self.removed) }
        try Self.reopenDays(db, from: time)
        try db.execute(sql: "UPDATE intervals SET ended_at = ? WHERE id = ?", arguments: [time, intervalID])
        try db.execute(sql: "UPDATE series SET retired_at = ? WHERE id = ?", arguments: [time, id])
        return time
    }

    /// Logs a change as it was seen. Without `previous`: from what is recorded.
    func note(
        _ db: Database, at time: Int64, from previous: HistoryState? = nil, to next: HistoryState, reason: String,
        lastHeard: Int64? = nil
    ) throws {
        try db.execute(
            sql: """
                INSERT INTO state_changes (series_id, at, previous, state, reason, last_heard) VALUES (?, ?, ?, ?, ?, ?)
                """,
            arguments: [id, time, (previous ?? state).rawValue, next.rawValue, reason, lastHeard])
    }

    /// A change that reaches back into days already summed up: they are summed up again.
    private static func reopenDays(_ db: Database, from time: Int64) throws {
        let rolled = try Int64.fetchOne(
            db, sql: "SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'days_rolled_until'")
        // Of what is not whole any more, the sums stay.
        let day = max(dayStart(time), try Store.setting("intervals_whole_from", db))
        guard let rolled, day < rolled else { return }
        try db.execute(sql: "DELETE FROM uptime_days WHERE day >= ?", arguments: [day])
        try db.execute(
            sql: "UPDATE settings SET value = ? WHERE name = 'days_rolled_until'", arguments: [String(day)])
    }
}

extension Store {
    /// Renamed tunnels keep their history, each under its new name; two may have changed names with each other.
    ///
    /// - Parameter time: when whatever has such a name in history was last seen.
    static func renameSeries(_ renames: [(from: String, to: String)], at time: Int64, _ db: Database) throws {
        // By way of names that no tunnel can have.
        for (old, _) in renames {
            try db.execute(sql: "UPDATE series SET tunnel = ? WHERE tunnel = ?", arguments: ["/\(old)", old])
        }
        for (old, new) in renames {
            // What is in use there is of no tunnel: it was recorded after that had gone or had been renamed.
            try retireTunnel(new, at: time, db)
            try setApart(new, db)
            try db.execute(sql: "UPDATE series SET tunnel = ? WHERE tunnel = ?", arguments: [new, "/\(old)"])
        }
    }

    /// Tunnel `id` is called `name` from now on. It was `old` in the database, and in history what it was called when its
    /// definition was last followed.
    static func renameSeries(of id: Int64, from old: String, to name: String, _ db: Database) throws {
        let known = try String.fetchOne(
            db, sql: "SELECT tunnel FROM series WHERE tunnel_id = ? AND retired_at IS NULL LIMIT 1", arguments: [id])
        let last = known ?? old
        if last != name { try renameSeries([(last, name)], at: wallClockMilliseconds(), db) }
    }

    /// Brings history in line with definitions that were changed while nobody followed them: a renamed tunnel takes its
    /// history along, and what is not defined any more has ended at `time`, when it was last seen.
    static func settleSeries(at time: Int64, _ db: Database) throws {
        let renamed = try Row.fetchAll(
            db,
            sql: """
                SELECT min(series.tunnel) AS old, tunnels.name FROM series JOIN tunnels ON tunnels.id = series.tunnel_id
                WHERE series.retired_at IS NULL AND series.tunnel <> tunnels.name GROUP BY tunnels.id
                """)
        try renameSeries(renamed.map { ($0["old"], $0["name"]) }, at: time, db)
        let gone = try String.fetchAll(
            db,
            sql: """
                SELECT DISTINCT tunnel FROM series
                WHERE retired_at IS NULL AND NOT EXISTS (SELECT 1 FROM tunnels WHERE tunnels.name = series.tunnel)
                """)
        for tunnel in gone { try retireTunnel(tunnel, at: time, db) }
        let goneLinks = try Row.fetchAll(
            db,
            sql: """
                SELECT tunnel, link FROM series
                WHERE retired_at IS NULL AND link <> '' AND NOT EXISTS (
                    SELECT 1 FROM tunnels JOIN links ON links.tunnel_id = tunnels.id
                    WHERE tunnels.name = series.tunnel AND links.name = series.link)
                """)
        for row in goneLinks {
            let series = try Series(db, existing: LinkSubject(tunnel: row["tunnel"], link: row["link"]))
            try series?.retire(db, at: time)
        }
        // A tunnel of that name may have been defined anew.
        try db.execute(
            sql: """
                UPDATE series SET tunnel_id = (SELECT id FROM tunnels WHERE tunnels.name = series.tunnel)
                WHERE retired_at IS NULL
                """)
    }

    /// The history of a removed tunnel, whose name another one takes, gets a name of its own: under one name there is one
    /// history. Names of tunnels have no spaces.
    private static func setApart(_ name: String, _ db: Database) throws {
        try db.execute(
            sql: """
                UPDATE series SET tunnel = tunnel || (
                    SELECT strftime(' (removed %Y-%m-%dT%H:%M:%fZ)', max(retired_at) / 1000.0, 'unixepoch')
                    FROM series WHERE tunnel = :name)
                WHERE tunnel = :name
                """,
            arguments: ["name": name])
    }

    /// A removed tunnel keeps its history under its last name.
    static func retireTunnel(_ name: String, at time: Int64, _ db: Database) throws {
        let links = try String.fetchAll(
            db, sql: "SELECT link FROM series WHERE tunnel = ? AND link <> '' AND retired_at IS NULL", arguments: [name]
        )
        // All at once: it has not been without some of them.
        let ends = try links.compactMap {
            try Series(db, existing: LinkSubject(tunnel: name, link: $0))?.end(db, at: time)
        }
        if let first = ends.min() { try Timeline.rebuild(db, tunnel: name, from: first, reason: Series.removed) }
        try db.execute(
            sql: """
                UPDATE intervals SET ended_at = max(started_at, ?) WHERE ended_at IS NULL AND series_id IN (
                    SELECT id FROM series WHERE tunnel = ? AND retired_at IS NULL)
                """,
            arguments: [time, name])
        try db.execute(
            sql: "UPDATE series SET retired_at = ? WHERE tunnel = ? AND retired_at IS NULL", arguments: [time, name])
    }
}
