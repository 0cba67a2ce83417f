import GRDB

/// Writes history: a batch of events per call, in one transaction, so that a kill at any moment loses at most the
/// batch that was being collected.
///
/// Not for use by more than one thread at a time: it belongs to the one who collects the batches.
public final class HistoryWriter {
    private let store: Store
    /// Links that are neither up nor down yet.
    private var deadlines: [LinkSubject: Deadline] = [:]
    private var run: Run?
    /// Since when the data plane has been seen to run; nil: it is not seen. Nothing is down because nobody ran it.
    private var seenSince: Int64?
    /// What the run was before is known: it was taken up, not begun.
    private var isContinued = false
    private var clock = ClockDoubt(latest: 0, now: 0)

    /// When a link will count as down, unless it is up by then.
    private struct Deadline {
        var since: Int64
        var grace: Int64

        func isOver(at time: Int64, seenSince: Int64) -> Int64? {
            let due = max(since, seenSince) + grace
            return due <= time ? due : nil
        }
    }

    private struct Run {
        var id: Int64
        var instance: String
        var isAlive: Bool
    }

    /// Without a sign of life for so long (milliseconds), the data plane counts as not running.
    public static let silence: Int64 = 15_000

    public init(_ store: Store) { self.store = store }

    /// Takes up the history of the daemon called `instance`, or begins a new run: what was known at the end of the last one
    /// is unknown from then on. What was renamed or removed since is so in history, too.
    ///
    /// - Parameter isRestored: the database is a backup that has been restored: what it knows ends with the backup, whoever
    ///   wrote it.
    /// - Parameter patience: how long another process's lock is waited for at most, in seconds; nil: as usual.
    /// - Returns: how many events of this instance's engine have been recorded already.
    public func begin(
        instance: String, isRestored: Bool = false, patience: Double? = nil, now: Int64
    ) throws(StoreError) -> UInt64 {
        deadlines = [:]
        seenSince = nil
        let (run, eventsRead, isContinued, clock) = try store.write(patience: patience) { db in
            let last = try Row.fetchOne(db, sql: "SELECT * FROM runs ORDER BY id DESC LIMIT 1")
            let clock = ClockDoubt(latest: last?["alive_at"] ?? now, now: now)
            if !clock.isDoubtful { try Self.repairFuture(db, now: now) }
            try Store.settleSeries(at: last?["alive_at"] ?? now, db)
            if let last, last["instance"] == instance, !isRestored {
                return (
                    Run(id: last["id"], instance: instance, isAlive: true), last["events_read"] as Int64, true, clock
                )
            }
            if let last {
                try Self.loseSight(db, from: last["alive_at"], reason: "concentrator not running")
                if clock.isDoubtful {
                    return (Run(id: last["id"], instance: instance, isAlive: false), 0, false, clock)
                }
            }
            return (try Self.newRun(db, instance: instance, eventsRead: 0, now: now), 0, false, clock)
        }
        self.clock = clock
        self.run = run
        self.isContinued = isContinued
        return UInt64(clamping: eventsRead)
    }

    /// How many events of `instance`'s engine have been recorded, while history cannot be taken up; nil: what is in the
    /// database is of another's time.
    public func eventsRead(of instance: String) throws(StoreError) -> UInt64? {
        let last = try store.read { db in
            try Row.fetchOne(db, sql: "SELECT instance, events_read FROM runs ORDER BY id DESC LIMIT 1")
        }
        guard let last, last["instance"] == instance else { return nil }
        return UInt64(clamping: last["events_read"] as Int64)
    }

