import AdminAPI
import Foundation
import HTTPTypes
import LinuxSystem
import Logging
import ProcessChannel
import Store
import Synchronization
import Testing
import TunnelModel

@testable import Control

/// What the engine shows, as history has it.
@Suite struct RecordingTests {
    private let start: Int64
    /// The time is that of the last tick, however long the test takes.
    private let now: SettableTime

    init() {
        start = Clock.wallMilliseconds()
        now = SettableTime(start)
    }

    private func makeFixture() async throws -> Fixture { try await Fixture { [now] in now.milliseconds } }

    /// A second of the daemon's, while the engine lives; all in seconds.
    ///
    /// - Parameters:
    ///   - step: how far the wall clock was set ahead so far.
    ///   - slept: for how long the machine slept so far.
    private func tick(
        _ control: Fixture, _ seconds: Int64, alive: Int64? = nil, step: Int64 = 0, slept: Int64 = 0
    ) async {
        now.milliseconds = start + (seconds + step) * 1000
        control.state.header.pointee.heartbeat = start + ((alive ?? seconds) + step) * 1000
        await control.directory.tick(
            LifeSign.Clocks(
                wall: now.milliseconds, system: seconds * 1000, awake: (seconds - slept) * 1000))
    }

    private func show(_ control: Fixture, _ tunnel: String, _ state: LinkState) async throws {
        for link in ["adsl", "lte"] {
            try await control.show(tunnel, link) {
                $0.state = state.rawValue
                $0.since = start
            }
        }
    }

    /// Tunnel acme, which was up in second 1 and is down in second 2.
    private func aTunnelThatIsDown() async throws -> Fixture {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        try await show(control, "acme", .up)
        await tick(control, 1)
        try await show(control, "acme", .down)
        await tick(control, 2)
        return control
    }

    private func openStates(_ control: Fixture, _ tunnel: String) throws -> [HistoryState] {
        let states = try control.store.currentStates()
        return ["adsl", "lte"].compactMap { states[LinkSubject(tunnel: tunnel, link: $0)] }
    }

    @Test(arguments: [false, true])
    func aNameIsTakenFromARemovedTunnelAtOnceAndTheLinksAreUp(bySQL: Bool) async throws {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        try await control.addTunnel("second", port: 6080)
        for tunnel in ["acme", "second"] { try await show(control, tunnel, .up) }
        await tick(control, 1)
        #expect(try openStates(control, "acme") == [.up, .up])
        if bySQL {
            try sqlite(
                control.store.path,
                "DELETE FROM tunnels WHERE name = 'second'; UPDATE tunnels SET name = 'second' WHERE name = 'acme'")
            let answer = try await control.send(.post, "/v1/reload")
            #expect(answer.status == 200, "\(answer.text)")
        } else {
            #expect(try await control.send(.delete, "/v1/tunnels/second").status == 204)
            #expect(try await control.send(.patch, "/v1/tunnels/acme", #"{"name": "second"}"#).status == 200)
        }
        for second in [2, 3, 60, 61] { await tick(control, Int64(second)) }
        #expect(try openStates(control, "second") == [.up, .up])
        #expect(try openStates(control, "acme").isEmpty)
        #expect(try control.store.query("SELECT * FROM link_outages").rows.isEmpty)
    }

    @Test func tunnelsThatExchangeTheirNamesKeepTheirStates() async throws {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        try await control.addTunnel("second", port: 6080)
        try await show(control, "acme", .up)
        for second in [1, 40] { await tick(control, Int64(second)) }
        #expect(try openStates(control, "second") == [.down, .down])
        try sqlite(
            control.store.path,
            """
            UPDATE tunnels SET name = 'x' WHERE name = 'acme'; UPDATE tunnels SET name = 'acme' WHERE name = 'second';
            UPDATE tunnels SET name = 'second' WHERE name = 'x'
            """)
        #expect(try await control.send(.post, "/v1/reload").status == 200)
        for second in [41, 42] { await tick(control, Int64(second)) }
        #expect(try openStates(control, "second") == [.up, .up])
        #expect(try openStates(control, "acme") == [.down, .down])
        let changes = try control.store.query(
            "SELECT count(*) FROM state_changes JOIN series ON series.id = series_id AND link <> ''")
        #expect(changes.rows == [[.integer(4)]])
    }

