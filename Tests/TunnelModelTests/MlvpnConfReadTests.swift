import Testing
import TunnelModel

@Suite("mlvpn.conf: reading")
struct MlvpnConfReadTests {
    @Test func theManualsClientIsReadWithoutAWord() throws {
        let (tunnel, warnings) = try read(
            """
            [general]
            statuscommand = "/etc/mlvpn/mlvpn0_updown.sh"
            tuntap = "tun"
            mode = "client"
            interface_name = "mlvpn0"
            timeout = 30
            password = "you have not changed me yet?"
            reorder_buffer_size = 64
            loss_tolerance = 50

            [filters]

            [adsl1]
            bindhost = "192.168.1.2"
            remotehost = "128.128.128.128"
            remoteport = 5080

            [adsl2]
            bindhost = "192.168.2.2"
            remotehost = "128.128.128.128"
            remoteport = 5081
            """, .strict)
        #expect(warnings.isEmpty)
        #expect(tunnel.mode == .client)
        #expect(tunnel.interface.text == "mlvpn0")
        #expect(tunnel.statusCommand == "/etc/mlvpn/mlvpn0_updown.sh")
        #expect(tunnel.password.bytes == Array("you have not changed me yet?".utf8))
        #expect(tunnel.timeout == 30)
        #expect(tunnel.reorder == .packets(64))
        #expect(tunnel.lossTolerance == 50)
        #expect(tunnel.links.map(\.name.text) == ["adsl1", "adsl2"])
        #expect(tunnel.links.map(\.bind.description) == ["192.168.1.2", "192.168.2.2"])
        #expect(tunnel.links.map(\.remote?.description) == ["128.128.128.128:5080", "128.128.128.128:5081"])
    }

    /// With its line without '=', and bare filters, which stock does not read.
    @Test func theManualsVoIPExampleIsReadWithAWarningOfItsMissingEqualsSign() throws {
        let text = """
            [general]
            # This configuration is not complete
            mode = client
            password = x
            reorder_buffer_size 64
            loss_tolerance = 50

            [filters]
            sdsl = udp port 5060
            adsl = udp port 5060

            [sdsl]
            remotehost = sdslgw.mlvpn.fr
            remoteport = 5080

            [adsl]
            remotehost = adslgw.mlvpn.fr
            remoteport = 5081
            """
        let (tunnel, warnings) = try read(text)
        #expect(warnings.count == 1)
        #expect(warnings.tells(5, "reorder_buffer_size = 64", "ignored"))
        #expect(tunnel.reorder == .auto)
        #expect(tunnel.filters.map(\.spec) == ["sdsl=udp port 5060", "adsl=udp port 5060"])
        #expect(tunnel.links.first?.remote?.host == .name("sdslgw.mlvpn.fr"))
        #expect(refusals(text).map(\.line) == [5])
    }

    @Test func anAbsentKeyTakesOurDefaultAndTimeoutStocks() throws {
        let tunnel = try read(server(), .strict).definition
        #expect(tunnel.timeout == 60)
        #expect(tunnel.reorder == .auto)
        #expect(tunnel.scheduler == .adaptive)
        #expect(tunnel.lossTolerance == 100)
        #expect(tunnel.latencyTolerance == 1000)
        #expect(tunnel.interface.text == "mlvpn0")
        #expect(tunnel.device == .tun)
        #expect(tunnel.mtu == nil)
        #expect(!tunnel.cleartextData)
        #expect(tunnel.clampMSS)
        #expect(tunnel.offloads == OffloadSwitches())
        #expect(tunnel.links.first?.bind == BindAddress(port: 5080))
        #expect(tunnel.links.first?.bandwidth == .auto)
        #expect(tunnel.links.first?.timeout == nil)
    }

