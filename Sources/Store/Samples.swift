import GRDB

// Traffic: minutes as they are taken, summed up by hour and day, each kept for its own time.

extension Store {
    /// Adds what links have carried since their last sample to the minute that `now` is in.
    ///
    /// - Parameter counters: which engine's counters these are; the totals of another one begin at 0.
    public func record(_ samples: [LinkSample], counters: Int64, now: Int64) throws(StoreError) {
        let minute = now - now % 60_000
        try write { db in
            for sample in samples { try Self.record(sample, at: minute, counters: counters, db) }
        }
    }

    /// What links have carried until now is not counted: it is of a time that the database does not know.
    public func setBaseline(_ samples: [LinkSample], counters: Int64) throws(StoreError) {
        try write { db in
            for sample in samples {
                try db.execute(
                    sql: """
                        UPDATE series SET counters_of = ?, tx_total = ?, rx_total = ?
                        WHERE tunnel = ? AND link = ? AND retired_at IS NULL
                        """,
                    arguments: [
                        counters, sample.txTotal, sample.rxTotal, sample.subject.tunnel, sample.subject.link,
                    ])
            }
        }
    }

    private static func record(_ sample: LinkSample, at: Int64, counters: Int64, _ db: Database) throws {
        let series = try db.cachedStatement(
            sql: """
                SELECT id, counters_of, tx_total, rx_total FROM series
                WHERE tunnel = ? AND link = ? AND retired_at IS NULL
                """)
        let row = try Row.fetchOne(series, arguments: [sample.subject.tunnel, sample.subject.link])
        guard let row else { return }
        let id: Int64 = row["id"]
        let isContinued = (row["counters_of"] as Int64?) == counters
        // Counters that went back have begun again at 0.
        func gain(_ total: Int64, _ column: String) -> Int64 {
            let last: Int64 = isContinued ? row[column] : 0
            return total >= last ? total - last : total
        }
        try db.cachedStatement(sql: "UPDATE series SET counters_of = ?, tx_total = ?, rx_total = ? WHERE id = ?")
            .execute(arguments: [counters, sample.txTotal, sample.rxTotal, id])
        let minute = try db.cachedStatement(
            sql: """
                INSERT INTO samples_minute (at, series_id, tx_bytes, rx_bytes, samples, srtt_us, loss_permille)
                VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET
                    tx_bytes = tx_bytes + excluded.tx_bytes,
                    rx_bytes = rx_bytes + excluded.rx_bytes,
                    srtt_us = coalesce(
                        (srtt_us * samples + excluded.srtt_us * excluded.samples) / nullif(samples + excluded.samples, 0),
                        srtt_us, excluded.srtt_us),
                    loss_permille = coalesce(
                        (loss_permille * samples + excluded.loss_permille * excluded.samples)
                            / nullif(samples + excluded.samples, 0),
                        loss_permille, excluded.loss_permille),
                    samples = samples + excluded.samples
                """)
        try minute.execute(
            arguments: [
                at, id, gain(sample.txTotal, "tx_total"), gain(sample.rxTotal, "rx_total"), sample.samples,
                sample.srttMicroseconds, sample.lossPermille,
            ])
    }

    /// Sums up finished hours and days, and forgets what is older than its time. Cheap when there is nothing to do.
    public func rollUp(_ retention: Retention, now: Int64) throws(StoreError) {
        try write { db in
            try Self.rollDays(db, now: now)
            try Self.rollSamples(db, now: now)
            try Self.forget(retention, db, now: now)
        }
        try thinOut()
    }

    /// Ten minutes into a day, the last outage of the day before has most likely been noticed.
    private static func rollDays(_ db: Database, now: Int64) throws {
        let until = dayStart(now - 600_000)
        let rolled = try setting("days_rolled_until", db)
        guard until > rolled else { return }
        try db.execute(
            sql: """
                INSERT INTO uptime_days (series_id, day, up, lossy, slow, down, degraded)
                SELECT series_id, day, up, lossy, slow, down, degraded FROM uptime_days_open WHERE day < ?
                """,
            arguments: [until])
        try set("days_rolled_until", to: until, db)
    }

    private static func rollSamples(_ db: Database, now: Int64) throws {
        // A clock that is set back a little is still in an hour that is not summed up.
        let until = hourStart(now - 120_000)
        let rolled = try setting("hours_rolled_until", db)
        guard until > rolled else { return }
        try sumUp(from: "samples_minute", into: "samples_hour", every: millisecondsPerHour, rolled..<until, db)
        let (day, lastDay) = (dayStart(until), dayStart(rolled))
        if day > lastDay {
            try sumUp(from: "samples_hour", into: "samples_day", every: millisecondsPerDay, lastDay..<day, db)
        }
        try set("hours_rolled_until", to: until, db)
    }

    private static func sumUp(
        from source: String, into target: String, every period: Int64, _ range: Range<Int64>, _ db: Database
    ) throws {
        try db.execute(
            sql: """
                INSERT OR REPLACE INTO \(target) (at, series_id, tx_bytes, rx_bytes, samples, srtt_us, loss_permille)
                SELECT
                    at - at % :period AS period, series_id, sum(tx_bytes), sum(rx_bytes), sum(samples),
                    sum(srtt_us * samples) / nullif(sum(iif(srtt_us IS NULL, 0, samples)), 0),
                    sum(loss_permille * samples) / nullif(sum(iif(loss_permille IS NULL, 0, samples)), 0)
                FROM \(source) WHERE at >= :from AND at < :until
                GROUP BY period, series_id
                """,
            arguments: ["period": period, "from": range.lowerBound, "until": range.upperBound])
    }

    private static func forget(_ retention: Retention, _ db: Database, now: Int64) throws {
        func before(_ days: Int) -> Int64 { now - Int64(days) * millisecondsPerDay }
        // Nothing that is still to be summed up.
        let hoursUntil = try setting("hours_rolled_until", db)
        for (statement, limit) in [
            ("DELETE FROM samples_minute WHERE at < ?", min(before(retention.samples), hoursUntil)),
            ("DELETE FROM samples_hour WHERE at < ?", min(before(retention.hourly), dayStart(hoursUntil))),
            ("DELETE FROM samples_day WHERE at < ?", before(retention.daily)),
            ("DELETE FROM uptime_days WHERE day < ?", before(retention.daily)),
            ("DELETE FROM intervals WHERE ended_at < ?", before(retention.daily)),
            ("DELETE FROM state_changes WHERE at < ?", before(retention.daily)),
            // Who changed what is no measurement, and takes little.
            ("DELETE FROM audit WHERE at < ?", before(max(retention.daily, Retention().daily))),
        ] {
            try db.execute(sql: statement, arguments: [limit])
        }
    }

    static func setting(_ name: String, _ db: Database) throws -> Int64 {
        try Int64.fetchOne(
            db, sql: "SELECT CAST(value AS INTEGER) FROM settings WHERE name = ?", arguments: [name]) ?? 0
    }

    static func set(_ name: String, to value: Int64, _ db: Database) throws {
        try db.execute(sql: "UPDATE settings SET value = ? WHERE name = ?", arguments: [String(value), name])
    }
}
