import Testing

@testable import Store

// What is done to the wall clock must cost no history.
extension HistoryTests {
    @Test func aClockThatIsSetBackMakesNoNegativeInterval() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([change(adsl, 4000, .up, .down, heard: 4000)], at: 4000)
        try record([change(adsl, 300, .down, .up)], at: 300)
        try record([change(adsl, 400, .up, .down, heard: 390)], at: 400)
        try store.setClock(now: noon + 500_000)
        #expect(try store.rows("SELECT count(*) FROM intervals WHERE ended_at < started_at") == [[.integer(0)]])
        #expect(try store.rows("SELECT count(*) FROM link_outages WHERE seconds < 0") == [[.integer(0)]])
        let day = try store.rows(
            "SELECT up_seconds + lossy_seconds + slow_seconds + down_seconds + unknown_seconds FROM link_uptime_daily")
        #expect(day == [[.real(43_700)]])
    }

    func expectInOrder(sourceLocation: SourceLocation = #_sourceLocation) throws {
        let bad = try store.rows(
            """
            SELECT a.* FROM intervals AS a JOIN intervals AS b ON a.series_id = b.series_id AND a.id <> b.id
            WHERE a.ended_at < a.started_at
                OR (a.started_at < a.ended_at AND b.started_at >= a.started_at AND b.started_at < a.ended_at
                    AND (b.ended_at IS NULL OR b.ended_at > b.started_at))
            """)
        #expect(bad.isEmpty, sourceLocation: sourceLocation)
        for view in ["link_uptime_daily", "link_uptime_monthly"] {
            let negative = try store.rows("SELECT * FROM \(view) WHERE unknown_seconds < 0")
            #expect(negative.isEmpty, "\(view)", sourceLocation: sourceLocation)
        }
    }

    /// Until NTP has set it: by years, or by a zone's hours.
    @Test(arguments: [4 * 365 * 86_400, 5 * 3600] as [Int64], [true, false])
    func aClockThatIsBehindForAWhileAfterTheStartCostsNoHistory(behind: Int64, isNewRun: Bool) throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([change(adsl, 4000, .up, .down, heard: 3990)], at: 4000)
        try record([change(adsl, 4100, .down, .up)], at: 4100)
        for second in stride(from: Int64(4110), through: 20_000, by: 10) { try record([], at: second) }
        let before = try store.rows("SELECT started_at, ended_at, seconds FROM link_outages")
        #expect(before.count == 1)
        let next = HistoryWriter(store)
        _ = try next.begin(instance: isNewRun ? "two" : "one", now: noon + (20_100 - behind) * 1000)
        func go(_ events: [HistoryEvent], at seconds: Int64) throws -> Bool {
            try next.record(events, eventsRead: 0, alive: noon + seconds * 1000, now: noon + seconds * 1000)
        }
        for second in Int64(20_100)...20_130 {
            let now = second - behind
            // Whoever records is to say all of it again later.
            #expect(try go([define(adsl, now), change(adsl, now, .unknown, .up)], at: now))
            #expect(next.isClockDoubtful)
        }
        try store.setClock(now: noon + (20_130 - behind) * 1000)
        try expectInOrder()
        #expect(try !go([define(adsl, 20_131), change(adsl, 20_131, .unknown, .up)], at: 20_131))
        #expect(!next.isClockDoubtful)
        try store.setClock(now: noon + 20_200_000)
        try expectInOrder()
        #expect(try store.rows("SELECT started_at, ended_at, seconds FROM link_outages") == before)
        let day = try store.rows("SELECT up_seconds, down_seconds, unknown_seconds FROM link_uptime_daily")
        // Unknown: before the first 10 s, and the 131 s until the clock had returned.
        let expected: [Cell] = [.real(19_949), .real(110), .real(43_341)]
        #expect(day == [expected])
    }

    /// It has gone on for so long that it must be right; what was recorded before was not.
    @Test func aClockThatStaysBehindIsBelievedInTheEnd() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        try record([], at: 11)
        let behind: Int64 = 10 * 86_400
        let next = HistoryWriter(store)
        _ = try next.begin(instance: "two", now: noon + (60 - behind) * 1000)
        var believedAt: Int64?
        for second in stride(from: Int64(60), through: 4000, by: 20) {
            let now = noon + (second - behind) * 1000
            let event = change(adsl, second - behind, .unknown, .up)
            let isLost = try next.record([event], eventsRead: 0, alive: now, now: now)
            if !isLost, believedAt == nil { believedAt = second }
        }
        #expect(believedAt == 3660)
        try store.setClock(now: noon + (4000 - behind) * 1000)
        try expectInOrder()
        #expect(try store.currentStates()[adsl] == .up)
        #expect(try store.rows("SELECT sum(up_seconds) FROM link_uptime_daily") == [[.real(340)]])
    }

    /// It was right before, and is again.
    @Test func aClockThatLeapsYearsAheadAndBackIsBelievedAtOnce() throws {
        try record([define(adsl), change(adsl, 10, .connecting, .up)], at: 10)
        let ahead: Int64 = 12 * 365 * 86_400
        for second in Int64(11)...20 { try record([], at: second + ahead) }
        try record([change(adsl, 21, .unknown, .up)], at: 21)
        try record([change(adsl, 30, .up, .down, heard: 30)], at: 30)
        try store.setClock(now: noon + 40_000)
        try expectInOrder()
        #expect(try store.rows("SELECT sum(down_seconds) FROM link_uptime_daily") == [[.real(10)]])
    }

    @Test func trafficIsCountedOnceAfterTheClockWasSetBackOverTheHour() throws {
        try record([define(adsl)], at: 0)
        func sample(_ total: Int64, at seconds: Int64) throws {
            let sample = LinkSample(
                subject: adsl, txTotal: total, rxTotal: total, samples: 6, srttMicroseconds: nil, lossPermille: nil)
            try store.record([sample], counters: 1, now: noon + seconds * 1000)
        }
        try sample(100, at: 60)
        try store.rollUp(Retention(), now: noon + 3_720_000)
        try record([], at: 3720)
        // Back into the hour that was summed up.
        try record([], at: 3000)
        try sample(150, at: 3000)
        try store.setClock(now: noon + 3_060_000)
        func expectAll(sourceLocation: SourceLocation = #_sourceLocation) throws {
            for view in ["link_traffic_hourly", "link_traffic_daily"] {
                let sums = try store.rows("SELECT sum(tx_bytes), sum(rx_bytes) FROM \(view)")
                #expect(sums == [[.integer(150), .integer(150)]], "\(view)", sourceLocation: sourceLocation)
            }
        }
        try expectAll()
        try store.rollUp(Retention(), now: noon + 3_720_000)
        try expectAll()
        try store.rollUp(Retention(), now: noon + 86_400_000)
        try expectAll()
    }

    @Test func trafficIsNotLostWhenTheClockIsSetBackALittleOverTheHour() throws {
        try record([define(adsl)], at: 0)
        for (total, second) in [(100, 3590), (110, 3601), (130, 3595)] as [(Int64, Int64)] {
            let sample = LinkSample(
                subject: adsl, txTotal: total, rxTotal: 0, samples: 1, srttMicroseconds: nil, lossPermille: nil)
            try store.record([sample], counters: 1, now: noon + second * 1000)
            try store.rollUp(Retention(), now: noon + second * 1000)
        }
        try store.setClock(now: noon + 3_800_000)
        for rolled in [Int64(3800), 90_000] {
            try store.rollUp(Retention(), now: noon + rolled * 1000)
            #expect(try store.rows("SELECT sum(tx_bytes) FROM link_traffic_hourly") == [[.integer(130)]])
        }
    }
}