    @Test func aRemovedLinkIsNotSeenAnyMoreWhileTheSupervisorStillHasIt() async throws {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        try await show(control, "acme", .up)
        await tick(control, 1)
        let slots = try #require(await control.directory.entries.values.first).linkSlots
        #expect(try await control.send(.delete, "/v1/tunnels/acme/links/lte").status == 200)
        // Said before the supervisor knew.
        await control.directory.handle(
            .assigned(id: 1, generation: 1, slot: 1, linkSlots: slots.map { LinkSlot(link: $0, slot: $1) }))
        for second in [2, 3] { await tick(control, Int64(second)) }
        #expect(try openStates(control, "acme") == [.up])
    }

    @Test func aTunnelRenamedWithSQLAndThenChangedKeepsItsStates() async throws {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        try await show(control, "acme", .up)
        await tick(control, 1)
        try sqlite(control.store.path, "UPDATE tunnels SET name = 'zenith'")
        #expect(try await control.send(.patch, "/v1/tunnels/zenith", #"{"timeout": 20}"#).status == 200)
        for second in [2, 3] { await tick(control, Int64(second)) }
        #expect(try openStates(control, "zenith") == [.up, .up])
        #expect(try openStates(control, "acme").isEmpty)
        let changes = try control.store.query(
            "SELECT count(*) FROM state_changes JOIN series ON series.id = series_id AND link <> ''")
        #expect(changes.rows == [[.integer(2)]])
    }

    @Test(arguments: [true, false])
    func aNameFreedWithSQLIsTakenByAnotherTunnelWithAHistoryOfItsOwn(isRenamed: Bool) async throws {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        try await show(control, "acme", .up)
        await tick(control, 1)
        try sqlite(
            control.store.path, isRenamed ? "UPDATE tunnels SET name = 'zenith'" : "DELETE FROM tunnels")
        try await control.addTunnel("acme", port: 6080)
        for second in [2, 3] { await tick(control, Int64(second)) }
        #expect(try openStates(control, "acme") == [.unknown, .unknown])
        #expect(try openStates(control, "zenith") == (isRenamed ? [.up, .up] : []))
    }