    /// Records one batch.
    ///
    /// - Parameters:
    ///   - eventsRead: how many events of the engine have been recorded with this batch.
    ///   - alive: the data plane's last sign of life, 0 for none yet.
    /// - Returns: whether sight of the links was lost with it: all of them are unknown now. So they are while the clock
    ///   cannot be believed, in which nothing is recorded.
    @discardableResult
    public func record(
        _ events: [HistoryEvent], eventsRead: UInt64, alive: Int64, now: Int64
    ) throws(StoreError) -> Bool {
        guard var run else { throw .failed("history: begin() was not called") }
        var clock = clock
        let verdict = clock.look(now: now)
        if verdict == .doubtful {
            try doubt(run)
            self.clock = clock
            return true
        }
        var pending = deadlines
        var seenSince = seenSince
        if verdict == .setBack {
            seenSince = seenSince.map { min($0, now) }
            for (subject, deadline) in pending { pending[subject]?.since = min(deadline.since, now) }
        }
        if Self.isAlive(alive, now: now) {
            seenSince = seenSince ?? (isContinued ? 0 : now)
        } else {
            seenSince = nil
        }
        // Whoever changes a tunnel waits for this; the next batch takes up what this one cannot write.
        try store.write(patience: 0.5) { db in
            if verdict == .setBack { try Self.repairFuture(db, now: now) }
            try Self.keepRun(&run, alive: alive, eventsRead: eventsRead, now: now, db)
            for event in events {
                try Self.declareDown(&pending, until: event.at, seenSince: seenSince, db)
                try Self.apply(event, deadlines: &pending, db)
            }
            try Self.declareDown(&pending, until: now, seenSince: seenSince, db)
        }
        self.clock = clock
        let hasLostSight = !run.isAlive && self.run?.isAlive == true
        self.run = run
        self.seenSince = seenSince
        if !run.isAlive { isContinued = false }
        deadlines = pending
        return hasLostSight
    }

    /// The clock cannot be believed (``ClockDoubt``): traffic of now would be of another time.
    public var isClockDoubtful: Bool { clock.isDoubtful }

    /// While nobody knows what time it is, nothing is recorded, and nothing of what was is touched.
    private func doubt(_ run: Run) throws(StoreError) {
        if run.isAlive {
            try store.write(patience: 0.5) { db in
                let alive = try Int64.fetchOne(db, sql: "SELECT alive_at FROM runs WHERE id = ?", arguments: [run.id])
                try Self.loseSight(db, from: alive ?? 0, reason: "clock not believed")
            }
        }
        self.run?.isAlive = false
        isContinued = false
        seenSince = nil
        deadlines = [:]
    }

    /// Whether a sign of life is recent enough to count.
    public static func isAlive(_ sign: Int64, now: Int64) -> Bool { sign > 0 && now - sign <= silence }

    /// Follows the data plane's life: its silence ends a run, its return begins another.
    private static func keepRun(_ run: inout Run, alive: Int64, eventsRead: UInt64, now: Int64, _ db: Database) throws {
        let isAlive = isAlive(alive, now: now)
        let read = Int64(clamping: eventsRead)
        if isAlive && !run.isAlive {
            run = try newRun(db, instance: run.instance, eventsRead: read, now: now)
        } else if isAlive || read > 0 {
            try db.execute(
                sql: """
                    UPDATE runs SET events_read = :read, alive_at = max(started_at, alive_at, min(:alive, :now))
                    WHERE id = :id
                    """,
                arguments: ["read": read, "alive": alive, "now": now, "id": run.id])
        }
        if !isAlive && run.isAlive && alive > 0 {
            run.isAlive = false
            try loseSight(db, from: alive, reason: "engine not running")
        }
    }

    private static func newRun(_ db: Database, instance: String, eventsRead: Int64, now: Int64) throws -> Run {
        try db.execute(
            sql: "INSERT INTO runs (instance, events_read, started_at, alive_at) VALUES (?, ?, ?, ?)",
            arguments: [instance, eventsRead, now, now])
        return Run(id: db.lastInsertedRowID, instance: instance, isAlive: true)
    }

    /// Nothing is known of any link from `time` on.
    private static func loseSight(_ db: Database, from time: Int64, reason: String) throws {
        let rows = try Row.fetchAll(
            db,
            sql: """
                SELECT series.tunnel, series.link FROM intervals JOIN series ON series.id = intervals.series_id
                WHERE intervals.ended_at IS NULL AND series.link <> ''
                    AND (intervals.state <> 'unknown' OR intervals.reason = ?)
                """, arguments: [Series.starting])
        for row in rows {
            var series = try Series(db, LinkSubject(tunnel: row["tunnel"], link: row["link"]), at: time)
            // One that was still to come up begins its grace anew: nobody waited for it meanwhile.
            if series.state != .unknown { try series.note(db, at: time, to: .unknown, reason: reason) }
            try series.move(db, to: .unknown, at: time, reason: reason)
        }
    }

