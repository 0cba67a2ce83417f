import Testing
import TunnelModel

@Suite("mlvpn.conf: writing")
struct MlvpnConfWriteTests {
    @Test(arguments: ["with\"quote", " leading", "trailing ", "hünter2"])
    func aPasswordThatTheFormatCannotCarryIsRefusedAndNotShown(_ password: String) throws {
        var tunnel = try server()
        tunnel.password = try Password(Array(password.utf8))
        let error = #expect(throws: DefinitionError.self) { try MlvpnConf.write(tunnel, for: .server) }
        #expect(error?.field == "password")
        #expect(error?.description.contains(password) == false)
    }

    @Test(arguments: ["filters", "filters2", "general"])
    func aLinkWhoseNameMeansAnotherSectionIsRefused(_ name: String) throws {
        var tunnel = try server()
        tunnel.links[0].name = try LinkName(name)
        #expect(throws: DefinitionError.self) { try MlvpnConf.write(tunnel, for: .server) }
    }

    @Test func aClientOfAWildcardServerNeedsAHost() throws {
        let tunnel = try server(bind: ":5080")
        let error = #expect(throws: DefinitionError.self) { try MlvpnConf.write(tunnel, for: .client) }
        #expect(error?.description.contains("--remote HOST") == true)
        #expect(throws: DefinitionError.self) { try MlvpnConf.write(tunnel, for: .client, remoteHost: "no host") }
        let any = try server(bind: "0.0.0.0:5080")
        #expect(throws: DefinitionError.self) { try MlvpnConf.write(any, for: .client) }
    }

    @Test func whatIsWrittenIsReadAsItWas() throws {
        for seed in 1...400 as ClosedRange<UInt64> {
            var random = SeededGenerator(seed: seed)
            let tunnel = try randomTunnel(&random)
            try #require(tunnel.problems.isEmpty, "seed \(seed): \(tunnel.problems)")
            let text = try MlvpnConf.write(tunnel, for: tunnel.mode)
            let result = try MlvpnConf.parse(Array(text.utf8), tunnelName: tunnel.name, strictness: .strict)
            #expect(result.definition == tunnel, "seed \(seed):\n\(text)")
            #expect(result.warnings.isEmpty, "seed \(seed): \(result.warnings)")
        }
    }

    @Test func thePeersFileOfAnyTunnelIsReadAndFitsIt() throws {
        for seed in 1...400 as ClosedRange<UInt64> {
            var random = SeededGenerator(seed: seed)
            let tunnel = try randomTunnel(&random)
            let role: TunnelMode = tunnel.mode == .server ? .client : .server
            let text = try MlvpnConf.write(tunnel, for: role, remoteHost: "198.51.100.7")
            let peer = try MlvpnConf.parse(Array(text.utf8), tunnelName: tunnel.name, strictness: .strict).definition
            #expect(peer.mode == role)
            #expect(peer.password == tunnel.password)
            #expect(peer.device == tunnel.device)
            #expect(peer.effectiveMTU == tunnel.effectiveMTU)
            #expect(peer.statusCommand == nil)
            #expect(peer.monitoring == Monitoring())
            #expect(peer.links.map(\.name) == tunnel.links.map(\.name))
            for (ours, theirs) in zip(tunnel.links, peer.links) {
                switch role {
                case .client: #expect(theirs.remote?.description == "198.51.100.7:\(ours.bind.port ?? 0)")
                case .server: #expect(theirs.bind.description == ":\(ours.remote?.port ?? 0)")
                }
                #expect(theirs.limit == nil)
            }
        }
    }

    @Test func aClientsFileSwapsAddressesAndPorts() throws {
        var tunnel = try server(bind: "192.0.2.1:5080")
        tunnel.ip4 = try CIDR("10.42.0.1/24", field: "ip4")
        tunnel.gateway4 = IPAddress("10.42.0.9")
        tunnel.ip6 = try CIDR("2001:db8::1/126", field: "ip6")
        tunnel.routes = [try CIDR("192.168.0.0/24", field: "route")]
        tunnel.statusCommand = "/etc/mlvpn/nat.sh"
        tunnel.links[0].bandwidth = .bytesPerSecond(1000)
        tunnel.filters = [FilterDefinition(links: [tunnel.links[0].name], expression: "udp port 5060")]
        let text = try MlvpnConf.write(tunnel, for: .client)
        let client = try MlvpnConf.parse(Array(text.utf8), tunnelName: tunnel.name, strictness: .strict).definition
        #expect(client.ip4?.description == "10.42.0.9/24")
        #expect(client.gateway4?.description == "10.42.0.1")
        #expect(client.ip6?.description == "2001:db8::2/126")
        #expect(client.gateway6?.description == "2001:db8::1")
        #expect(client.routes.isEmpty)
        #expect(client.mtu == 1428)
        #expect(client.links.first?.remote?.description == "192.0.2.1:5080")
        #expect(client.links.first?.bind == BindAddress())
        #expect(client.links.first?.bandwidth == .auto)
        #expect(client.filters == tunnel.filters)
    }

