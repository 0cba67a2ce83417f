import AdminAPI
import HTTPTypes
import LinuxSystem
import ProcessChannel
import Store
import Synchronization
import Testing
import TunnelModel

@testable import Control

/// What others on the host have is refused before anything is stored.
@Suite struct HostResourcesTests {
    @Test func deviceAndSocketsOfThisHostAreFound() throws {
        #expect(HostResources.system.devices(nil).contains("lo"))
        #expect(HostResources.system.devices(["lo", "nosuch"]) == ["lo"])
        for (text, expected) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "::")] {
            let address = SocketAddress(try #require(IPAddress(text)), port: 0).system
            let socket = try UDPSocket.open(bind: address, description: "a test")
            let port = SocketAddress(system: try UDPSocket.localAddress(socket.raw)).port
            let found = HostResources.system.sockets([port])
            #expect(found.contains(HostSocket(address: try #require(IPAddress(expected)), port: port)), "\(found)")
        }
    }

    @Test func theKernelsTableIsRead() {
        let table = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
              12: 0100007F:1B8A 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1
              13: 00000000:1B8B 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1
            """
        #expect(HostSocket.all(in: table, [7050]) == [HostSocket(address: .v4(0x7f00_0001), port: 7050)])
        #expect(HostSocket.all(in: table, [7050, 7051]).count == 2)
        #expect(HostSocket.all(in: "", [7050]).isEmpty)
    }

    @Test(arguments: [
        (":7050", "127.0.0.1", true), (":7050", "::1", false), (":7050", "::", true),
        ("127.0.0.1:7050", "0.0.0.0", true),
        ("127.0.0.1:7050", "127.0.0.2", false), ("127.0.0.1:7050", "::", true), ("[::1]:7050", "127.0.0.1", false),
        ("[::1]:7050", "::", true), ("localhost:7050", "127.0.0.1", false), ("localhost:7050", "0.0.0.0", true),
        (":7051", "0.0.0.0", false),
    ])
    func aSocketIsInTheWayOrNot(bind: String, address: String, isInTheWay: Bool) throws {
        let socket = HostSocket(address: try #require(IPAddress(address)), port: 7050)
        let isAlone = socket.address.isIPv6
        #expect(socket.blocks(try BindAddress(bind, field: ""), isAlone: isAlone) == isInTheWay)
    }

    /// A host on which things come and go.
    private final class ChangingHost: Sendable {
        let devices = Mutex<Set<String>>(["lo", "eth0"])
        let sockets = Mutex<[HostSocket]>([HostSocket(address: .v4(0), port: 7050)])

        var resources: HostResources {
            HostResources(
                devices: { names in self.devices.withLock { all in names.map(all.intersection) ?? all } },
                sockets: { ports in self.sockets.withLock { $0.filter { ports.contains($0.port) } } })
        }
    }

    @Test func whatOthersHaveIsRefusedAndNothingChanges() async throws {
        let control = try await Fixture(host: ChangingHost().resources)
        try await control.addTunnel("acme", port: 5080)
        let count = control.requests.count
        let before = try control.store.tunnel(named: "acme")
        for (path, body, field) in [
            ("/v1/tunnels", #"{"name": "ix", "password": "p", "interface": "lo"}"#, "interface"),
            ("/v1/tunnels", #"{"name": "ix", "password": "p", "links": ["a,bind=127.0.0.1:7050"]}"#, "link a"),
            ("/v1/tunnels/acme/links", #""wifi,bind=:7050""#, "link wifi"),
        ] {
            let answer = try await control.send(.post, path, body)
            #expect(answer.status == 422 && answer.problem?.errors?.map(\.field) == [field], "\(answer.text)")
        }
        for body in [#"{"interface": "eth0"}"#, #"{"links": ["adsl,bind=:7050"]}"#] {
            let answer = try await control.send(.patch, "/v1/tunnels/acme", body)
            #expect(answer.status == 422, "\(answer.text)")
        }
        #expect(control.requests.count == count)
        #expect(try control.store.tunnel(named: "acme") == before)
        // Not looked at before it is to run, nor, unless that is asked for, when a file is only tried.
        let trial = #"{"name": "ix", "password": "p", "interface": "lo"}"#
        #expect(try await control.send(.post, "/v1/tunnels?dry_run=1", trial).status == 200)
        #expect(try await control.send(.post, "/v1/tunnels?dry_run=1&host=1", trial).status == 422)
        let disabled = #"{"name": "ix", "password": "p", "interface": "lo", "disabled": true}"#
        #expect(try await control.send(.post, "/v1/tunnels", disabled).status == 201)
        #expect(try await control.send(.post, "/v1/tunnels/ix/enable").status == 422)
    }

    @Test func rowsThatWantWhatOthersHaveAreRefusedAndWhatRunsGoesOn() async throws {
        let control = try await Fixture(host: ChangingHost().resources)
        try await control.addTunnel("acme", port: 5080)
        try await control.addTunnel("other", port: 6080)
        try sqlite(
            control.store.path,
            """
            UPDATE tunnels SET interface = 'lo' WHERE name = 'acme'; UPDATE tunnels SET timeout = 9 WHERE name = 'other';
            UPDATE links SET bind_port = 7050 WHERE tunnel_id = 2 AND name = 'lte';
            """)
        let count = control.requests.count
        for body in [#"{"dry_run": true}"#, ""] {
            let answer = try await control.send(.post, "/v1/reload", body)
            let report = try JSON.decode(ReloadReport.self, from: answer.body)
            #expect(report.rejected.map(\.name).sorted() == ["acme", "other"], "\(answer.text)")
            #expect(report.changed.isEmpty && report.added.isEmpty)
            let words = report.rejected.flatMap(\.problems).joined(separator: "; ")
            #expect(words.contains("lo is a device of this host") && words.contains("port 7050 is in use"), "\(words)")
        }
        #expect(control.requests.count == count)
        #expect(try await control.send(.get, "/v1/status?tunnel=acme").text.contains("lo is a device of this host"))
        // Nor does a change of another field bring in what was refused.
        let changed = try await control.send(.patch, "/v1/tunnels/acme", #"{"mtu": 1400}"#)
        #expect(changed.status == 422 && changed.text.contains("lo is a device of this host"), "\(changed.text)")
        #expect(control.requests.count == count)
        let both = #"{"mtu": 1400, "interface": "acme0"}"#
        #expect(try await control.send(.patch, "/v1/tunnels/acme", both).status == 200)
        // One that does not run yet has nothing to lose: it waits.
        try sqlite(
            control.store.path,
            """
            INSERT INTO tunnels (name, interface) VALUES ('new', 'eth0');
            INSERT INTO secrets VALUES (last_insert_rowid(), x'70');
            """)
        let answer = try await control.send(.post, "/v1/reload", #"{"tunnels": ["new"]}"#)
        #expect(try JSON.decode(ReloadReport.self, from: answer.body).added == ["new"])
    }

    /// A tunnel that the supervisor has kept, whose rows are right again, meets its own device.
    @Test func aTunnelThatWasKeptIsNotInItsOwnWay() async throws {
        let host = ChangingHost()
        let control = try await Fixture(host: host.resources)
        try await control.addTunnel("acme", port: 5080)
        host.devices.withLock { _ = $0.insert("mlacme") }
        try sqlite(control.store.path, "UPDATE tunnels SET ip4 = '10.0.0.300/24'")
        let sent = Mutex(0)
        let next = control.successor(host: host.resources) { request in
            if case .apply = request { sent.withLock { $0 += 1 } }
        }
        try await next.start(eventsRead: 0)
        #expect(sent.withLock { $0 } == 0)
        try sqlite(control.store.path, "UPDATE tunnels SET ip4 = NULL")
        let report = try await next.reload(names: nil, dryRun: false, by: Change(uid: nil, action: "reload"))
        #expect(report.added == ["acme"] && report.rejected.isEmpty, "\(report)")
        #expect(sent.withLock { $0 } == 1)
    }

    @Test func whatIsOrWasOurOwnIsNoObstacle() async throws {
        let host = ChangingHost()
        let control = try await Fixture(host: host.resources)
        try await control.addTunnel("acme", port: 5080)
        host.devices.withLock { _ = $0.insert("mlacme") }
        host.sockets.withLock {
            $0 = [HostSocket(address: .v4(0x7f00_0001), port: 5080), HostSocket(address: .v4(0), port: 5081)]
        }
        for (method, path, body) in [
            (HTTPRequest.Method.patch, "/v1/tunnels/acme", #"{"timeout": 9}"#),
            (.patch, "/v1/tunnels/acme", #"{"links": ["adsl,bind=:5080", "lte,bind=127.0.0.1:5081"]}"#),
            (.post, "/v1/tunnels/acme/disable", ""), (.post, "/v1/tunnels/acme/enable", ""),
            (.patch, "/v1/tunnels/acme", #"{"interface": "other"}"#), (.delete, "/v1/tunnels/acme", ""),
            (.post, "/v1/tunnels", #"{"name": "acme", "password": "p", "links": ["adsl,bind=:5080"]}"#),
        ] {
            let answer = try await control.send(method, path, body)
            #expect((200...204).contains(answer.status), "\(method) \(path): \(answer.text)")
        }
        #expect(try control.store.tunnel(named: "acme").definition.interface.text == "mlacme")
    }

    @Test func anInterfaceThatIsChosenIsNoOthersDevice() async throws {
        let host = ChangingHost()
        host.devices.withLock { _ = $0.insert("mlacme") }
        let control = try await Fixture(host: host.resources)
        let added = try await control.addTunnel("acme", port: 5080)
        #expect(added.json["interface"] == .string("mlacme~2"))
    }
}
