import ProcessChannel
import TunnelModel

/// One of each message, with every optional field both ways.
enum Samples {
    static func tunnels() throws -> [CompiledTunnel] {
        let name = try TunnelName("home")
        let password = try Password(Array("geheim".utf8))
        let plain = TunnelDefinition(name: name, mode: .server, interface: try InterfaceName("ml0"), password: password)
        var full = TunnelDefinition(
            name: name, mode: .client, interface: try InterfaceName("mltap"), device: .tap, password: password)
        full.enabled = false
        full.ip4 = try CIDR("10.0.0.1/30", field: "ip4")
        full.ip6 = try CIDR("2001:db8::1/64", field: "ip6")
        full.gateway4 = IPAddress("10.0.0.2")
        full.gateway6 = IPAddress("2001:db8::2")
        full.routes = [try CIDR("10.1.0.0/16", field: "route"), try CIDR("2001:db8:1::/48", field: "route")]
        full.mtu = 1400
        full.timeout = 17
        full.reorder = .packets(64)
        full.lossTolerance = 5
        full.latencyTolerance = 120
        full.scheduler = .redundant
        full.cleartextData = true
        full.clampMSS = false
        full.offloads = OffloadSwitches(device: false, udpSegment: true, udpGRO: false)
        full.statusCommand = "/etc/mlvpn/updown.sh"
        full.monitoring = Monitoring(
            unixPath: "/run/mlvpn/x", bindHost: try Host("localhost", field: "host"), bindPort: 1040)
        var link = LinkDefinition(name: try LinkName("adsl1"))
        link.bind = try BindAddress("192.0.2.1:5080", field: "bind")
        link.remote = try HostPort("vpn.example.org:5080", field: "remote")
        link.bandwidth = .bytesPerSecond(125_000)
        link.limit = 250_000
        link.timeout = 9
        link.lossTolerance = 3
        link.latencyTolerance = 80
        link.fallback = true
        var other = LinkDefinition(name: try LinkName("wifi"))
        other.remote = try HostPort("[2001:db8::9]:5081", field: "remote")
        full.links = [link, other]
        full.filters = [FilterDefinition(links: [link.name, other.name], expression: "udp port 5060")]
        return [
            CompiledTunnel(definition: plain, filterPrograms: []),
            CompiledTunnel(
                definition: full,
                filterPrograms: [
                    [BPFInstruction(code: 0x28, jt: 1, jf: 2, k: 12), BPFInstruction(code: 6, jt: 0, jf: 0, k: 1)]
                ]),
        ]
    }

    static func controlRequests() throws -> [ControlRequest] {
        try tunnels().map { .apply(id: 7, generation: 42, tunnel: $0) }
            + [
                .remove(id: -1), .ready(kept: []), .ready(kept: [3, -1]), .debug(id: 7, tokens: 5),
                .capture(id: 7, link: try LinkName("adsl1"), limits: limits),
                .capture(id: 7, link: nil, limits: limits), .cannotStart(reason: "damaged"),
                .signalled(number: 3),
            ]
    }

    static func controlNotices() throws -> [ControlNotice] {
        let link = try LinkName("adsl1")
        return [
            .welcome,
            .assigned(id: 7, generation: 42, slot: 3, linkSlots: [LinkSlot(link: link, slot: 9)]),
            .assigned(id: 7, generation: 42, slot: 3, linkSlots: []),
            .problem(id: 7, link: link, text: "cannot bind"), .problem(id: 7, link: nil, text: nil), .removed(id: 7),
            .reload, .engineStarted(count: 2), .stopping,
        ] + (try tunnels().map { .standalone(tunnel: $0) })
    }

    static func helperRequests() throws -> [HelperRequest] {
        let tunnels = try tunnels()
        let link = try LinkName("adsl1")
        let resume = HelperResume(
            previous: tunnels[1], hasDevice: true, sockets: [BoundSocket(link: link, isIPv6: true)], linksUp: [link],
            scripts: ToldScripts(links: [link], device: true, running: 4711))
        return tunnels.map { .configure(generation: 1, tunnel: $0, resume: nil) }
            + [.configure(generation: 2, tunnel: tunnels[0], resume: resume)]
            + LinkState.allCases.map { .linkState(link: link, state: $0) } + [.resolve(link: link), .deviceLost, .stop]
    }

    static func helperNotices() throws -> [HelperNotice] {
        let link = try LinkName("adsl1")
        let features = DeviceFeatures(hasVirtioHeader: true, tcpSegmentation: true, udpSegmentation: false)
        return [
            .device(generation: 1, features: features), .socket(generation: 1, link: link, isIPv6: true),
            .resolved(generation: 1, link: link, addresses: addresses),
            .resolved(generation: 1, link: link, addresses: []), .problem(link: link, text: "x"),
            .problem(link: nil, text: nil), .configured(generation: 9), .signalled(number: 1), .signalled(number: 15),
            .scripts(ToldScripts()), .scripts(ToldScripts(links: [link], device: true, running: 2)),
        ]
    }

    static func engineRequests() throws -> [EngineRequest] {
        let slots = [LinkSlot(link: try LinkName("adsl1"), slot: 4)]
        let features = DeviceFeatures(hasVirtioHeader: true, tcpSegmentation: false, udpSegmentation: true)
        return [.start(workers: 2, offloads: OffloadSwitches(device: true, udpSegment: false, udpGRO: true))]
            + (try tunnels().map { .define(slot: 3, generation: 42, tunnel: $0, linkSlots: slots) }) + [
                .device(slot: 3, features: features), .socket(slot: 3, linkSlot: 4, isIPv6: false),
                .peerAddresses(slot: 3, linkSlot: 4, addresses: addresses), .undefine(slot: 3),
                .debug(slot: 3, tokens: 1), .stop, .capture(slot: 3, linkSlot: 4, limits: limits),
                .capture(slot: 3, linkSlot: nil, limits: limits),
            ]
    }

    static func engineNotices() -> [EngineNotice] {
        [
            .ready, .resolveAgain(slot: 3, linkSlot: 4), .undefined(slot: 3), .signalled(number: 2),
            .cannotStart(reason: "refused"), .deviceLost(slot: 3), .logLost,
        ]
            + LinkState.allCases.map { .linkState(slot: 3, linkSlot: 4, state: $0) }
    }

    private static let limits = CaptureLimits(packets: 1000, snapLength: 128, seconds: 60)

    private static let addresses = [
        SocketAddress(.v4(0xc000_0201), port: 5080),
        SocketAddress(.v6(0xfe80 << 48, 1), port: 5081, scope: 3), .none,
    ]
}