    @Test func everyKeyIsRead() throws {
        let tunnel = try read(
            """
            [general]
            mode = server
            password = secret
            interface_name = "ml0"
            tuntap = tap
            ip4 = 10.0.0.1/30
            ip6 = "2001:db8::1/64"
            ip4_gateway = 10.0.0.2
            ip6_gateway = 2001:db8::2
            ip4_routes = 192.168.0.0/24 192.168.1.0/24,10.1.0.0/16
            ip6_routes = "2001:db8:1::/48, default"
            mtu = 1400
            timeout = 12
            reorder_buffer_size = 128
            loss_tolerence = 7
            latency_tolerence = 250
            scheduler = failover
            cleartext_data = 1
            clamp_mss = 0
            offload_device = 0
            offload_udp_segment = 0
            offload_udp_gro = 0
            control_unix_path = "/run/ml0.sock"
            control_bind_host = "::1"
            control_bind_port = "1040"
            [dsl]
            bindhost = "::"
            bindport = "5080"
            remotehost = "2001:db8::99"
            remoteport = 5099
            bandwidth_upload = 61440
            bandwidth_limit = 20mbit
            timeout = 5
            loss_tolerance = 30
            latency_tolerance = 90
            fallback_only = 1
            """, .strict
        ).definition
        #expect(tunnel.device == .tap)
        #expect(tunnel.ip4?.description == "10.0.0.1/30")
        #expect(tunnel.ip6?.description == "2001:db8::1/64")
        #expect(tunnel.gateway4?.description == "10.0.0.2")
        #expect(tunnel.gateway6?.description == "2001:db8::2")
        #expect(
            tunnel.routes.map(\.description) == [
                "192.168.0.0/24", "192.168.1.0/24", "10.1.0.0/16", "2001:db8:1::/48", "::/0",
            ])
        #expect(tunnel.mtu == 1400)
        #expect(tunnel.timeout == 12)
        #expect(tunnel.reorder == .packets(128))
        #expect(tunnel.lossTolerance == 7)
        #expect(tunnel.latencyTolerance == 250)
        #expect(tunnel.scheduler == .failover)
        #expect(tunnel.cleartextData)
        #expect(!tunnel.clampMSS)
        #expect(tunnel.offloads == OffloadSwitches(device: false, udpSegment: false, udpGRO: false))
        #expect(
            tunnel.monitoring
                == Monitoring(unixPath: "/run/ml0.sock", bindHost: .address(.v6(0, 1)), bindPort: 1040))
        let link = try #require(tunnel.links.first)
        #expect(link.bind.description == "[::]:5080")
        #expect(link.remote?.description == "[2001:db8::99]:5099")
        #expect(link.bandwidth == .bytesPerSecond(61440))
        #expect(link.limit == 2_500_000)
        #expect(link.timeout == 5)
        #expect(link.lossTolerance == 30)
        #expect(link.latencyTolerance == 90)
        #expect(link.fallback)
    }

    @Test(arguments: [
        ("bar secret", "barsecret", true), ("  bar  ", "bar", false), ("\"bar secret\"", "bar secret", false),
        ("\" bar \"", "bar", false), ("a \"b c\" d", "ab cd", true), ("\"a#b\" # comment", "a#b", false),
        ("\"a=b\"", "a=b", false), ("a#b", "a", false), ("\"a[b]c\"", "a[b]c", false), ("\"x\ty\"", "x\ty", true),
    ])
    func passwordsAreTheBytesThatStockReads(_ written: String, _ expected: String, _ isToldOf: Bool) throws {
        let (tunnel, warnings) = try read("[general]\nmode=server\npassword = \(written)\n", .strict)
        #expect(tunnel.password.bytes == Array(expected.utf8))
        #expect(warnings.tells(3, "password") == isToldOf, "\(warnings)")
    }

    @Test func warningsOfAPasswordDoNotShowIt() throws {
        let (_, warnings) = try read("[general]\nmode = server\npassword = bar secret\t\n")
        #expect(warnings.count == 1)
        #expect(!warnings.description.contains("secret"))
        let problems = refusals("[general]\nmode = server\npassword = hünter2\n", .lenient)
        #expect(problems.tells(3, "password", "quotes"))
        #expect(!problems.description.contains("nter2"))
    }

    @Test func carriageReturnsByteOrderMarkAndAMissingLastNewlineDoNotMatter() throws {
        let text = server(rest: "[filters]\nadsl1 = udp").split(separator: "\n", omittingEmptySubsequences: false)
            .joined(separator: "\r\n")
        let (tunnel, warnings) = try read(bytes: [0xef, 0xbb, 0xbf] + Array(text.utf8), .strict)
        #expect(warnings.isEmpty)
        #expect(tunnel.filters.map(\.spec) == ["adsl1=udp"])
    }

    @Test func sectionsMayComeInAnyOrder() throws {
        let text = "[filters]\na = udp\n[a]\nbindport = 1\n[general]\nmode = server\npassword = x\n"
        #expect(try read(text, .strict).definition.filters.map(\.spec) == ["a=udp"])
    }

    @Test func filtersKeepTheirOrderTheirOperatorsAndSeveralLinks() throws {
        let filters = """
            [filters]
            adsl1, sdsl = tcp port 22
            "sdsl" = "udp and port 53"   # dns
            adsl1 = ip[1] & 0xfc == 0xb8
            sdsl = tcp[tcpflags] & (tcp-syn|tcp-fin) != 0
            [sdsl]
            bindport = 5081
            """
        let (tunnel, warnings) = try read(server(rest: filters), .strict)
        #expect(warnings.isEmpty)
        #expect(
            tunnel.filters.map(\.spec) == [
                "adsl1+sdsl=tcp port 22", "sdsl=udp and port 53", "adsl1=ip[1] & 0xfc == 0xb8",
                "sdsl=tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
            ])
    }

    @Test func bothSpellingsOfATolerancePassWhenTheyAgree() throws {
        #expect(
            try read(server(general: "loss_tolerence = 5\nloss_tolerance = 5"), .strict).definition.lossTolerance == 5)
        #expect(refusals(server(general: "loss_tolerence = 5\nloss_tolerance = 6")).tells(5, "line 4 already"))
    }

    @Test func sparedLinesAreWhatStockMakesOfThem() throws {
        let (tunnel, warnings) = try read(
            """
            [general]
            mode = serve
            password = x
            colour = blue
            tuntap = tunnel
            interface_name = a-name-of-20-letters
            timeout = 1
            loss_tolerance = 30%
            latency_tolerance = lots
            reorder_buffer_size = big
            mtu = 1500
            ip4 = 10.0.0.1/30/2
            ip4_routes = here 10.0.0.0/8
            statuscommand = relative.sh
            mode = server
            [adsl 1] # first
            remotehost = 192.0.2.1
            remoteport = 5080
            bindfib = 2
            [adsl2]
            remotehost = 192.0.2.1
            remoteport = ftp
            [empty]
            [filters]
            adsl2 = udp
            adsl_1 = udp
            """)
        #expect(warnings.compactMap(\.line) == [2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 22, 23])
        #expect(warnings.tells(2, "client is used"))
        #expect(warnings.tells(16, "adsl_1"))
        #expect(warnings.tells(19, "no effect on Linux"))
        #expect(warnings.tells(22, "remoteport", "left out"))
        #expect(tunnel.mode == .client)
        #expect(tunnel.device == .tap)
        #expect(tunnel.interface.text == "a-name-of-20-le")
        #expect(tunnel.timeout == 2)
        #expect(tunnel.lossTolerance == 30)
        #expect(tunnel.latencyTolerance == 1000)
        #expect(tunnel.reorder == .off)
        #expect(tunnel.mtu == nil)
        #expect(tunnel.ip4 == nil)
        #expect(tunnel.routes.map(\.description) == ["10.0.0.0/8"])
        #expect(tunnel.statusCommand == nil)
        #expect(tunnel.links.map(\.name.text) == ["adsl_1"])
        #expect(tunnel.filters.map(\.spec) == ["adsl_1=udp"])
        #expect(tunnel.problems.isEmpty)
    }

    @Test func aRepeatedSectionIsOneWithTheFirst() throws {
        let (tunnel, warnings) = try read(server(rest: "[b]\nbindport = 1\n[adsl1]\nbindport = 2\ntimeout = 9"))
        #expect(tunnel.links.map(\.bind.port) == [5080, 1])
        #expect(tunnel.links.first?.timeout == 9)
        #expect(warnings.tells(10, "line 5"))
        #expect(warnings.tells(11, "line 6", "first counts"))
    }
}
