import GRDB
import Testing
import TunnelModel

@testable import Store

/// Noon of 2024-03-10, UTC.
let noon: Int64 = 1_710_072_000_000

extension Store {
    /// Stops the views' clock.
    func setClock(now: Int64, knownUntil: Int64? = nil) throws {
        try sql(
            """
            DROP VIEW clock;
            CREATE VIEW clock AS SELECT \(now) AS now, \(knownUntil ?? now) AS known_until,
                (SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'days_rolled_until') AS days_rolled_until,
                (SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'hours_rolled_until') AS hours_rolled_until;
            """)
    }

    func rows(_ sql: String) throws -> [[Cell]] { try query(sql).rows }
}

@Suite struct HistoryTests {
    private let scratch: ScratchDirectory
    let store: Store
    let writer: HistoryWriter
    let adsl = LinkSubject(tunnel: "acme", link: "adsl1")
    private let lte = LinkSubject(tunnel: "acme", link: "lte")

    init() throws {
        scratch = try ScratchDirectory()
        store = try Store(path: scratch.database)
        try store.add(try makeTunnel(links: ["adsl1", "lte"]), by: byTest)
        writer = HistoryWriter(store)
        _ = try writer.begin(instance: "one", now: noon)
    }

    func record(_ events: [HistoryEvent], at seconds: Int64) throws {
        let now = noon + seconds * 1000
        try writer.record(events, eventsRead: 0, alive: now, now: now)
    }

    func define(_ subject: LinkSubject, _ seconds: Int64 = 0) -> HistoryEvent {
        HistoryEvent(subject, at: noon + seconds * 1000, .defined(grace: 30_000))
    }

    func change(
        _ subject: LinkSubject, _ seconds: Int64, _ from: HistoryState, _ to: HistoryState, heard: Int64? = nil
    ) -> HistoryEvent {
        HistoryEvent(
            subject, at: noon + seconds * 1000,
            .changed(from: from, to: to, lastHeard: heard.map { noon + $0 * 1000 }, reason: "test"))
    }

