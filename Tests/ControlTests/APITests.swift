import AdminAPI
import HTTPTypes
import LinuxSystem
import ProcessChannel
import Store
import Synchronization
import Testing
import TunnelModel

@testable import Control

/// The API from its requests to the store and the supervisor.
@Suite struct APITests {
    @Test func aTunnelIsDefinedChangedAndRemoved() async throws {
        let control = try await Fixture()
        let added = try await control.addTunnel("acme", port: 5080)
        #expect(added.json["name"] == .string("acme"))
        #expect(added.json["password"] == nil)
        let changed = try await control.send(.patch, "/v1/tunnels/acme", #"{"timeout": 9}"#)
        #expect(changed.json["timeout"] == .integer(9))
        let link = try await control.send(.post, "/v1/tunnels/acme/links", #""wifi,bind=:7000""#)
        #expect(link.status == 201)
        #expect(try await control.send(.patch, "/v1/tunnels/acme/links/wifi", #"{"fallback": true}"#).status == 200)
        #expect(try await control.send(.delete, "/v1/tunnels/acme/links/wifi").status == 200)
        #expect(try await control.send(.delete, "/v1/tunnels/acme").status == 204)
        #expect(try await control.send(.get, "/v1/tunnels/acme").status == 404)
        #expect(control.requests.last == .remove(id: 1))
    }

    @Test func passwordsAreShownOnlyWhenAskedForByName() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        for path in [
            "/v1/tunnels", "/v1/tunnels/acme", "/v1/status", "/v1/metrics", "/v1/audit", "/v1/history?events=1",
        ] {
            #expect(!(try await control.send(.get, path).text.contains("secret of")), "\(path)")
        }
        #expect(try await control.send(.get, "/v1/tunnels/acme?secrets=1").text.contains("secret of acme"))
    }

    /// Who changes what another has changed meanwhile is told, and nothing is lost.
    @Test func ofTwoChangesOfOneVersionTheSecondIsAConflict() async throws {
        let control = try await Fixture()
        let added = try await control.addTunnel("acme", port: 5080)
        let version = try #require(added.json["version"]?.text)
        let match: HTTPFields = [.ifMatch: "\"\(version)\""]
        #expect(try await control.send(.patch, "/v1/tunnels/acme", #"{"timeout": 9}"#, headers: match).status == 200)
        let second = try await control.send(.patch, "/v1/tunnels/acme", #"{"timeout": 11}"#, headers: match)
        #expect(second.status == 409)
        #expect(second.problem?.kind == .conflict)
        #expect(try await control.send(.get, "/v1/tunnels/acme").json["timeout"] == .integer(9))
    }

    @Test func anyVersionMayBeMatched() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        let answer = try await control.send(.patch, "/v1/tunnels/acme", #"{"timeout": 9}"#, headers: [.ifMatch: "*"])
        #expect(answer.status == 200, "\(answer.text)")
    }

    /// Swift takes the Kelvin sign for a K, as Unicode does.
    @Test(arguments: [
        (HTTPRequest.Method.get, "/v1/tunnels/%E2%84%AA", ""), (.delete, "/v1/tunnels/%E2%84%AA", ""),
        (.get, "/v1/status?tunnel=%E2%84%AA", ""), (.get, "/v1/history?tunnel=%E2%84%AA", ""),
        (.get, "/v1/history?tunnel=K&link=%E2%84%AA", ""), (.get, "/v1/events?tunnel=%E2%84%AA", ""),
        (.patch, "/v1/tunnels/K/links/%E2%84%AA", #"{"timeout": 9}"#), (.delete, "/v1/tunnels/K/links/%E2%84%AA", ""),
        (.get, "/v1/tunnels/%E2%84%AA/capture", ""), (.get, "/v1/tunnels/K/capture?link=%E2%84%AA", ""),
        (.put, "/v1/tunnels/%E2%84%AA/debug", #"{"tokens": ["rtt"]}"#), (.post, "/v1/tunnels/%E2%84%AA/disable", ""),
        (.post, "/v1/reload", #"{"tunnels": ["\#u{212A}"]}"#),
    ])
    func whatLooksLikeANameIsAnother(method: HTTPRequest.Method, path: String, body: String) async throws {
        let control = try await Fixture()
        let added = try await control.send(
            .post, "/v1/tunnels", #"{"name": "K", "password": "p", "links": ["K,bind=:5080", "L,bind=:5081"]}"#)
        #expect(added.status == 201)
        let before = try control.store.tunnel(named: "K")
        let answer = try await control.send(method, path, body)
        #expect(answer.status == 404, "\(answer.text)")
        #expect(try control.store.tunnel(named: "K") == before)
    }

    @Test func aPathSaysWhatItAnswersTo() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        for (method, path, allowed) in [
            (HTTPRequest.Method.delete, "/v1/tunnels", "GET, POST"), (.post, "/v1/healthz", "GET, HEAD"),
            (.put, "/v1/tunnels/acme", "GET, PATCH, DELETE"), (.get, "/v1/reload", "POST"),
            (.head, "/v1/backup", "GET"),
        ] {
            let answer = try await control.send(method, path)
            #expect(answer.status == 405 && answer.headers[.allow] == allowed, "\(path): \(answer.headers)")
            if method == .head { #expect(answer.body.isEmpty) } else { #expect(answer.problem?.kind == .wrongMethod) }
        }
        #expect(try await control.send(.get, "/v1/nothing").status == 404)
        let head = try await control.send(.head, "/v1/healthz")
        #expect(head.status == 200 && head.body.isEmpty)
    }

    @Test func concurrentChangesOfDifferentFieldsAllHold() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        let changes = [
            #"{"timeout": 9}"#, #"{"mtu": 1300}"#, #"{"scheduler": "wrr"}"#, #"{"ip4": "10.0.0.1/30"}"#,
            #"{"loss_tolerance": 20}"#, #"{"reorder": 64}"#,
        ]
        try await withThrowingTaskGroup { group in
            for change in changes {
                group.addTask { try await control.send(.patch, "/v1/tunnels/acme", change).status }
            }
            for try await status in group { #expect(status == 200) }
        }
        let shown = try await control.send(.get, "/v1/tunnels/acme").json
        #expect(shown["timeout"] == .integer(9) && shown["mtu"] == .integer(1300))
        #expect(shown["scheduler"] == .string("wrr") && shown["ip4"] == .string("10.0.0.1/30"))
        #expect(shown["loss_tolerance"] == .integer(20) && shown["reorder"] == .integer(64))
        // What was applied last is what is stored.
        guard case .apply(_, _, let last) = control.requests.last else {
            Issue.record("nothing was applied")
            return
        }
        let stored = try control.store.tunnel(named: "acme")
        #expect(last.definition == stored.definition)
    }

    @Test(arguments: [
        (HTTPRequest.Method.post, "/v1/tunnels", "", 400, Problem.Kind.malformed),
        (.post, "/v1/tunnels", "{", 400, .malformed), (.post, "/v1/tunnels", "[1]", 422, .refused),
        (.post, "/v1/tunnels", #"{"name": "x"}"#, 422, .refused),
        (.post, "/v1/tunnels", #"{"name": "../x", "password": "p"}"#, 422, .refused),
        (.post, "/v1/tunnels", #"{"name": "a'b", "password": "p"}"#, 422, .refused),
        (.post, "/v1/tunnels", #"{"name": "a\nb", "password": "p"}"#, 422, .refused),
        (.post, "/v1/tunnels", #"{"name": "аcme", "password": "p"}"#, 422, .refused),
        (.post, "/v1/tunnels", #"{"name": "x", "password": "p", "frobnicate": 1}"#, 422, .refused),
        (.post, "/v1/tunnels", #"{"name": "x", "password": 7}"#, 422, .refused),
        (.patch, "/v1/tunnels/acme", #"{"mtu": 20}"#, 422, .refused),
        (.patch, "/v1/tunnels/acme", #"{"links": ["a,bind=:1", "a,bind=:2"]}"#, 422, .refused),
        (.patch, "/v1/tunnels/nobody", #"{"mtu": 1400}"#, 404, .noSuchTunnel),
        (.patch, "/v1/tunnels/acme/links/nolink", #"{"fallback": true}"#, 404, .noSuchLink),
        (.delete, "/v1/tunnels/nobody", "", 404, .noSuchTunnel),
        (.get, "/v1/tunnels/%2e%2e%2fetc", "", 404, .noSuchTunnel), (.get, "/v1/nothing", "", 404, .notFound),
        (.get, "/v1/status?tunnel=nobody", "", 404, .noSuchTunnel),
        (.get, "/v1/history?since=yesterday", "", 400, .malformed),
        (.get, "/v1/history?tunnel=nobody", "", 404, .noSuchTunnel),
        (.get, "/v1/history?tunnel=acme&link=nolink", "", 404, .noSuchLink),
        (.get, "/v1/tunnels?limit=0", "", 400, .malformed), (.get, "/v1/audit?cursor=x", "", 400, .malformed),
        (.post, "/v1/sql", #"{"sql": "DELETE FROM tunnels"}"#, 422, .refused),
        (.post, "/v1/sql", #"{"sql": "SELECT * FROM secrets"}"#, 422, .refused),
        (.post, "/v1/reload", #"{"tunnels": ["nobody"]}"#, 404, .noSuchTunnel),
        (.put, "/v1/tunnels/acme/debug", #"{"tokens": ["gossip"]}"#, 422, .refused),
        (.get, "/v1/tunnels/acme/capture?link=nolink", "", 404, .noSuchLink),
        (.get, "/v1/tunnels/acme/capture?packets=0", "", 400, .malformed),
    ])
    func whatIsWrongIsAProblemDocumentAndChangesNothing(
        method: HTTPRequest.Method, path: String, body: String, status: Int, kind: Problem.Kind
    ) async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        let before = try control.store.definitions()
        let answer = try await control.send(method, path, body)
        #expect(answer.status == status, "\(answer.text)")
        #expect(answer.headers[.contentType] == "application/problem+json")
        let problem = try #require(answer.problem, "\(answer.text)")
        #expect(problem.kind == kind && problem.status == status && !problem.detail.isEmpty)
        #expect(try control.store.definitions() == before)
    }

    private var link: HTTPField.Name { get throws { try #require(HTTPField.Name("Link")) } }

    @Test func listsComeInPages() async throws {
        let control = try await Fixture()
        for (index, name) in ["a", "b", "c", "d", "e"].enumerated() {
            try await control.addTunnel(name, port: 5000 + index * 10)
        }
        for list in ["tunnels", "status"] {
            var names: [String] = []
            var next: String? = "/v1/\(list)?limit=2"
            var pages = 0
            while let path = next {
                let answer = try await control.send(.get, path)
                guard case .array(let items) = answer.json else { break }
                #expect(items.count <= 2)
                names += items.compactMap { $0["name"]?.text }
                next = answer.headers[try link].flatMap { $0.split(separator: ">").first?.dropFirst() }.map(String.init)
                pages += 1
            }
            #expect(names == ["a", "b", "c", "d", "e"], "\(list)")
            #expect(pages == 3)
        }
        let audit = try await control.send(.get, "/v1/audit?limit=3")
        let link = try #require(audit.headers[try link]).split(separator: ">")[0].dropFirst()
        let rest = try JSON.decode(Table.self, from: try await control.send(.get, String(link)).body)
        #expect(rest.rows.count == 2)
    }

    @Test func theAuditHasWhoWhatOldAndNew() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        _ = try await control.send(.patch, "/v1/tunnels/acme", #"{"timeout": 9, "password": "another"}"#)
        _ = try await control.send(.patch, "/v1/tunnels/acme/links/lte", #"{"limit": "20mbit"}"#)
        _ = try await control.send(.put, "/v1/tunnels/acme/debug", #"{"tokens": ["rtt", "protocol"]}"#)
        let audit = try JSON.decode(Table.self, from: try await control.send(.get, "/v1/audit").body).objects
        #expect(audit.map { $0["action"] } == ["debug", "set-link", "set-tunnel", "add-tunnel"].map(JSONValue.string))
        #expect(audit.allSatisfy { $0["uid"] == .integer(1000) && $0["tunnel"] == .string("acme") })
        #expect(audit[2]["old"] == .string(#"{"password":"********","timeout":"30"}"#))
        #expect(audit[2]["new"] == .string(#"{"password":"********","timeout":"9"}"#))
        #expect(audit[1]["new"] == .string(#"{"link lte":"lte,bind=:5081,bandwidth=auto,limit=2500000"}"#))
        #expect(audit[3]["old"] == .null)
        #expect(control.requests.last == .debug(id: 1, tokens: 1 << 5 | 1 << 7))
    }

    /// What operators change with the sqlite3 shell is applied by reload, recorded, and refused when it cannot be.
    @Test func rowsChangedWithSQLAreAppliedByReload() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        try await control.addTunnel("other", port: 6080)
        try sqlite(control.store.path, "UPDATE tunnels SET timeout = 7 WHERE name = 'acme'")
        try sqlite(control.store.path, "UPDATE tunnels SET ip4 = '10.0.0.300/24' WHERE name = 'other'")
        let count = control.requests.count
        let trial = try JSON.decode(
            ReloadReport.self, from: try await control.send(.post, "/v1/reload", #"{"dry_run": true}"#).body)
        #expect(trial.changed == ["acme"] && trial.rejected.map(\.name) == ["other"])
        #expect(control.requests.count == count)
        let report = try JSON.decode(ReloadReport.self, from: try await control.send(.post, "/v1/reload").body)
        #expect(report == trial)
        let applied = control.requests.dropFirst(count)
        #expect(applied.count == 1)
        if case .apply(_, _, let tunnel)? = applied.first { #expect(tunnel.definition.timeout == 7) }
        let audit = try JSON.decode(Table.self, from: try await control.send(.get, "/v1/audit").body).objects
        #expect(audit.first?["action"] == .string("reload"))
        #expect(audit.first?["new"] == .string(#"{"timeout":"7"}"#))
        // The one that cannot be run is told of, and what ran before goes on.
        let status = try await control.send(.get, "/v1/status?tunnel=other")
        #expect(status.text.contains("10.0.0.300"))
    }

    /// Each may cost seconds.
    @Test func aFilterIsCompiledOnceAndForNoOtherTunnel() async throws {
        let control = try await Fixture()
        for (name, port) in [("acme", 5080), ("other", 6080)] { try await control.addTunnel(name, port: port) }
        let filters = await control.directory.filters
        #expect(filters.compilations == 0)
        for name in ["acme", "other"] {
            let answer = try await control.send(.put, "/v1/tunnels/\(name)/filters", #"["lte=udp port 5060"]"#)
            #expect(answer.status == 200, "\(answer.text)")
        }
        #expect(filters.compilations == 1)
        #expect(try await control.send(.patch, "/v1/tunnels/acme", #"{"timeout": 9}"#).status == 200)
        try sqlite(control.store.path, "UPDATE filters SET expression = 'udp port 4569' WHERE tunnel_id = 2")
        #expect(try await control.send(.post, "/v1/reload", #"{"tunnels": ["acme"]}"#).status == 200)
        #expect(filters.compilations == 1)
        #expect(try await control.send(.post, "/v1/reload").status == 200)
        #expect(filters.compilations == 2)
        // Nor is what is wrong with another's row forgotten because it was not asked for.
        try sqlite(
            control.store.path,
            """
            INSERT INTO tunnels (name, interface) VALUES ('new', 'ml9'); INSERT INTO secrets VALUES (3, x'70');
            INSERT INTO links (tunnel_id, name, bind_port) VALUES (3, 'adsl', 7080);
            INSERT INTO filters VALUES (3, 0, 'nonsense ('); INSERT INTO filter_links VALUES (3, 0, 0, 'adsl');
            """)
        #expect(try await control.send(.post, "/v1/reload").text.contains("nonsense"))
        #expect(try await control.send(.post, "/v1/reload", #"{"tunnels": ["acme"]}"#).status == 200)
        #expect(try await control.send(.get, "/v1/status?tunnel=new").problem?.detail.contains("nonsense") == true)
    }

    /// What was changed with SQL comes into force with the next command, and is told of.
    @Test func whatAnotherCommandBringsIntoForceIsRecorded() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        try sqlite(control.store.path, "UPDATE tunnels SET timeout = 7")
        #expect(try await control.send(.patch, "/v1/tunnels/acme", #"{"mtu": 1400}"#).status == 200)
        let audit = try JSON.decode(Table.self, from: try await control.send(.get, "/v1/audit").body).objects
        #expect(audit[0]["action"] == .string("reload") && audit[0]["detail"] == .string("with set-tunnel"))
        #expect(audit[0]["new"] == .string(#"{"timeout":"7"}"#))
        #expect(audit[1]["new"] == .string(#"{"mtu":"1400"}"#))
        #expect(audit.count == 3)
    }

    @Test func whoRestoresIsToldOfWithWhatItChanged() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        let backup = try await control.send(.get, "/v1/backup").body
        #expect(try await control.send(.patch, "/v1/tunnels/acme", #"{"timeout": 7}"#).status == 200)
        #expect(try await control.send(.post, "/v1/restore", bytes: backup).status == 200)
        let audit = try JSON.decode(Table.self, from: try await control.send(.get, "/v1/audit").body).objects
        #expect(audit[0]["action"] == .string("restore") && audit[0]["tunnel"] == .string("acme"))
        #expect(audit[0]["old"] == .string(#"{"timeout":"7"}"#) && audit[0]["new"] == .string(#"{"timeout":"30"}"#))
    }

    /// Prometheus refuses all of a page for one label that does not end.
    @Test(arguments: ["ml\"0", "ml\\"]) func whateverADeviceIsCalledMetricsCanBeRead(name: String) async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        let body = try JSON.encode(JSONValue.object(["interface": .string(name)]))
        let answer = try await control.send(.patch, "/v1/tunnels/acme", bytes: body)
        #expect(answer.status == 200, "\(answer.text)")
        let metrics = try await control.send(.get, "/metrics").text
        let escaped = name == "ml\\" ? #"interface="ml\\""# : #"interface="ml\"0""#
        #expect(metrics.contains(escaped), "\(metrics.prefix(800))")
    }

    @Test(arguments: ["since=1h", "until=2030-01-01"]) func whoFollowsGetsWhatComes(query: String) async throws {
        let control = try await Fixture()
        #expect(try await control.send(.get, "/v1/events?follow=1&\(query)").status == 400)
        #expect(try await control.send(.get, "/v1/events?follow=1&tunnel=nosuch").status == 404)
    }

    @Test func aNameMayBeGivenAndTakenBackAtOnceAndNoHistoryStaysUnderIt() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        try await control.addTunnel("second", port: 6080)
        for (old, new) in [("acme", "other"), ("other", "acme"), ("second", "other"), ("other", "second")] {
            let answer = try await control.send(.patch, "/v1/tunnels/\(old)", #"{"name": "\#(new)"}"#)
            #expect(answer.status == 200, "\(answer.text)")
            // What happened last was not recorded yet when the name was taken back.
            if new != "other" { await control.directory.tick() }
        }
        let names = try control.store.query("SELECT DISTINCT tunnel FROM link_uptime_daily ORDER BY tunnel").rows
        #expect(names == [[.text("acme")], [.text("second")]])
    }

    /// As many slow queries as there are processors, and more, hold up nobody.
    @Test func queriesThatTakeLongHoldUpNobodyElse() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        let numbers = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 10000000)"
        let slow = #"{"sql": "\#(numbers) SELECT count(*) FROM n"}"#
        let isDone = Mutex(false)
        let queries = Task {
            defer { isDone.withLock { $0 = true } }
            async let first = control.send(.post, "/v1/sql", slow).status
            async let second = control.send(.post, "/v1/sql", slow).status
            return try await [first, second]
        }
        // While they run.
        var others = 0
        while !isDone.withLock({ $0 }) {
            #expect(try await control.send(.get, "/v1/tunnels").status == 200)
            others += 1
        }
        #expect(try await queries.value == [200, 200])
        #expect(others > 10)
    }

    @Test func whatIsEscapedIsMeantAsItWas() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        try await control.addTunnel("second", port: 6080)
        #expect(try await control.send(.get, "/v1/tunnels/%61cme").json["name"] == .string("acme"))
        let page = try await control.send(.get, "/v1/tunnels?limit=1&note=a%26b%3Ec")
        let link = try #require(HTTPField.Name("Link").flatMap { page.headers[$0] })
        #expect(link.contains("note=a%26b%3Ec") && link.contains("cursor=acme"), "\(link)")
    }

    @Test func whatIsNoBackupIsToldOfByNoNameOfOurs() async throws {
        let control = try await Fixture()
        let answer = try await control.send(.post, "/v1/restore", "no database at all, whatever it is called")
        #expect(
            answer.problem?.detail.hasPrefix("the uploaded file is damaged or no database") == true, "\(answer.text)")
    }

    @Test func numbersThatJSONDoesNotHaveAreText() async throws {
        let control = try await Fixture()
        let answer = try await control.send(.post, "/v1/sql", #"{"sql": "SELECT 9e999, -9e999"}"#)
        #expect(try JSON.decode(Table.self, from: answer.body).rows == [[.string("inf"), .string("-inf")]])
    }

    @Test func aDefinitionTooLargeForTheProcessesIsRefusedAndNotStored() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        let routes = (0..<4000).map { #""2001:db8:ffff:ffff:\#(String($0, radix: 16))::/80""# }.joined(separator: ", ")
        let answer = try await control.send(.patch, "/v1/tunnels/acme", #"{"routes": [\#(routes)]}"#)
        #expect(answer.status == 422, "\(answer.text)")
        #expect(answer.problem?.detail.contains("4000 routes") == true, "\(answer.text)")
        #expect(try control.store.tunnel(named: "acme").definition.routes.isEmpty)
        #expect(control.requests.count == 2)
    }

    @Test func aCaptureIsAPcapFile() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        let inner = try await control.send(.get, "/v1/tunnels/acme/capture?seconds=1&packets=2&snap_length=96")
        #expect(inner.headers[.contentType] == "application/vnd.tcpdump.pcap")
        let header: [UInt8] = [
            0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 96, 0, 0, 0, 101, 0, 0, 0,
        ]
        #expect(inner.body.starts(with: header))
        #expect(inner.body.count == 24 + 2 * 18)
        let outer = try await control.send(.get, "/v1/tunnels/acme/capture?link=lte&seconds=1&packets=1")
        #expect(outer.body.count == 24 + 18)
        let limits = CaptureLimits(packets: 1, snapLength: 65535, seconds: 1)
        #expect(control.requests.last == .capture(id: 1, link: try LinkName("lte"), limits: limits))
        _ = try await control.send(.patch, "/v1/tunnels/acme", #"{"tap": true}"#)
        #expect(try await control.send(.get, "/v1/tunnels/acme/capture?seconds=1").body[20] == 1)
    }

    @Test func statusShowsWhatTheEngineShows() async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        try await control.show("acme", "lte") {
            $0.state = LinkState.up.rawValue
            $0.smoothedRTT = 21_500
            $0.lossPermille = 15
            $0.rxBytes = 1_000
            $0.since = 1_700_000_000_000
        }
        let answer = try await control.send(.get, "/v1/status?tunnel=acme")
        let status = try #require(try JSON.decode([TunnelStatus].self, from: answer.body).first)
        #expect(status.state == "up")
        let link = status.links[1]
        #expect(link.state == "up" && link.rttMS == 21.5 && link.lossPercent == 1.5 && link.rxBytes == 1000)
        #expect(link.since == "2023-11-14T22:13:20.000Z")
    }
}