    @Test func ofATunnelThatIsKeptWithoutADefinitionNothingIsKnown() async throws {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        try await show(control, "acme", .up)
        await tick(control, 1)
        try sqlite(control.store.path, "UPDATE tunnels SET ip4 = '10.0.0.300/24'")
        let recorder = Recorder(
            store: control.store, instance: "test", retention: Retention(),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let next = control.successor(recorder) { _ in }
        try await next.start(eventsRead: try await recorder.begin(now: start + 2000))
        await next.tick(LifeSign.Clocks(wall: start + 3000, system: 3000, awake: 3000))
        #expect(try openStates(control, "acme") == [.unknown, .unknown])
    }

    @Test func whatWasDownIsDownAgainAfterATimeThatNobodySaw() async throws {
        let control = try await aTunnelThatIsDown()
        #expect(try openStates(control, "acme") == [.down, .down])
        await tick(control, 3)
        await tick(control, 20, alive: 3)
        #expect(try openStates(control, "acme") == [.unknown, .unknown])
        for second in [21, 52] { await tick(control, Int64(second)) }
        #expect(try openStates(control, "acme") == [.down, .down])
    }

    /// The engine runs on, whatever time it is said to be.
    @Test func anOutageLastsWhileTheClockIsSet() async throws {
        let control = try await aTunnelThatIsDown()
        for (second, step) in [(3, 600), (4, 600), (5, -30), (6, -30), (7, 0)] as [(Int64, Int64)] {
            await tick(control, second, step: step)
        }
        let outages = try control.store.query("SELECT link, ended_at FROM link_outages ORDER BY link").rows
        #expect(outages == [[.text("adsl"), .null], [.text("lte"), .null]])
    }

    @Test(arguments: [true, false]) func ofWhatNobodyLivedThroughNothingIsKnown(isSleep: Bool) async throws {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        try await show(control, "acme", .up)
        for second in [1, 2] { await tick(control, Int64(second)) }
        // An hour of the machine's sleep; or two days by which the clock leaps.
        let (slept, step) = isSleep ? (3600, 0) : (0, 2 * 86_400) as (Int64, Int64)
        for second in 3...6 { await tick(control, Int64(second) + slept, step: step, slept: slept) }
        #expect(try openStates(control, "acme") == [.up, .up])
        let spans = try control.store.query(
            """
            SELECT state, (ended_at - started_at) / 1000 FROM intervals
            WHERE series_id = (SELECT id FROM series WHERE link = 'adsl') ORDER BY started_at, intervals.id
            """
        ).rows.filter { $0[1] != .integer(0) }
        // Unknown until it is first seen to be up, too.
        try #require(spans.map { $0[0] } == [.text("unknown"), .text("up"), .text("unknown"), .text("up")], "\(spans)")
        #expect(spans[2][1] == .integer(slept + step + 2), "\(spans)")
    }

    @Test func aRestoredDatabaseKnowsWhatIsSeenNow() async throws {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        try await control.addTunnel("second", port: 6080)
        for second in [1, 40] { await tick(control, Int64(second)) }
        let backup = "\(control.store.path).backup"
        try control.store.backup(to: backup)
        try await show(control, "acme", .up)
        await tick(control, 50)
        #expect(try openStates(control, "acme") == [.up, .up] && openStates(control, "second") == [.down, .down])
        #expect(try await control.send(.patch, "/v1/tunnels/acme", #"{"name": "other"}"#).status == 200)
        let data = try #require(FileManager.default.contents(atPath: backup))
        let answer = try await control.send(.post, "/v1/restore", bytes: Array(data))
        #expect(answer.status == 200, "\(answer.text)")
        await tick(control, 51)
        #expect(try openStates(control, "acme") == [.up, .up])
        #expect(try openStates(control, "second") == [.unknown, .unknown])
        await tick(control, 90)
        #expect(try openStates(control, "acme") == [.up, .up] && openStates(control, "second") == [.down, .down])
    }

    @Test(arguments: [Int64.max, Int64.min, -1]) func anImpossibleTimeOfTheEnginesIsNoTime(time: Int64) async throws {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        let entry = try #require(await control.directory.entries.values.first)
        let slot = try #require(entry.slot)
        let reasons: [LinkReason] = [.reconfigured, .timeout, .none]
        for (index, reason) in reasons.enumerated() {
            var event = StateMap.Event()
            event.number = UInt64(index) + 1
            event.time = time
            event.lastHeard = time
            event.slot = slot
            event.linkSlot = try #require(entry.linkSlots.values.min())
            event.state = LinkState.down.rawValue
            event.previousState = LinkState.up.rawValue
            event.reason = reason.rawValue
            control.state.event(event.number).pointee = event
        }
        control.state.header.pointee.eventCount = UInt64(reasons.count)
        for second in [1, 2, 40] { await tick(control, Int64(second)) }
        #expect(await control.directory.eventsRead == 3)
        #expect(try control.store.query("SELECT * FROM state_changes WHERE at < 0 OR last_heard < 0").rows.isEmpty)
    }

    @Test func theDaemonsUptimeIsThatOfTheProcessAbove() {
        let uptime = SupervisorIdentity.uptime()
        #expect(uptime >= 0 && uptime < 7 * 86_400)
        // Of the same process, whoever asks.
        #expect((0...1).contains(SupervisorIdentity.uptime() - uptime))
    }

    @Test func whatIsReloadedSaysWhen() async throws {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        #expect(await control.directory.entries[1]?.reloadedAt == 0)
        _ = try await control.send(.post, "/v1/reload")
        #expect(try #require(await control.directory.entries[1]?.reloadedAt) >= start)
    }

    /// Who follows is told what history has, once each: also what is no event of the engine's.
    @Test func whatIsFollowedIsWhatIsRecorded() async throws {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        try await control.addTunnel("second", port: 6080)
        for tunnel in ["acme", "second"] { try await show(control, tunnel, .up) }
        await tick(control, 1)
        let before = try control.store.changes(limit: 100)
        #expect(before.count == 6)
        let events = try #require(control.routes.hub.follow())
        #expect(try await control.send(.post, "/v1/tunnels/acme/disable").status == 200)
        await tick(control, 2)
        let recorded = try control.store.changes(after: try #require(before.last).id, limit: 100)
        #expect(recorded.filter { $0.reason == "disabled" }.map(\.link) == ["adsl", "lte"])
        control.routes.hub.finish()
        var followed: [RecordedChange] = []
        for await change in events { followed.append(change) }
        #expect(followed == recorded)
        // The latest of one link, whatever the others did since.
        let first = try control.store.changes(of: "acme", link: "adsl", limit: 1)
        #expect(first.map(\.link) == ["adsl"] && first.map(\.reason) == ["disabled"])
    }

    @Test func aTunnelWhoseRowsCannotBeRunIsKeptByTheNextControlUntilItIsRemoved() async throws {
        let control = try await makeFixture()
        try await control.addTunnel("acme", port: 5080)
        try await control.addTunnel("bad", port: 6080)
        try await control.addTunnel("worse", port: 7080)
        for name in ["bad", "worse"] {
            try sqlite(control.store.path, "UPDATE tunnels SET ip4 = '10.0.0.300/24' WHERE name = '\(name)'")
        }
        let sent = Sent()
        let next = control.successor { request in sent.requests.withLock { $0.append(request) } }
        try await next.start(eventsRead: 0)
        #expect(sent.requests.withLock { $0.last } == .ready(kept: [2, 3]))
        // It runs; that it is not known how is told.
        let error = await #expect(throws: StoreError.self) { try await next.snapshots(of: "bad") }
        #expect(error?.description.contains("10.0.0.300/24") == true, "\(error.debugDescription)")
        try await next.remove("bad", expectedVersion: nil, by: Change(uid: 0, action: "remove"))
        #expect(sent.requests.withLock { $0.last } == .remove(id: 2))
        try sqlite(control.store.path, "DELETE FROM tunnels WHERE name = 'worse'")
        _ = try await next.reload(names: nil, dryRun: true)
        #expect(sent.requests.withLock { $0.last } == .remove(id: 2))
        _ = try await next.reload(names: nil, dryRun: false)
        #expect(sent.requests.withLock { $0.last } == .remove(id: 3))
    }

    @Test func copiesOfTheDatabaseThatAKilledProcessLeftAreRemoved() async throws {
        let control = try await makeFixture()
        let directory = (control.store.path as NSString).deletingLastPathComponent
        let names = { Set(try FileManager.default.contentsOfDirectory(atPath: directory)) }
        let before = try names()
        for name in ["backup-7-1.tmp", "restore-7-1.tmp", "restore-7-1.tmp-wal"] {
            try Data().write(to: URL(fileURLWithPath: "\(directory)/\(name)"))
        }
        ControlService.removeRemnants(in: directory)
        #expect(try names() == before && before.contains("mlvpn.db"))
    }

    private final class Sent: Sendable {
        let requests = Mutex<[ControlRequest]>([])
    }
}

/// Milliseconds since 1970, as a test sets them.
private final class SettableTime: Sendable {
    private let value: Mutex<Int64>

    init(_ milliseconds: Int64) { value = Mutex(milliseconds) }

    var milliseconds: Int64 {
        get { value.withLock { $0 } }
        set { value.withLock { $0 = newValue } }
    }
}