    @Test func anOutageBeginsWhenTheLinkWasLastHeard() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([change(adsl, 100, .up, .down, heard: 70)], at: 100)
        try store.setClock(now: noon + 130_000)
        #expect(
            try store.rows("SELECT tunnel, link, started_at, ended_at, seconds, reason FROM link_outages") == [
                [.text("acme"), .text("adsl1"), .text("2024-03-10T12:01:10.000Z"), .null, .real(60), .text("test")]
            ])
        try record([change(adsl, 200, .down, .connecting), change(adsl, 201, .connecting, .up)], at: 201)
        #expect(
            try store.rows("SELECT ended_at, seconds FROM link_outages")
                == [[.text("2024-03-10T12:03:21.000Z"), .real(131)]])
    }

    @Test func aNewLinkIsUnknownUntilItIsUpOrItsTimeIsOver() throws {
        try record([define(adsl), define(lte)], at: 0)
        try record([change(adsl, 20, .connecting, .up)], at: 20)
        try record([], at: 29)
        try store.setClock(now: noon + 29_000)
        #expect(try store.rows("SELECT * FROM link_outages").isEmpty)
        try record([], at: 100)
        try store.setClock(now: noon + 100_000)
        #expect(
            try store.rows(
                "SELECT link, up_seconds, down_seconds, unknown_seconds FROM link_uptime_daily ORDER BY link")
                == [
                    [.text("adsl1"), .real(80), .real(0), .real(43_220)],
                    [.text("lte"), .real(0), .real(70), .real(43_230)],
                ])
    }

    @Test func aLinkThatComesUpLateInABatchWasDownBefore() throws {
        try record([define(adsl)], at: 0)
        try record([change(adsl, 90, .connecting, .up)], at: 100)
        try store.setClock(now: noon + 100_000)
        #expect(try store.rows("SELECT up_seconds, down_seconds FROM link_uptime_daily") == [[.real(10), .real(60)]])
    }

    @Test func whatHappenedWhileNothingRanIsUnknown() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([], at: 100)
        let next = HistoryWriter(store)
        let now = noon + 700_000
        #expect(try next.begin(instance: "two", now: now) == 0)
        try next.record(
            [define(adsl, 700), change(adsl, 710, .connecting, .up)], eventsRead: 2, alive: now, now: now + 10_000)
        try store.setClock(now: noon + 800_000)
        #expect(
            try store.rows("SELECT up_seconds, down_seconds, unknown_seconds, uptime_percent FROM link_uptime_daily")
                == [[.real(180), .real(0), .real(43_820), .real(100)]])
    }

    @Test func aRestartOfControlAloneLosesNothing() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try writer.record([], eventsRead: 17, alive: noon + 20_000, now: noon + 20_000)
        let next = HistoryWriter(store)
        #expect(try next.begin(instance: "one", now: noon + 100_000) == 17)
        try next.record([define(adsl, 100)], eventsRead: 17, alive: noon + 100_000, now: noon + 100_000)
        try store.setClock(now: noon + 110_000)
        #expect(try store.rows("SELECT up_seconds, down_seconds FROM link_uptime_daily") == [[.real(100), .real(0)]])
    }

    @Test func whileTheEngineIsSilentNothingIsKnown() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try writer.record([], eventsRead: 0, alive: noon + 20_000, now: noon + 30_000)
        let lost = try writer.record([], eventsRead: 0, alive: noon + 20_000, now: noon + 60_000)
        #expect(lost)
        let back = try writer.record(
            [change(adsl, 90, .unknown, .up)], eventsRead: 0, alive: noon + 90_000, now: noon + 90_000)
        #expect(!back)
        try store.setClock(now: noon + 100_000)
        #expect(
            try store.rows("SELECT up_seconds, unknown_seconds FROM link_uptime_daily") == [[.real(20), .real(43_280)]])
    }

    @Test func noLinkIsDownBecauseNobodyRanIt() throws {
        func silent(_ events: [HistoryEvent], at seconds: Int64, alive: Int64) throws {
            try writer.record(
                events, eventsRead: 0, alive: alive == 0 ? 0 : noon + alive * 1000, now: noon + seconds * 1000)
        }
        // The engine has not begun yet, then it is away.
        try silent([define(adsl)], at: 0, alive: 0)
        try silent([], at: 100, alive: 0)
        try record([], at: 110)
        try silent([], at: 130, alive: 111)
        try silent([define(adsl, 200)], at: 200, alive: 111)
        try store.setClock(now: noon + 200_000)
        #expect(try store.rows("SELECT * FROM link_outages").isEmpty)
        // From here on it has its time of grace.
        try record([define(adsl, 300)], at: 300)
        try record([], at: 329)
        #expect(try store.rows("SELECT * FROM link_outages").isEmpty)
        try record([], at: 331)
        #expect(
            try store.rows("SELECT started_at, reason FROM link_outages")
                == [[.text("2024-03-10T12:05:30.000Z"), .text("never up")]])
    }

    @Test func whatABackupKnowsEndsWithIt() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([], at: 100)
        // Restored by the same daemon ten minutes later.
        #expect(try writer.begin(instance: "one", isRestored: true, now: noon + 700_000) == 0)
        #expect(try store.currentStates()[adsl] == .unknown)
        try record([define(adsl, 700)], at: 700)
        try record([], at: 740)
        try store.setClock(now: noon + 800_000)
        #expect(
            try store.rows("SELECT up_seconds, down_seconds, unknown_seconds FROM link_uptime_daily")
                == [[.real(90), .real(70), .real(43_840)]])
    }

    @Test func theTunnelIsUpWhileAnyLinkIs() throws {
        try record(
            [define(adsl), define(lte), change(adsl, 10, .connecting, .up), change(lte, 10, .connecting, .up)], at: 10)
        // adsl1 is away from 100 to 400, lte from 200 to 300; both are noticed late.
        try record([change(adsl, 130, .up, .down, heard: 100)], at: 130)
        try record([change(lte, 230, .up, .down, heard: 200)], at: 230)
        try record([change(lte, 300, .down, .up)], at: 300)
        try record([change(adsl, 400, .down, .lossy)], at: 400)
        try store.setClock(now: noon + 500_000)
        #expect(
            try store.rows("SELECT up_seconds, down_seconds FROM tunnel_uptime_daily") == [[.real(390), .real(100)]])
        #expect(try store.rows("SELECT saved_seconds FROM bonding_benefit") == [[.real(200)]])
    }

    @Test func aGapThatIsSeenOnlyAfterwardsIsFound() throws {
        try record(
            [define(adsl), define(lte), change(adsl, 10, .connecting, .up), change(lte, 10, .connecting, .up)], at: 10)
        try record([change(lte, 20, .up, .down, heard: 15)], at: 20)
        try record([change(lte, 50, .down, .up)], at: 50)
        // adsl1 was last heard at 30, as is noticed at 60: from 30 to 50 nothing was up.
        try record([change(adsl, 60, .up, .down, heard: 30)], at: 60)
        try store.setClock(now: noon + 100_000)
        #expect(try store.rows("SELECT up_seconds, down_seconds FROM tunnel_uptime_daily") == [[.real(70), .real(20)]])
    }

    @Test func daysInWhichNothingRunsAreThereAndUnknown() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([], at: 100)
        // Asked while the concentrator is stopped, and after its start.
        let (alive, now) = (noon + 100_000, noon + 2 * 86_400_000)
        let days: [[Cell]] = [
            [.text("2024-03-10"), .real(90), .real(86_310)], [.text("2024-03-11"), .real(0), .real(86_400)],
            [.text("2024-03-12"), .real(0), .real(43_200)],
        ]
        for hasStarted in [false, true] {
            if hasStarted { _ = try HistoryWriter(store).begin(instance: "two", now: now) }
            try store.setClock(now: now, knownUntil: hasStarted ? now : alive)
            for view in ["link_uptime_daily", "tunnel_uptime_daily"] {
                let rows = try store.rows("SELECT day, up_seconds, unknown_seconds FROM \(view) ORDER BY day")
                #expect(rows == days, "\(view)")
            }
            #expect(
                try store.rows("SELECT up_seconds, unknown_seconds FROM link_uptime_monthly")
                    == [[.real(90), .real(11.5 * 86_400 - 90)]])
        }
        try store.rollUp(Retention(), now: now)
        #expect(try store.rows("SELECT count(*) FROM uptime_days") == [[.integer(4)]])
    }

    @Test func aStopOnPurposeIsNoOutage() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([HistoryEvent(adsl, at: noon + 20_000, .stopped(from: .up, reason: "shutdown"))], at: 20)
        try record([], at: 300)
        try store.setClock(now: noon + 300_000)
        #expect(try store.rows("SELECT * FROM link_outages").isEmpty)
    }

    @Test func aRemovedTunnelKeepsItsHistoryAndARenamedOneTakesItAlong() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([change(adsl, 20, .up, .down, heard: 20)], at: 20)
        _ = try store.change("acme", by: byTest) { $0.name = try name("zenith") }
        #expect(try store.rows("SELECT DISTINCT tunnel FROM link_outages") == [[.text("zenith")]])
        try store.remove("zenith", by: byTest)
        #expect(
            try store.rows("SELECT tunnel, ended_at IS NULL FROM link_outages") == [[.text("zenith"), .integer(0)]])
        #expect(try store.rows("SELECT count(*) FROM intervals WHERE ended_at IS NULL") == [[.integer(0)]])
    }

    @Test func whatIsRecordedLateUnderAnOldNameKeepsNoOtherTunnelFromIt() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        _ = try store.change("acme", by: byTest) { $0.name = try name("zenith") }
        try record([define(adsl, 11)], at: 11)
        _ = try store.change("zenith", by: byTest) { $0.name = try name("acme") }
        try record([change(adsl, 20, .up, .down, heard: 20)], at: 20)
        #expect(try store.rows("SELECT tunnel, link FROM link_outages") == [[.text("acme"), .text("adsl1")]])
    }

    @Test func tunnelsThatChangeNamesTakeTheirHistoryAlong() throws {
        try store.add(try makeTunnel("second", port: 6000), by: byTest)
        let other = LinkSubject(tunnel: "second", link: "adsl1")
        try record([define(adsl), define(other), change(adsl, 10, .connecting, .up)], at: 10)
        try record([change(adsl, 20, .up, .down, heard: 20)], at: 20)
        try store.renameHistory([("acme", "second"), ("second", "acme")])
        try record([change(LinkSubject(tunnel: "second", link: "adsl1"), 30, .down, .up)], at: 30)
        try store.setClock(now: noon + 40_000)
        #expect(
            try store.rows("SELECT tunnel, seconds FROM link_outages WHERE seconds > 5")
                == [[.text("second"), .real(10)]])
        #expect(try store.rows("SELECT count(*) FROM series WHERE retired_at IS NOT NULL") == [[.integer(0)]])
    }

    @Test func underANameThatIsTakenAgainThereIsOneHistory() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([change(adsl, 20, .up, .down, heard: 20)], at: 20)
        try store.add(try makeTunnel("second", port: 6000), by: byTest)
        let other = LinkSubject(tunnel: "second", link: "adsl1")
        try record([define(other, 20), change(other, 30, .connecting, .up)], at: 30)
        try record([], at: 100)
        try store.remove("acme", by: byTest)
        _ = try store.change("second", by: byTest) { $0.name = try name("acme") }
        try record([change(adsl, 140, .up, .down, heard: 130)], at: 140)
        try store.setClock(now: noon + 86_400_000)
        for view in ["link_uptime_monthly", "link_uptime_daily", "tunnel_uptime_daily"] {
            #expect(try store.rows("SELECT * FROM \(view) WHERE unknown_seconds < 0").isEmpty, "\(view)")
        }
        #expect(try store.rows("SELECT up_seconds FROM link_uptime_monthly WHERE tunnel = 'acme'") == [[.real(100)]])
        let names = try store.rows("SELECT DISTINCT tunnel FROM link_outages ORDER BY tunnel")
        #expect(names.count == 2 && names.first == [.text("acme")])
        if case .text(let old)? = names.last?.first { #expect(old.hasPrefix("acme (removed 20")) }
    }

    /// Control was killed before it wrote that they were gone, or they were deleted while it was away.
    @Test(arguments: ["one", "two"])
    func whatIsGoneWhenControlComesBackEndedWhenItWasLastSeen(instance: String) throws {
        try store.add(try makeTunnel("second", port: 6000), by: byTest)
        let other = LinkSubject(tunnel: "second", link: "adsl1")
        try record([adsl, lte, other].map { define($0) }, at: 0)
        try record([adsl, lte, other].map { change($0, 10, .connecting, .up) }, at: 10)
        try record([change(adsl, 50, .up, .down, heard: 50)], at: 100)
        try store.sql("DELETE FROM links WHERE name = 'lte'; DELETE FROM tunnels WHERE name = 'second'")
        let next = HistoryWriter(store)
        _ = try next.begin(instance: instance, now: noon + 400_000)
        #expect(try store.currentStates() == [adsl: instance == "one" ? .down : .unknown])
        let now = noon + 500_000
        try next.record([define(adsl, 400)], eventsRead: 0, alive: now, now: now)
        try store.setClock(now: now)
        #expect(
            try store.rows(
                "SELECT up_seconds, down_seconds FROM link_uptime_daily WHERE link = 'lte' OR tunnel = 'second'")
                == [[.real(90), .real(0)], [.real(90), .real(0)]])
        // The only link that is left has been away: so has the tunnel.
        #expect(
            try store.rows("SELECT tunnel, up_seconds, down_seconds FROM tunnel_uptime_daily ORDER BY tunnel") == [
                [.text("acme"), .real(90), .real(instance == "one" ? 400 : 0)],
                [.text("second"), .real(90), .real(0)],
            ])
        #expect(try store.rows("SELECT count(*) FROM series WHERE retired_at IS NULL") == [[.integer(2)]])
    }

    @Test func tunnelsRenamedWhileControlWasAwayTakeTheirHistoryAlong() throws {
        try store.add(try makeTunnel("second", port: 6000), by: byTest)
        let other = LinkSubject(tunnel: "second", link: "adsl1")
        try record([define(adsl), define(other), change(adsl, 10, .connecting, .up)], at: 10)
        try record([change(adsl, 20, .up, .down, heard: 20)], at: 20)
        try store.sql(
            """
            UPDATE tunnels SET name = 'x' WHERE name = 'acme'; UPDATE tunnels SET name = 'acme' WHERE name = 'second';
            UPDATE tunnels SET name = 'second' WHERE name = 'x'
            """)
        let next = HistoryWriter(store)
        _ = try next.begin(instance: "one", now: noon + 30_000)
        #expect(try store.rows("SELECT tunnel FROM link_outages") == [[.text("second")]])
        #expect(
            try store.currentStates()
                == [LinkSubject(tunnel: "second", link: "adsl1"): .down, adsl: .unknown])
        // One that was defined anew under an old name is what is renamed next.
        try store.sql("DELETE FROM tunnels WHERE name = 'second'")
        var again = try makeTunnel("second", links: ["adsl1", "lte"])
        again.interface = try InterfaceName("mlother")
        try store.add(again, by: byTest)
        _ = try next.begin(instance: "one", now: noon + 40_000)
        try store.sql("UPDATE tunnels SET name = 'third' WHERE name = 'second'")
        _ = try next.begin(instance: "one", now: noon + 50_000)
        #expect(try store.rows("SELECT tunnel FROM link_outages") == [[.text("third")]])
    }

    @Test func aTunnelRenamedWithSQLAndThenChangedTakesItsHistoryAlong() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try store.sql("UPDATE tunnels SET name = 'zenith'")
        _ = try store.change("zenith", by: byTest) { $0.timeout = 12 }
        #expect(try store.currentStates() == [LinkSubject(tunnel: "zenith", link: "adsl1"): .up])
        try store.sql("UPDATE tunnels SET name = 'acme'")
        _ = try store.change("acme", by: byTest) { $0.name = try name("apex") }
        #expect(try store.currentStates() == [LinkSubject(tunnel: "apex", link: "adsl1"): .up])
    }

    @Test func aTunnelsChangesTellTheirReasonAlsoWhereTheyWereFoundLate() throws {
        func changes() throws -> [Cell] {
            try store.rows(
                """
                SELECT printf('%d %s-%s %s', (at - \(noon)) / 1000, previous, state_changes.state, reason)
                FROM state_changes JOIN series ON series.id = series_id AND link = '' ORDER BY state_changes.id
                """
            ).map { $0[0] }
        }
        var expected: [Cell] = [.text("10 unknown-up adsl1: test")]
        try record([define(adsl), define(lte)], at: 0)
        try record([change(adsl, 10, .connecting, .up)], at: 10)
        #expect(try changes() == expected)
        try record([change(lte, 20, .connecting, .up)], at: 20)
        // Away at the same time, of which the second is noticed when the first has come back.
        try record([change(adsl, 100, .up, .down, heard: 80)], at: 100)
        try record([change(adsl, 110, .down, .up)], at: 110)
        try record([change(lte, 120, .up, .down, heard: 90)], at: 120)
        expected += [.text("90 up-down lte: test"), .text("110 down-up lte: test")]
        #expect(try changes() == expected)
        // Removed as a whole, it is not down first.
        try store.remove("acme", by: byTest)
        let last = try changes().dropFirst(expected.count)
        #expect(last.count == 1 && "\(last)".contains("up-unknown removed"), "\(last)")
        let links = try store.rows("SELECT count(*) FROM state_changes WHERE reason = 'removed' AND state = 'unknown'")
        #expect(links == [[.integer(3)]])
    }

    @Test func aTunnelThatIsDisabledIsSoOnce() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([HistoryEvent(adsl, at: noon + 20_000, .disabled)], at: 20)
        try record([HistoryEvent(adsl, at: noon + 20_100, .stopped(from: .up, reason: "reconfigured"))], at: 21)
        let reasons = try store.rows(
            "SELECT reason FROM state_changes JOIN series ON series.id = series_id AND link <> '' WHERE state = 'unknown'"
        )
        #expect(reasons == [[.text("disabled")]])
    }

    @Test func monthsSumDaysUpAndCountWhatHasElapsed() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try store.setClock(now: noon + 30 * 86_400_000)
        // From the 10th at 12:00:10 to the end of March; April to the 9th at noon.
        let march: [Cell] = [.text("2024-03"), .real(1_857_590), .real(820_810)]
        let april: [Cell] = [.text("2024-04"), .real(734_400), .real(0)]
        #expect(
            try store.rows("SELECT month, up_seconds, unknown_seconds FROM link_uptime_monthly ORDER BY month")
                == [march, april])
    }

    /// Ten days of a line that is away for a minute in every ten, beside one that is up.
    @Test func aLineThatFlapsLeavesABoundedTraceAndTheSameSums() throws {
        try record([define(adsl), define(lte)], at: 0)
        try record([change(adsl, 10, .connecting, .up), change(lte, 10, .connecting, .up)], at: 10)
        let day: Int64 = 86_400_000
        let start = dayStart(noon) + day
        try store.sql(
            """
            DELETE FROM state_changes;
            UPDATE intervals SET ended_at = \(start) WHERE ended_at IS NULL
                AND series_id IN (SELECT id FROM series WHERE link <> 'lte');
            CREATE TEMP TABLE flaps AS
            WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 1439)
            SELECT id, link, \(start) + n * 600000 AS at FROM n CROSS JOIN series WHERE link <> 'lte';
            INSERT INTO intervals (series_id, state, degraded, started_at, ended_at)
            SELECT id, iif(link = '', 'up', 'down'), link = '', at, at + 60000 FROM flaps
            UNION ALL SELECT id, 'up', 0, at + 60000, at + 600000 FROM flaps
            UNION ALL SELECT id, 'up', 0, \(start + 10 * day), NULL FROM series WHERE link <> 'lte';
            INSERT INTO state_changes (series_id, at, previous, state)
            SELECT id, at, 'up', 'down' FROM flaps WHERE link = 'adsl1'
            UNION ALL SELECT id, at + 60000, 'down', 'up' FROM flaps WHERE link = 'adsl1';
            DROP TABLE flaps;
            """)
        let now = start + 10 * day + 3_600_000
        try store.setClock(now: now)
        let links =
            "SELECT day, link, up_seconds, down_seconds, unknown_seconds FROM link_uptime_daily ORDER BY day, link"
        let tunnels = "SELECT day, up_seconds, down_seconds, unknown_seconds FROM tunnel_uptime_daily ORDER BY day"
        let before = (try store.rows(links), try store.rows(tunnels))
        #expect(before.0.count == 24 && before.1.count == 12)
        try store.rollUp(Retention(), now: now)
        #expect(try store.rows(links) == before.0 && store.rows(tunnels) == before.1)
        // The last two days are whole; of those before, there are outages alone.
        try store.sql("UPDATE settings SET value = 0 WHERE name = 'intervals_whole_from'")
        try store.thinOut(most: 900)
        func count(_ rows: String) throws -> [[Cell]] { try store.rows("SELECT count(*) FROM \(rows)") }
        #expect(try count("state_changes") == [[.integer(300 + 2 * 288)]])
        #expect(try count("link_outages") == [[.integer(300 + 288)]])
        #expect(try count("intervals WHERE state = 'up' AND ended_at < \(start + 8 * day)") == [[.integer(0)]])
        #expect(try store.rows(links) == before.0 && store.rows(tunnels) == before.1)
        // An outage that is noticed very late changes the sums of those days alone.
        let change = HistoryEvent.Kind.changed(from: .up, to: .down, lastHeard: start + 5 * day, reason: "test")
        try writer.record([HistoryEvent(lte, at: now, change)], eventsRead: 0, alive: now, now: now)
        let after = (try store.rows(links), try store.rows(tunnels))
        #expect(after.0.prefix(18) == before.0.prefix(18) && after.1.prefix(9) == before.1.prefix(9))
        #expect(after.0[18] == before.0[18] && after.0[19][2...] == [.real(0), .real(86_400), .real(0)])
        #expect(after.1[9][1...] == [.real(77_760), .real(8640), .real(0)])
    }

    @Test func trafficIsWhatCountersGained() throws {
        try record([define(adsl)], at: 0)
        func sample(_ tx: Int64, _ rx: Int64, rtt: Int64?, at seconds: Int64, counters: Int64 = 1) throws {
            try store.record(
                [
                    LinkSample(
                        subject: adsl, txTotal: tx, rxTotal: rx, samples: 6, srttMicroseconds: rtt, lossPermille: 10)
                ], counters: counters, now: noon + seconds * 1000)
        }
        try sample(100, 1000, rtt: 10_000, at: 60)
        try sample(150, 3000, rtt: 30_000, at: 120)
        // The counters begin again: another daemon's.
        try sample(7, 5, rtt: nil, at: 180, counters: 2)
        let expected: [[Cell]] = [
            [.text("2024-03-10T12:00:00.000Z"), .integer(157), .integer(3005), .real(20), .real(1)]
        ]
        let query = "SELECT hour, tx_bytes, rx_bytes, srtt_ms, loss_percent FROM link_traffic_hourly"
        let byDay = "SELECT day, tx_bytes, rx_bytes, srtt_ms, loss_percent FROM link_traffic_daily"
        let expectedByDay: [[Cell]] = [[.text("2024-03-10")] + expected[0].dropFirst()]
        try store.setClock(now: noon + 200_000)
        #expect(try store.rows(query) == expected)
        #expect(try store.rows(byDay) == expectedByDay)
        // Summed up, it says the same, and keeps it when the minutes are forgotten.
        try store.rollUp(Retention(), now: noon + 3_600_000)
        #expect(try store.rows(query) == expected)
        #expect(try store.rows(byDay) == expectedByDay)
        try store.rollUp(Retention(samples: 1, hourly: 90, daily: 90), now: noon + 3 * 86_400_000)
        #expect(try store.rows("SELECT count(*) FROM samples_minute") == [[.integer(0)]])
        #expect(try store.rows(query) == expected)
        try store.rollUp(Retention(samples: 1, hourly: 2, daily: 90), now: noon + 3 * 86_400_000)
        #expect(try store.rows(query) == [])
        #expect(try store.rows(byDay) == expectedByDay)
    }

    /// What is still to be summed up is not forgotten, however short the time that it is to be kept.
    @Test func aDayIsSummedUpBeforeItsHoursAreForgotten() throws {
        try record([define(adsl)], at: 0)
        let retention = Retention(samples: 1, hourly: 1, daily: 90)
        for minute in stride(from: Int64(0), through: 3 * 1440, by: 1) {
            let now = noon + minute * 60_000
            let sample = LinkSample(
                subject: adsl, txTotal: minute, rxTotal: 0, samples: 1, srttMicroseconds: nil, lossPermille: nil)
            try store.record([sample], counters: 1, now: now)
            if minute % 10 == 1 { try store.rollUp(retention, now: now) }
        }
        #expect(try store.rows("SELECT sum(tx_bytes) FROM samples_day WHERE at > \(noon)") == [[.integer(2 * 1440)]])
    }

    /// What the lines carried since a backup was made is of a time that the backup does not know.
    @Test func afterARestoreTrafficIsCountedFromThen() throws {
        try record([define(adsl)], at: 0)
        func sample(_ total: Int64) -> LinkSample {
            LinkSample(subject: adsl, txTotal: total, rxTotal: 0, samples: 1, srttMicroseconds: nil, lossPermille: nil)
        }
        try store.record([sample(1000)], counters: 1, now: noon + 60_000)
        let file = scratch.path + "/backup.db"
        try store.backup(to: file)
        try store.record([sample(1_000_000_000)], counters: 1, now: noon + 120_000)
        try store.restore(from: file)
        try store.setBaseline([sample(2_000_000_000)], counters: 1)
        try store.record([sample(2_000_000_070)], counters: 1, now: noon + 180_000)
        #expect(try store.rows("SELECT sum(tx_bytes) FROM samples_minute") == [[.integer(1070)]])
    }

    @Test func anOutageBeginsWhenTheLinkWasLastHeardAlsoIfItSeemedLossyAfterwards() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([change(adsl, 95, .up, .lossy)], at: 95)
        try record([change(adsl, 98, .lossy, .slow)], at: 98)
        try record([change(adsl, 100, .slow, .down, heard: 90)], at: 100)
        try record([change(adsl, 120, .down, .up)], at: 120)
        try store.setClock(now: noon + 130_000)
        #expect(
            try store.rows("SELECT up_seconds, lossy_seconds, slow_seconds, down_seconds FROM link_uptime_daily")
                == [[.real(90), .real(0), .real(0), .real(30)]])
        // No further than it was up for certain.
        try record([HistoryEvent(adsl, at: noon + 140_000, .disabled), define(adsl, 150)], at: 150)
        try record([change(adsl, 160, .unknown, .up), change(adsl, 161, .up, .lossy)], at: 161)
        try record([change(adsl, 170, .lossy, .down, heard: 120)], at: 170)
        try expectInOrder()
        #expect(
            try store.rows("SELECT (started_at - \(noon)) / 1000 FROM intervals WHERE series_id = 1 AND state = 'down'")
                == [[.integer(90)], [.integer(160)]])
    }

    @Test func theApisTablesAreThoseOfTheViews() async throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([change(adsl, 20, .up, .down, heard: 15)], at: 20)
        try store.setClock(now: noon + 100_000)
        let range = HistoryRange(tunnel: "acme", since: noon - 86_400_000, until: noon + 86_400_000)
        #expect(try await store.uptimeByDay(range).rows.count == 2)
        #expect(try await store.uptimeByMonth(range).rows.count == 1)
        #expect(try await store.trafficByHour(range).rows.isEmpty)
        let changes = try await store.stateChanges(range)
        #expect(changes.rows.filter { $0[2] == .text("adsl1") }.map { $0[4] } == [.text("up"), .text("down")])
        #expect(try await store.uptimeByDay(range, limit: 2).rows.count == 2)
        await #expect(throws: StoreError.self) { try await store.uptimeByDay(range, limit: 1) }
        #expect(try await store.uptimeByDay(HistoryRange(tunnel: "nosuch")).rows.isEmpty)
        #expect(try await store.uptimeByDay(HistoryRange(since: noon + 2 * 86_400_000)).rows.isEmpty)
    }
}
