import GRDB
import Synchronization
import Testing
import TunnelModel

@testable import Store

@Suite struct DefinitionTests {
    private let scratch: ScratchDirectory
    private let store: Store

    init() throws {
        scratch = try ScratchDirectory()
        store = try Store(path: scratch.database)
    }

    // MARK: What is refused

    @Test func aNameIsThereOnce() throws {
        try store.add(try makeTunnel(), by: byTest)
        var second = try makeTunnel(port: 7000)
        second.interface = try InterfaceName("other")
        #expect(refusal { try store.add(second, by: byTest) }.contains("name: tunnel acme exists already"))
    }

    @Test func anInterfaceIsUsedOnce() throws {
        try store.add(try makeTunnel(), by: byTest)
        var second = try makeTunnel("b", port: 7000)
        second.interface = try InterfaceName("mlacme")
        #expect(
            refusal { try store.add(second, by: byTest) }
                .contains("interface: mlacme is in use by tunnel acme; choose another"))
    }

    @Test(arguments: [":5080", "127.0.0.1:5080", "[::]:5080"])
    func aPortIsBoundOnceAmongAllTunnels(bind: String) throws {
        try store.add(try makeTunnel(), by: byTest)
        var second = try makeTunnel("b", port: 7000)
        second.links[0].bind = try BindAddress(bind, field: "bind")
        let reasons = refusal { try store.add(second, by: byTest) }
        #expect(reasons == ["link adsl1: bind: port 5080 is in use by tunnel acme, link adsl1"])
    }

    @Test func theSamePortOnAnotherAddressIsFine() throws {
        try store.add(try makeTunnel(), by: byTest)
        var second = try makeTunnel("b")
        second.links[0].bind = try BindAddress("127.0.0.2:5080", field: "bind")
        try store.add(second, by: byTest)
        #expect(try store.definitions().tunnels.count == 2)
    }

    @Test func whatIsWrongIsToldAllAtOnceAndNothingIsStored() throws {
        var tunnel = try makeTunnel()
        tunnel.mtu = 9000
        tunnel.timeout = 0
        tunnel.links[0].limit = 1
        tunnel.filters = [FilterDefinition(links: [try LinkName("nolink")], expression: "udp")]
        let reasons = refusal { try store.add(tunnel, by: byTest) }
        #expect(reasons.count == 4)
        #expect(try store.definitions() == LoadedDefinitions())
        #expect(try store.audit(limit: 10).isEmpty)
    }

    @Test func aRefusedChangeLeavesEverythingAsItWas() throws {
        let stored = try store.add(try makeTunnel(), by: byTest)
        #expect(refusal { _ = try store.change("acme", by: byTest) { $0.mtu = 1 } }.count == 1)
        #expect(try store.definitions().tunnels == [stored])
    }

    @Test func aChangeOfAnOlderVersionIsAConflict() throws {
        let stored = try store.add(try makeTunnel(), by: byTest)
        let changed = try store.change("acme", expectedVersion: stored.version, by: byTest) { $0.timeout = 10 }
        #expect(changed.version > stored.version)
        let error = failure {
            _ = try store.change("acme", expectedVersion: stored.version, by: byTest) { $0.timeout = 20 }
        }
        #expect(error == .conflict(tunnel: "acme", expected: stored.version, found: changed.version))
        let removal = failure {
            try store.remove("acme", expectedVersion: stored.version, by: byTest)
        }
        #expect(removal == error)
        #expect(try store.definitions().tunnels.map(\.definition.timeout) == [10])
    }

    @Test func whatDoesNotExistIsNamed() throws {
        let error = failure { try store.remove("nosuch", by: byTest) }
        #expect(error == .noSuchTunnel("nosuch"))
        #expect(failure { _ = try store.tunnel(named: "nosuch") } == .noSuchTunnel("nosuch"))
        #expect(
            failure { _ = try store.change("nosuch", by: byTest) { _ in } }
                == .noSuchTunnel("nosuch"))
    }

    /// What the sqlite3 shell may not do; each by the constraint that says what is right.
    @Test(arguments: [
        ("UPDATE tunnels SET name = 'a b'", "tunnel name"),
        ("UPDATE tunnels SET name = ''", "tunnel name"),
        ("UPDATE tunnels SET name = '-x'", "tunnel name"),
        ("UPDATE tunnels SET name = 'second'", "UNIQUE"),
        ("UPDATE tunnels SET name = 'acme' || char(0)", "tunnel name and interface: may hold no NUL"),
        ("UPDATE tunnels SET interface = 'ml' || char(0) || 'x'", "NUL"),
        ("INSERT INTO tunnels (name, interface) VALUES ('acme' || char(0), 'mlx')", "NUL"),
        ("INSERT INTO tunnels (name, interface, version) VALUES ('x', 'mlx', -1)", "version: from 1"),
        ("UPDATE tunnels SET version = 9223372036854775807", "version: from 1"),
        ("UPDATE links SET name = 'adsl1' || char(0)", "link name: may hold no NUL"),
        ("INSERT INTO links (tunnel_id, name) VALUES (1, 'adsl1' || char(0))", "NUL"),
        ("UPDATE tunnels SET mode = 'both'", "mode: server or client"),
        ("UPDATE tunnels SET interface = 'abcdefghijklmnop'", "interface: 1 to 15 bytes"),
        ("UPDATE tunnels SET interface = 'ääääääää'", "interface: 1 to 15 bytes"),
        ("UPDATE tunnels SET interface = 'a/b'", "interface"),
        ("UPDATE tunnels SET interface = 'mlsecond' WHERE name = 'acme'", "UNIQUE"),
        ("UPDATE tunnels SET device = 'ppp'", "device: tun or tap"),
        ("UPDATE tunnels SET enabled = 2", "enabled"),
        ("UPDATE tunnels SET enabled = 'yes'", "cannot store TEXT value in INTEGER column"),
        ("UPDATE tunnels SET ip4 = '10.0.0.1'", "ip4: an IPv4 CIDR"),
        ("UPDATE tunnels SET ip4 = '2001:db8::1/64'", "ip4"),
        ("UPDATE tunnels SET ip6 = '10.0.0.1/8'", "ip6: an IPv6 CIDR"),
        ("UPDATE tunnels SET gateway4 = 'gw'", "gateway4"),
        ("UPDATE tunnels SET gateway6 = '10.0.0.1'", "gateway6"),
        ("UPDATE tunnels SET mtu = 575", "mtu"), ("UPDATE tunnels SET mtu = 1445", "mtu"),
        ("UPDATE tunnels SET mtu = 1431, device = 'tap'", "mtu"),
        ("UPDATE tunnels SET mtu = 1279, ip6 = '2001:db8::1/64'", "mtu"),
        ("UPDATE tunnels SET timeout = 1", "timeout: from 2 to 86400 seconds"),
        ("UPDATE tunnels SET timeout = NULL", "NOT NULL"),
        ("UPDATE tunnels SET reorder = '65537'", "reorder"), ("UPDATE tunnels SET reorder = 'on'", "reorder"),
        ("UPDATE tunnels SET loss_tolerance = 101", "loss_tolerance"),
        ("UPDATE tunnels SET latency_tolerance = -1", "latency_tolerance"),
        ("UPDATE tunnels SET scheduler = 'rr'", "scheduler: wrr, adaptive, redundant or failover"),
        ("UPDATE tunnels SET status_command = 'up.sh'", "status_command: an absolute path"),
        ("UPDATE tunnels SET control_bind_port = 0", "control_bind_port"),
        ("UPDATE tunnels SET control_bind_host = '::1'", "control_bind_host needs a control_bind_port"),
        ("UPDATE secrets SET password = x''", "password: 1 to 1024 bytes"),
        ("UPDATE secrets SET password = 'text'", "cannot store TEXT value in BLOB column"),
        ("INSERT INTO routes VALUES (1, 0, '10.0.0.0')", "route: a CIDR"),
        ("UPDATE links SET name = 'a b'", "link name"),
        ("INSERT INTO links (tunnel_id, name) VALUES (1, 'adsl1')", "UNIQUE"),
        ("INSERT INTO links (tunnel_id, name) VALUES (99, 'x')", "FOREIGN KEY"),
        ("UPDATE links SET bind_port = 65536", "bind_port: from 1 to 65535"),
        ("UPDATE links SET bind_host = 'a b'", "bind_host"),
        ("UPDATE links SET remote_port = 1", "remote_host and remote_port go together"),
        ("UPDATE links SET bandwidth = 0", "bandwidth"), ("UPDATE links SET rate_limit = 999", "rate_limit"),
        ("UPDATE links SET fallback = 2", "fallback"),
        ("INSERT INTO filters VALUES (1, 0, '')", "filter: an expression"),
        (
            "INSERT INTO filters VALUES (1, 0, 'udp'); INSERT INTO filter_links VALUES (1, 0, 0, 'nolink')",
            "FOREIGN KEY"
        ),
    ]) func theSchemaItselfRefuses(statement: String, expected: String) throws {
        try store.add(try makeTunnel(), by: byTest)
        try store.add(try makeTunnel("second", port: 7000), by: byTest)
        let before = try store.definitions()
        do {
            try store.sql(statement)
            Issue.record("accepted: \(statement)")
        } catch let error as DatabaseError {
            #expect(error.resultCode == .SQLITE_CONSTRAINT)
            #expect("\(error)".contains(expected))
        }
        #expect(try store.definitions() == before)
    }

    // MARK: Rows edited with SQL

    @Test func oneBadRowKeepsNoOtherFromLoading() throws {
        for (index, name) in ["a", "b", "c", "d", "e"].enumerated() {
            try store.add(try makeTunnel(name, port: UInt16(7000 + index * 10)), by: byTest)
        }
        // What no constraint can see: a server's link without a port, an address out of range, no password, a name.
        try store.sql("UPDATE links SET bind_port = NULL WHERE tunnel_id = 1")
        try store.sql("UPDATE tunnels SET ip4 = '10.0.0.300/24' WHERE id = 2")
        try store.sql("DELETE FROM secrets WHERE tunnel_id = 3")
        try store.sql("UPDATE links SET remote_host = '1.2.3.4.5', remote_port = 1 WHERE tunnel_id = 4")
        let loaded = try store.definitions()
        #expect(loaded.tunnels.map(\.definition.name.text) == ["e"])
        #expect(loaded.rejected.map(\.name).sorted() == ["a", "b", "c", "d"])
        #expect(loaded.rejected.allSatisfy { !$0.problems.isEmpty })
        let text = loaded.rejected.flatMap(\.problems).map(\.description).joined(separator: "; ")
        #expect(text.contains("link adsl1: bind: a server's link needs a port"))
        #expect(text.contains("password: is missing"))
        // Each can be removed all the same.
        for name in ["a", "b", "c", "d"] { try store.remove(name, by: byTest) }
        #expect(try store.definitions().rejected.isEmpty)
    }

    @Test func ofTwoThatCannotBeTogetherTheOlderOneIsKept() throws {
        try store.add(try makeTunnel("old"), by: byTest)
        try store.add(try makeTunnel("new", port: 7000), by: byTest)
        try store.sql("UPDATE links SET bind_port = 5080, bind_host = NULL WHERE tunnel_id = 2")
        let loaded = try store.definitions()
        #expect(loaded.tunnels.map(\.definition.name.text) == ["old"])
        #expect(loaded.rejected.map(\.name) == ["new"])
    }

    @Test func oneThatRunsAsDefinedIsKeptBeforeOneThatWasChanged() throws {
        let first = try store.add(try makeTunnel("old"), by: byTest)
        let second = try store.add(try makeTunnel("new", port: 7000), by: byTest)
        try store.sql("UPDATE links SET bind_port = 7000 WHERE tunnel_id = 1")
        let loaded = try store.definitions(running: [first.id: first.definition, second.id: second.definition])
        #expect(loaded.tunnels == [second])
        #expect(loaded.rejected.map(\.name) == ["old"])
        #expect(try store.definitions().rejected.map(\.name) == ["new"])
    }

    @Test(arguments: ["DELETE FROM secrets", "UPDATE secrets SET password = x'610a62'"])
    func aPasswordIsGivenToATunnelThatHasNone(statement: String) throws {
        try store.add(try makeTunnel(), by: byTest)
        try store.sql(statement)
        let problems = try store.definitions().rejected.flatMap(\.problems)
        #expect(problems.map(\.field) == ["password"])
        // Whatever else is asked for needs one first.
        let refusal = StoreError.refused(problems.map { $0.within("the database") })
        #expect(failure { _ = try store.change("acme", by: byTest) { $0.timeout = 9 } } == refusal)
        #expect(failure { _ = try store.change("acme", by: byTest) { _ in } } == refusal)
        let password = try Password(Array("new".utf8))
        let changed = try store.change("acme", by: byTest) { $0.password = password }
        #expect(try store.definitions().tunnels == [changed])
        #expect(changed.definition.password == password)
    }

    @Test(arguments: [
        "UPDATE tunnels SET mtu = 1400", "UPDATE links SET fallback = 1",
        "INSERT INTO links (tunnel_id, name, bind_port) VALUES (1, 'new', 9999)",
        "DELETE FROM links WHERE name = 'wifi'", "UPDATE secrets SET password = CAST('new' AS BLOB)",
        "DELETE FROM routes", "INSERT INTO routes VALUES (1, 9, '10.9.0.0/16')",
        "UPDATE filters SET expression = 'arp'",
        "DELETE FROM filters", "UPDATE filter_links SET link = 'adsl1' WHERE filter = 1",
    ]) func everyEditRaisesTheVersion(statement: String) throws {
        var rich = try makeRichTunnel()
        rich.filters.removeAll { $0.links.contains { $0.text == "wifi" } }
        let before = try store.add(rich, by: byTest)
        try store.sql(statement)
        let after = try #require(try store.definitions().tunnels.first)
        #expect(after.version > before.version)
        #expect(after.definition != before.definition)
    }

    @Test func renamingALinkWithSQLTakesItsFiltersAlong() throws {
        try store.add(try makeRichTunnel(), by: byTest)
        try store.sql("UPDATE links SET name = 'lte2' WHERE name = 'lte'")
        let tunnel = try #require(try store.definitions().tunnels.first).definition
        #expect(tunnel.filters[0].links.map(\.text) == ["lte2", "adsl1"])
    }

    // MARK: What is kept

    @Test func everyFieldSurvives() throws {
        let tunnel = try makeRichTunnel()
        try store.add(tunnel, by: byTest)
        #expect(try store.definitions().tunnels.map(\.definition) == [tunnel])
        #expect(try store.tunnel(named: "rich").definition == tunnel)
        let other = try makeTunnel("rich", port: 6000)
        let changed = try store.change("rich", by: byTest) { $0 = other }
        #expect(changed.definition == other)
        #expect(try store.definitions().tunnels == [changed])
    }

    @Test func aChangeThatChangesNothingIsNone() throws {
        let stored = try store.add(try makeRichTunnel(), by: byTest)
        #expect(try store.change("rich", by: byTest) { _ in } == stored)
        #expect(try store.audit(limit: 10).count == 1)
    }

    @Test func anIdentityIsNeverUsedAgain() throws {
        let first = try store.add(try makeTunnel(), by: byTest)
        try store.remove("acme", by: byTest)
        #expect(try store.add(try makeTunnel(), by: byTest).id != first.id)
    }

    @Test func removalLeavesNothingBehind() throws {
        try store.add(try makeRichTunnel(), by: byTest)
        try store.remove("rich", by: byTest)
        for table in ["tunnels", "secrets", "routes", "links", "filters", "filter_links"] {
            #expect(try store.pool.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM \(table)") } == 0, "\(table)")
        }
    }

    @Test func removalInTheShellLeavesNothingBehind() throws {
        try store.add(try makeRichTunnel(), by: byTest)
        try store.add(try makeTunnel(), by: byTest)
        try inShell("DELETE FROM tunnels WHERE name = 'rich'")
        for table in ["secrets", "routes", "links", "filters", "filter_links"] {
            let left = try store.pool.read {
                try Int.fetchOne($0, sql: "SELECT count(*) FROM \(table) WHERE tunnel_id = 1")
            }
            #expect(left == 0, "\(table)")
        }
        #expect(try store.definitions().tunnels.count == 1)
    }

    @Test func filtersDeletedMovedOrOfARenamedLinkInTheShellKeepTheirLinks() throws {
        let rich = try makeRichTunnel()
        try store.add(rich, by: byTest)
        try inShell(
            """
            DELETE FROM filters WHERE position = 0;
            UPDATE filters SET position = position + 10;
            UPDATE links SET name = 'wlan' WHERE name = 'wifi';
            """)
        var expected = rich
        expected.links[2].name = try LinkName("wlan")
        expected.filters = [try FilterDefinition(spec: "wlan=tcp port 22"), try FilterDefinition(spec: "lte=icmp")]
        #expect(try store.definitions().tunnels.map(\.definition) == [expected])
        // Nor does one of before stand in for a new one.
        try inShell("DELETE FROM filters; INSERT INTO filters VALUES (1, 10, 'udp')")
        #expect(try store.pool.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM filter_links") } == 0)
        try inShell("DELETE FROM filters")
        _ = try store.change("rich", by: byTest) { $0.filters = rich.filters.suffix(1) }
        expected.filters = rich.filters.suffix(1)
        #expect(try store.definitions().tunnels.map(\.definition) == [expected])
    }

    /// A link that is gone while a filter sends to it: refused, and the tunnel can be changed again.
    @Test func aLinkDeletedInTheShellWhileAFilterSendsToItIsTold() throws {
        try store.add(try makeRichTunnel(), by: byTest)
        try inShell("DELETE FROM links WHERE name = 'wifi'")
        let refused = try store.definitions().rejected
        #expect(refused.count == 1 && refused[0].problems.description.contains("wifi"), "\(refused)")
        try inShell("DELETE FROM filters WHERE position = 1")
        #expect(try store.definitions().rejected.isEmpty)
    }

    /// As Debian's sqlite3 does it, where foreign keys are off.
    private func inShell(_ statements: String) throws {
        var configuration = Configuration()
        configuration.foreignKeysEnabled = false
        let shell = try DatabaseQueue(path: scratch.database, configuration: configuration)
        try shell.write { try $0.execute(sql: statements) }
    }

    @Test func theAuditTellsWhoDidWhat() throws {
        try store.add(try makeTunnel(), by: Change(uid: 1000, action: "add-tunnel"))
        _ = try store.change("acme", by: Change(uid: 0, action: "set-link", detail: "adsl1")) {
            $0.links[0].fallback = true
        }
        try store.remove("acme", by: Change(uid: nil, action: "remove-tunnel"))
        let audit = try store.audit(limit: 10)
        #expect(audit.map(\.action) == ["remove-tunnel", "set-link", "add-tunnel"])
        #expect(audit.map(\.uid) == [nil, 0, 1000])
        #expect(audit.allSatisfy { $0.tunnel == "acme" && $0.at > 0 })
    }

    /// What a tunnel costs must not grow with those that are there: thousands are imported one after the other.
    @Test func amongManyATunnelIsAddedAndChangedWithNoMoreStatementsThanAmongFew() throws {
        let statements = Mutex(0)
        store.pool.writeWithoutTransaction { db in
            db.trace { _ in statements.withLock { $0 += 1 } }
        }
        func count(_ body: () throws -> Void) rethrows -> Int {
            statements.withLock { $0 = 0 }
            try body()
            return statements.withLock { $0 }
        }
        func measure(from first: Int) throws -> (add: Int, change: Int) {
            let add = try count { try store.add(try makeTunnel("t\(first)", port: UInt16(first)), by: byTest) }
            let change = try count { _ = try store.change("t\(first)", by: byTest) { $0.timeout = 10 } }
            return (add, change)
        }
        let few = try measure(from: 2000)
        try store.pool.write { db in
            for number in 3000..<4500 {
                let tunnel = try makeTunnel("t\(number)", port: UInt16(number))
                try Store.insertTunnel(tunnel, db)
                try Store.replaceParts(of: db.lastInsertedRowID, tunnel, db)
            }
        }
        let many = try measure(from: 5000)
        #expect(few.add > 5 && many.add == few.add, "\(few.add), then \(many.add)")
        #expect(few.change > 5 && many.change == few.change, "\(few.change), then \(many.change)")
        // Quick, and not blind.
        #expect(refusal { try store.add(try makeTunnel("last", port: 4000), by: byTest) }.count == 1)
    }

    @Test func monitoringSocketsAreSharedByNoTwoTunnels() throws {
        var first = try makeTunnel("first", port: 4000)
        first.monitoring = Monitoring(unixPath: "/run/x/acme.sock", bindPort: 1040)
        try store.add(first, by: byTest)
        var second = try makeTunnel("second", port: 4010)
        second.monitoring = Monitoring(unixPath: "/run/x/acme.sock", bindPort: 1041)
        #expect(refusal { try store.add(second, by: byTest) }.count == 1)
        second.monitoring = Monitoring(bindPort: 1040)
        #expect(refusal { try store.add(second, by: byTest) }.count == 1)
        // By SQL: the second one is not run.
        second.monitoring = Monitoring()
        try store.add(second, by: byTest)
        try store.pool.write { try $0.execute(sql: "UPDATE tunnels SET control_bind_port = 1040") }
        let loaded = try store.definitions()
        #expect(loaded.tunnels.map(\.definition.name.text) == ["first"] && loaded.rejected.map(\.name) == ["second"])
    }

    private func refusal(_ body: () throws -> Void) -> [String] {
        guard case .refused(let problems)? = failure(body) else { return [] }
        return problems.map(\.description)
    }
}