    @Test(arguments: [
        ("10.0.0.1/30", "10.0.0.2/30"), ("10.0.0.6/30", "10.0.0.5/30"), ("10.0.0.0/31", "10.0.0.1/31"),
        ("2001:db8::a/127", "2001:db8::b/127"),
    ])
    func thePeersAddressIsTheOtherOneOfASmallNetwork(_ ours: String, _ theirs: String) throws {
        var tunnel = try server(bind: "192.0.2.1:5080")
        let cidr = try CIDR(ours, field: "ip")
        if cidr.address.isIPv6 { tunnel.ip6 = cidr } else { tunnel.ip4 = cidr }
        let text = try MlvpnConf.write(tunnel, for: .client)
        let client = try MlvpnConf.parse(Array(text.utf8), tunnelName: tunnel.name, strictness: .strict).definition
        #expect((cidr.address.isIPv6 ? client.ip6 : client.ip4)?.description == theirs)
    }

    @Test func aServersFileBindsTheWildcardUnlessLinksShareAPort() throws {
        var tunnel = try server()
        tunnel.mode = .client
        tunnel.links = try [
            LinkSpec("a,remote=192.0.2.1:5080").definition, LinkSpec("b,remote=192.0.2.2:5080").definition,
            LinkSpec("c,remote=192.0.2.2:5081").definition,
        ]
        let text = try MlvpnConf.write(tunnel, for: .server)
        let peer = try MlvpnConf.parse(Array(text.utf8), tunnelName: tunnel.name, strictness: .strict).definition
        #expect(peer.links.map(\.bind.description) == ["192.0.2.1:5080", "192.0.2.2:5080", ":5081"])
        tunnel.links[1].remote = tunnel.links[0].remote
        let error = #expect(throws: DefinitionError.self) { try MlvpnConf.write(tunnel, for: .server) }
        #expect(error?.description.contains("at the server's end") == true)
    }

    @Test func anAddressWhosePeerIsNotKnownIsLeftToTheOperator() throws {
        var tunnel = try server(bind: "192.0.2.1:5080")
        tunnel.ip4 = try CIDR("10.42.0.1/24", field: "ip4")
        let text = try MlvpnConf.write(tunnel, for: .client)
        #expect(text.contains("\n#ip4 = "))
        #expect(!text.contains("\nip4"))
    }

    /// Stock takes a bracket anywhere in a line for a section.
    @Test func aBracketIsMarkedForWhoMovesToStock() throws {
        var tunnel = try server()
        tunnel.filters = [FilterDefinition(links: [tunnel.links[0].name], expression: "ip[1] & 0xfc == 0xb8")]
        let lines = try MlvpnConf.write(tunnel, for: .server).split(separator: "\n")
        let index = try #require(lines.firstIndex { $0.hasPrefix("adsl1 = ") })
        #expect(lines[index - 1].hasPrefix("# MLVPN takes the '['"))
    }

    private func server(bind: String = "127.0.0.1:5080") throws -> TunnelDefinition {
        var tunnel = TunnelDefinition(
            name: try TunnelName("office"), mode: .server, interface: try InterfaceName("ml0"),
            password: try Password(Array("secret".utf8)))
        var link = LinkDefinition(name: try LinkName("adsl1"))
        link.bind = try BindAddress(bind, field: "bind")
        tunnel.links = [link]
        return tunnel
    }
}