    private static func apply(
        _ event: HistoryEvent, deadlines: inout [LinkSubject: Deadline], _ db: Database
    ) throws {
        let subject = event.subject
        if event.kind == .removed {
            deadlines[subject] = nil
            try remove(subject, at: event.at, db)
            return
        }
        var series = try Series(db, subject, at: event.at)
        switch event.kind {
        case .defined(let grace):
            if series.state != .unknown { return }
            if series.reason != Series.starting {
                try series.move(db, to: .unknown, at: event.at, reason: Series.starting)
            }
            deadlines[subject] = Deadline(since: series.startedAt, grace: grace)
        case .disabled:
            deadlines[subject] = nil
            if series.reason == Series.disabled { return }
            if series.state != .unknown { try series.note(db, at: event.at, to: .unknown, reason: Series.disabled) }
            try series.move(db, to: .unknown, at: event.at, reason: Series.disabled)
        case .stopped(let from, let reason):
            // That it is to be is told before the engine has done it.
            if series.reason == Series.disabled { return }
            try series.note(db, at: event.at, from: from, to: .unknown, reason: reason)
            try series.move(db, to: .unknown, at: event.at, reason: reason)
        case .changed(let from, let to, let lastHeard, let reason):
            try series.note(db, at: event.at, from: from, to: to, reason: reason, lastHeard: lastHeard)
            if to.isUp {
                deadlines[subject] = nil
                try series.move(db, to: to, at: event.at, reason: reason)
            } else if to == .unknown {
                try series.move(db, to: to, at: event.at, reason: reason)
            } else if series.state.isUp {
                // A link that answers no more has been away since it was last heard, whenever that was noticed.
                let since = min(lastHeard ?? event.at, event.at)
                try series.takeBackQuality(db, after: since)
                try series.move(db, to: .down, at: since, reason: reason)
            }
        case .removed: break
        }
    }

    private static func remove(_ subject: LinkSubject, at time: Int64, _ db: Database) throws {
        let isDefined = try Bool.fetchOne(
            db, sql: "SELECT count(*) > 0 FROM tunnels WHERE name = ?", arguments: [subject.tunnel])
        if isDefined == true {
            try Series(db, existing: subject)?.retire(db, at: time)
        } else {
            try Store.retireTunnel(subject.tunnel, at: time, db)
        }
    }

    /// A link that has never come up in its time of grace, in which the data plane ran, is down from the end of that on.
    private static func declareDown(
        _ deadlines: inout [LinkSubject: Deadline], until time: Int64, seenSince: Int64?, _ db: Database
    ) throws {
        guard let seenSince else { return }
        for (subject, deadline) in deadlines {
            guard let deadline = deadline.isOver(at: time, seenSince: seenSince) else { continue }
            deadlines[subject] = nil
            guard var series = try Series(db, existing: subject), series.state == .unknown else { continue }
            try series.note(db, at: deadline, to: .down, reason: "never up")
            try series.move(db, to: .down, at: deadline, reason: "never up")
        }
    }

    /// A clock that was ahead has left times to come; they become now, so that no interval is negative.
    private static func repairFuture(_ db: Database, now: Int64) throws {
        let now = ["now": now]
        for statement in [
            "UPDATE intervals SET started_at = min(started_at, :now), ended_at = min(ended_at, :now) "
                + "WHERE started_at > :now OR ended_at > :now",
            "UPDATE runs SET started_at = min(started_at, :now), alive_at = min(alive_at, :now) WHERE alive_at > :now",
            "UPDATE state_changes SET at = :now WHERE at > :now",
            "DELETE FROM uptime_days WHERE day > :now - 86400000",
            "UPDATE settings SET value = :now - :now % 86400000 "
                + "WHERE name IN ('days_rolled_until', 'intervals_whole_from') AND CAST(value AS INTEGER) > :now",
            "UPDATE settings SET value = :now - :now % 3600000 "
                + "WHERE name = 'hours_rolled_until' AND CAST(value AS INTEGER) > :now",
        ] {
            try db.execute(sql: statement, arguments: StatementArguments(now))
        }
    }
}
