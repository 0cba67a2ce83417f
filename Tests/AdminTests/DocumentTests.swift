import AdminAPI
import Testing
import TunnelModel

@Suite struct DocumentTests {
    @Test func columnsOfOneNameAreAllShown() {
        let table = Table(columns: ["a", "b", "a", "a"], rows: [[.integer(1), .integer(2), .integer(3), .integer(4)]])
        #expect(table.objects == [["a": .integer(1), "b": .integer(2), "a:2": .integer(3), "a:3": .integer(4)]])
    }

    /// What `show --secrets` gives, `add-tunnel` takes: the same tunnel.
    @Test func aShownDefinitionMakesTheSameTunnel() throws {
        var change = TunnelChange()
        change.name = try TunnelName("acme")
        change.password = try Password([0xff, 0xfe, 0x20])
        var tunnel = try change.newTunnel(interfaces: [])
        tunnel.device = .tap
        tunnel.enabled = false
        tunnel.ip4 = try CIDR("10.0.0.1/30", field: "ip4")
        tunnel.gateway6 = IPAddress("2001:db8::2")
        tunnel.routes = [try CIDR("10.2.0.0/16", field: "route")]
        tunnel.mtu = 1300
        tunnel.reorder = .packets(64)
        tunnel.scheduler = .failover
        tunnel.cleartextData = true
        tunnel.clampMSS = false
        tunnel.offloads = OffloadSwitches(device: false, udpSegment: false, udpGRO: false)
        tunnel.monitoring = Monitoring(unixPath: "/run/x", bindHost: try Host("::1", field: "host"), bindPort: 1040)
        tunnel.links = [
            try LinkSpec("adsl,bind=127.0.0.1:5080,remote=[2001:db8::1]:5081,bandwidth=20mbit,limit=3MB").definition,
            try LinkSpec("lte,bind=:5082,timeout=5,loss-tolerance=3,latency-tolerance=80,fallback").definition,
        ]
        tunnel.filters = [try FilterDefinition(spec: "lte+adsl=udp port 5060")]
        let shown = JSONValue(tunnel, version: 7, secrets: true)
        #expect(try TunnelChange(shown).newTunnel(interfaces: ["mlacme"]) == tunnel)
        // Through text, as it goes over the socket.
        let again = try JSON.decode(JSONValue.self, from: try JSON.encode(shown))
        #expect(try TunnelChange(again).newTunnel(interfaces: ["mlacme"]) == tunnel)
    }

    @Test func timesAreReadAsTheyAreWritten() {
        #expect(Timestamp.parse("2025-03-01T12:00:00.250Z", now: 0).map(Timestamp.text) == "2025-03-01T12:00:00.250Z")
        #expect(Timestamp.parse("2025-03-01 12:00", now: 0).map(Timestamp.text) == "2025-03-01T12:00:00.000Z")
        #expect(Timestamp.parse("36h", now: 200_000_000) == 70_400_000)
        for text in ["", "yesterday", "2025-02-30", "2025-13-01", "2025-03-01T25:00", "-5h", "2025-3-1", "1e3s", "٣h"] {
            #expect(Timestamp.parse(text, now: 0) == nil, "\(text)")
        }
    }

    @Test func everyProblemHasItsExitCode() {
        let codes = Dictionary(grouping: Problem.Kind.allCases, by: \.exitCode).mapValues(Set.init)
        #expect(codes[2] == [.usage])
        #expect(codes[3] == [.noSuchTunnel, .noSuchLink])
        #expect(codes[4] == [.unreachable])
        #expect(codes[5] == [.conflict])
        #expect(codes[0] == nil)
        #expect(Set(Problem.Kind.allCases.map(\.uri)).count == Problem.Kind.allCases.count)
    }

    @Test func tokensAreKnownByTheirHashesAlone() throws {
        let (laptop, server) = (APIToken.generate(), APIToken.generate())
        #expect(laptop.text != server.text && laptop.text.utf8.count == 43)
        let file = try APITokenFile(
            "# who\n\(laptop.line(name: "laptop"))\n\n  \(server.line(name: "server")) # rack 3\n")
        #expect(file.name(of: laptop.text) == "laptop" && file.name(of: server.text) == "server")
        #expect(file.name(of: laptop.text + "x") == nil && file.name(of: "") == nil)
        #expect(!laptop.line(name: "laptop").contains(laptop.text))
        for text in [
            "", "# nothing", laptop.text, "laptop sha256:12", "laptop md5:" + String(repeating: "0", count: 64),
        ] {
            #expect(throws: APITokenFile.Malformed.self, "\(text)") { try APITokenFile(text) }
        }
    }
}