/// A valid definition with everything that the format can carry.
private func randomTunnel(_ random: inout SeededGenerator) throws -> TunnelDefinition {
    func maybe<Value>(_ value: @autoclosure () throws -> Value) rethrows -> Value? {
        Bool.random(using: &random) ? try value() : nil
    }
    var tunnel = TunnelDefinition(
        name: try TunnelName("office"), mode: Bool.random(using: &random) ? .server : .client,
        interface: try InterfaceName("ml\(Int.random(in: 0..<1000, using: &random))"),
        password: try Password(randomPassword(&random)))
    let number = Int.random(in: 0..<250, using: &random)
    tunnel.device = DeviceKind.allCases.randomElement(using: &random)!
    tunnel.ip4 = try maybe(CIDR("10.0.\(number).1/\(Int.random(in: 8...32, using: &random))", field: "ip4"))
    tunnel.ip6 = try maybe(CIDR("2001:db8::\(number + 1)/\(Int.random(in: 8...128, using: &random))", field: "ip6"))
    tunnel.gateway4 = maybe(IPAddress("10.0.\(number).2")) ?? nil
    tunnel.gateway6 = maybe(IPAddress("2001:db8:1::\(number)")) ?? nil
    for index in 0..<Int.random(in: 0...3, using: &random) {
        tunnel.routes.append(try CIDR("192.168.\(index).0/24", field: "route"))
    }
    if Bool.random(using: &random) { tunnel.routes.append(try CIDR("2001:db8:9::/48", field: "route")) }
    tunnel.mtu = maybe(Int.random(in: 1280...1430, using: &random))
    tunnel.timeout = Int.random(in: 2...86400, using: &random)
    tunnel.reorder = [.off, .auto, .packets(Int.random(in: 1...65536, using: &random))].randomElement(using: &random)!
    tunnel.lossTolerance = Int.random(in: 0...100, using: &random)
    tunnel.latencyTolerance = Int.random(in: 0...60000, using: &random)
    tunnel.scheduler = Scheduler.allCases.randomElement(using: &random)!
    tunnel.cleartextData = Bool.random(using: &random)
    tunnel.clampMSS = Bool.random(using: &random)
    tunnel.offloads = OffloadSwitches(
        device: Bool.random(using: &random), udpSegment: Bool.random(using: &random),
        udpGRO: Bool.random(using: &random))
    tunnel.statusCommand = maybe("/etc/mlvpn/up down #\(number).sh")
    tunnel.monitoring.unixPath = maybe("/run/mlvpn=\(number).sock")
    tunnel.monitoring.bindPort = maybe(1040)
    if tunnel.monitoring.bindPort != nil { tunnel.monitoring.bindHost = try maybe(Host("localhost", field: "host")) }
    for index in 0..<Int.random(in: 0...5, using: &random) {
        tunnel.links.append(try randomLink(index, tunnel.mode, &random))
    }
    if tunnel.links.isEmpty { return tunnel }
    for _ in 0..<Int.random(in: 0...4, using: &random) {
        let names = tunnel.links.map(\.name).shuffled(using: &random)
        let expressions = [
            "udp port 5060", "tcp[13] & 7 != 0", "ip[1] & 0xfc == 0xb8", "src 10.0.0.1 and (tcp or udp)",
        ]
        tunnel.filters.append(
            FilterDefinition(
                links: Array(names.prefix(Int.random(in: 1...names.count, using: &random))),
                expression: expressions.randomElement(using: &random)!))
    }
    return tunnel
}

private func randomLink(
    _ index: Int, _ mode: TunnelMode, _ random: inout SeededGenerator
) throws -> LinkDefinition {
    func maybe<Value>(_ value: @autoclosure () throws -> Value) rethrows -> Value? {
        Bool.random(using: &random) ? try value() : nil
    }
    var link = LinkDefinition(name: try LinkName("l.\(index)_-"))
    let isIPv6 = Bool.random(using: &random)
    link.bind.host = try maybe(Host(isIPv6 ? "::1" : "127.0.0.1", field: "bind"))
    link.bind.port = maybe(UInt16(5080 + index))
    link.remote = try maybe(
        HostPort(isIPv6 ? "[2001:db8::7]:\(6000 + index)" : "vpn.example.net:\(6000 + index)", field: "remote"))
    if mode == .server, link.bind.port == nil { link.bind.port = UInt16(5080 + index) }
    if mode == .client, link.remote == nil { link.remote = try HostPort("192.0.2.1:\(6000 + index)", field: "remote") }
    if mode == .client, link.remote?.host == .address(.v4(0xc000_0201)), isIPv6 { link.bind.host = nil }
    link.bandwidth = maybe(.bytesPerSecond(UInt64.random(in: 1...Rate.maximum, using: &random))) ?? .auto
    link.limit = maybe(UInt64.random(in: 1000...Rate.maximum, using: &random))
    link.timeout = maybe(Int.random(in: 2...86400, using: &random))
    link.lossTolerance = maybe(Int.random(in: 0...100, using: &random))
    link.latencyTolerance = maybe(Int.random(in: 0...60000, using: &random))
    link.fallback = Bool.random(using: &random)
    return link
}

/// ASCII without double quotes; no space at the ends.
private func randomPassword(_ random: inout SeededGenerator) -> [UInt8] {
    let inner = (0..<Int.random(in: 0...40, using: &random)).map { _ -> UInt8 in
        let byte = UInt8.random(in: 0x20...0x7e, using: &random)
        return byte == UInt8(ascii: "\"") ? UInt8(ascii: "'") : byte
    }
    return [UInt8(ascii: "#")] + inner + [UInt8(ascii: "=")]
}
