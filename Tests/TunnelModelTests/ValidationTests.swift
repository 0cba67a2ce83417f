import Testing
import TunnelModel

@Suite("Definitions")
struct ValidationTests {
    @Test func addressesOfTheWrongFamilyAreToldOf() throws {
        var tunnel = try tunnel()
        tunnel.ip4 = try CIDR("2001:db8::1/64", field: "ip4")
        tunnel.ip6 = try CIDR("10.0.0.1/30", field: "ip6")
        tunnel.gateway4 = IPAddress("2001:db8::2")
        tunnel.gateway6 = IPAddress("10.0.0.2")
        #expect(tunnel.problems.map(\.field) == ["ip4", "ip6", "gateway4", "gateway6"])
        #expect(tunnel.problems.first?.problem.contains("give it as ip6") == true)
    }

    @Test func severalProblemsOfSeveralLinksAreAllToldOf() throws {
        var tunnel = try tunnel()
        tunnel.links = try [
            LinkSpec("a,timeout=5").definition, LinkSpec("b,bind=:5080").definition,
            LinkSpec("b,bind=127.0.0.1:5080").definition, LinkSpec("c,bind=[::1]:5081").definition,
        ]
        tunnel.links[0].limit = 1
        tunnel.links[3].bandwidth = .bytesPerSecond(.max)
        #expect(
            tunnel.problems.map(\.field) == [
                "link a: bind", "link a: limit", "link b", "link b: bind", "link c: bandwidth",
            ])
    }

    @Test func moreLinksAndFiltersThanFitAreRefused() throws {
        var tunnel = try tunnel()
        tunnel.links = try (0...TunnelDefinition.maximumLinks).map {
            try LinkSpec("l\($0),bind=:\(6000 + $0)").definition
        }
        tunnel.filters = (0...TunnelDefinition.maximumFilters).map { _ in
            FilterDefinition(links: [tunnel.links[0].name], expression: "udp")
        }
        #expect(tunnel.problems.map(\.field) == ["link", "filter"])
    }

    @Test func aMonitoringSocketsPathIsOneThatASocketCanHave() throws {
        var tunnel = try tunnel()
        tunnel.monitoring.unixPath = "/" + String(repeating: "s", count: 107)
        #expect(tunnel.problems.map(\.field) == ["control-unix-path"])
        tunnel.monitoring.unixPath = "/" + String(repeating: "s", count: 106)
        #expect(tunnel.problems.isEmpty)
    }

    @Test func twoTunnelsCannotHaveOneMonitoringSocket() throws {
        var one = try tunnel()
        one.monitoring = Monitoring(unixPath: "/run/x/acme.sock", bindPort: 1040)
        var other = one
        other.name = try TunnelName("other")
        other.interface = try InterfaceName("ml1")
        #expect(other.conflicts(with: [one]).map(\.field) == ["control-unix-path", "control-bind-port"])
        other.monitoring = Monitoring(
            unixPath: "/run/x/other.sock", bindHost: try Host("::1", field: ""), bindPort: 1040)
        #expect(other.conflicts(with: [one]).isEmpty)
        other.monitoring.bindHost = try Host("0.0.0.0", field: "")
        #expect(other.conflicts(with: [one]).map(\.field) == ["control-bind-port"])
    }

    private func tunnel() throws -> TunnelDefinition {
        TunnelDefinition(
            name: try TunnelName("office"), mode: .server, interface: try InterfaceName("ml0"),
            password: try Password([0x78]))
    }

    /// A name may lead to IPv6, whose headers take 20 bytes more, unless the socket's address says otherwise.
    @Test(arguments: [
        ("a,bind=:5080", 1428), ("a,bind=192.0.2.1:5080,remote=peer.example:5080", 1428),
        ("a,remote=192.0.2.1:5080", 1428), ("a,remote=peer.example:5080", 1408),
        ("a,bind=[2001:db8::1]:5080", 1408), ("a,bind=here.example:5080", 1408), ("a,remote=[2001:db8::1]:5080", 1408),
    ])
    func theMTUFitsWhereverALinkMayLead(spec: String, mtu: Int) throws {
        var tunnel = TunnelDefinition(
            name: try TunnelName("a"), mode: .server, interface: try InterfaceName("a"), password: try Password([1]))
        tunnel.links = [try LinkSpec(spec).definition]
        #expect(tunnel.effectiveMTU == mtu)
        tunnel.device = .tap
        #expect(tunnel.effectiveMTU == mtu - 14)
    }
}
