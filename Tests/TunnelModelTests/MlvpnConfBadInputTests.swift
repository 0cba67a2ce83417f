import Testing
import TunnelModel

@Suite("mlvpn.conf: bad input")
struct MlvpnConfBadInputTests {
    @Test(arguments: ["", "\n\n", "# nothing but a comment\n", "[adsl1]\nbindport = 5080\n"])
    func aFileWithoutGeneralIsRefusedAndTheSectionNamed(_ text: String) {
        for strictness in [MlvpnConf.Strictness.lenient, .strict] {
            #expect(refusals(text, strictness).contains { $0.text.contains("[general]") })
        }
    }

    @Test func missingModeAndPasswordAreBothTold() {
        let problems = refusals("# first\n[general]\ntimeout = 30\n", .lenient)
        #expect(problems.count == 2)
        #expect(problems.tells(2, "mode", "server"))
        #expect(problems.tells(2, "password"))
    }

    @Test func anEmptyPasswordIsRefusedAtItsLine() {
        #expect(refusals("[general]\nmode = server\npassword = \"\"\n", .lenient).tells(3, "password is empty"))
    }

    @Test func aNulByteIsRefusedAtItsLine() {
        let bytes = Array(server().utf8) + [0x0a, 0x61, 0x00]
        #expect(refusals(bytes: bytes, .lenient).count == 1)
        #expect(refusals(bytes: bytes, .lenient).tells(9, "NUL"))
    }

    @Test func oneLineOfTenMegabytesIsRefusedForItsSize() {
        let bytes = [UInt8](repeating: UInt8(ascii: "a"), count: 10 << 20)
        #expect(refusals(bytes: bytes, .lenient).tells(nil, "10485760 bytes"))
    }

    @Test func theLargestLineThatIsReadIsRefusedWithoutBeingRepeated() {
        let text = "[general]\n" + String(repeating: "k", count: (1 << 20) - 20) + " = 1\n"
        let problems = refusals(text)
        #expect(problems.tells(2, "no key of [general]"))
        #expect(problems.allSatisfy { $0.text.utf8.count < 1000 })
    }

    @Test func aSectionsEndlessNameIsRefusedWithoutBeingRepeated() {
        let text = server() + "\n[" + String(repeating: "s", count: 1_000_000) + "]\nbindport = 1\n"
        let problems = refusals(text)
        #expect(problems.tells(9, "255 bytes"))
        #expect(problems.description.utf8.count < 1000)
    }

    @Test func garbageIsRefusedInShort() {
        var random = SeededGenerator(seed: 7)
        let bytes = (0..<1 << 20).map { _ in UInt8.random(in: 1...255, using: &random) }
        for strictness in [MlvpnConf.Strictness.lenient, .strict] {
            let problems = refusals(bytes: bytes, strictness)
            #expect(!problems.isEmpty)
            #expect(problems.count <= 101)
        }
    }

    @Test func aMegabyteOfSectionsIsRefused() {
        let text = server() + (0..<100_000).map { "\n[l\($0)]\n" }.joined().prefix(1_000_000)
        #expect(!refusals(text, .strict).isEmpty)
        let used = server() + (0..<40_000).map { "\n[l\($0)]\nbindport=1" }.joined()
        #expect(refusals(used, .lenient).tells(8 + 2 * 32 - 1, "this is link 33", "40001"))
    }

    @Test func aMegabyteOfFiltersIsRefused() {
        let text = server(rest: "[filters]\n" + String(repeating: "adsl1=udp\n", count: 100_000))
        #expect(refusals(text, .lenient).tells(8 + 256, "this is filter 256", "255"))
    }

    @Test func anyMutationOfAValidFileIsReadOrRefusedAndNeverMore() {
        var random = SeededGenerator(seed: 42)
        let valid = Array(server(general: "ip4 = 10.0.0.1/30\nmtu = 1400", rest: "[filters]\nadsl1 = udp\n").utf8)
        for _ in 0..<3000 {
            var bytes = valid
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let index = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[index] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.remove(at: index)
                default: bytes.insert(Array("[]=\"# \n\t0".utf8).randomElement(using: &random)!, at: index)
                }
            }
            guard let result = try? read(bytes: bytes) else { continue }
            #expect(result.definition.problems.isEmpty)
        }
    }

    @Test(arguments: [
        ("bindport = 0", "bindport"), ("bindport = 65536", "bindport"), ("bindport = 50 80 x", "bindport"),
        ("bindhost = 1.2.3", "bindhost"), ("bindhost = \"a b\"", "bindhost"), ("remoteport = x", "remoteport"),
        ("bandwidth_upload = much", "bandwidth_upload"), ("bandwidth_limit = 10", "bandwidth_limit"),
        ("timeout = 1", "timeout"), ("timeout = 99999999999999999999", "timeout"), ("timeout = -5", "timeout"),
        ("loss_tolerance = 101", "loss_tolerance"), ("latency_tolerance = 60001", "latency_tolerance"),
        ("fallback_only = yes", "fallback_only"), ("remotehost = 192.0.2.1", "remoteport"),
    ])
    func aBadValueOfALinkIsRefusedAtItsLine(_ line: String, _ key: String) {
        let isPort = line.hasPrefix("bindport")
        let text = "[general]\nmode = server\npassword = x\n[adsl1]\n\(isPort ? "" : "bindport = 5080")\n\(line)\n"
        let problems = refusals(text)
        #expect(problems.count == 1, "\(problems)")
        #expect(problems.tells(6, key))
    }

    @Test(arguments: [
        ("ip4 = 10.0.0.1/33", "ip4"), ("ip4 = 2001:db8::1/64", "ip4"), ("ip4 = 224.0.0.1/24", "ip4"),
        ("ip6 = 10.0.0.1/30", "ip6"), ("ip4_gateway = 10.0.0.1/30", "ip4_gateway"), ("ip6_gateway = x", "ip6_gateway"),
        ("ip4_routes = 10.0.0.0/8 nowhere", "ip4_routes"), ("ip6_routes = 10.0.0.0/8", "ip6_routes"),
        ("mtu = 1500", "mtu"), ("mtu = 0", "mtu"), ("timeout = soon", "timeout"),
        ("reorder_buffer_size = 65537", "reorder_buffer_size"), ("reorder_buffer_size = big", "reorder_buffer_size"),
        ("loss_tolerence = 1000", "loss_tolerance"), ("scheduler = fair", "scheduler"), ("tuntap = tunnel", "tuntap"),
        ("cleartext_data = true", "cleartext_data"), ("statuscommand = updown.sh", "statuscommand"),
        ("statuscommand = /etc/../tmp/x", "statuscommand"), ("control_bind_host = 127.0.0.1", "control_bind_port"),
        ("control_bind_port = http", "control_bind_port"), ("interface_name = this-is-far-too-long", "interface_name"),
        ("interface_name = a/b", "interface_name"), ("bindport = 5080", "belongs below the section of a link"),
        ("protocol = tcp", "UDP only"), ("loglevel = 4", "-v"), ("logfile = x", "syslog"), ("timeuot = 3", "timeout"),
        ("reorder_buffer_size 64", "reorder_buffer_size = 64"), ("= 5", "nothing before"), ("[general", "no ']'"),
        ("mode = client", "line 2 already"), ("ip4 = \"10.0.0.1/30", "not closed"), ("tuntap = tün", "ASCII"),
        ("tuntap = tun = tap", "second '='"),
    ])
    func aBadLineOfGeneralIsRefusedAtItsLine(_ line: String, _ told: String) {
        let problems = refusals(server(general: line))
        #expect(problems.count == 1, "\(problems)")
        #expect(problems.tells(4, told), "\(problems)")
    }

    @Test func whatIsWrongIsToldAllAtOnceInTheOrderOfTheLines() {
        let problems = refusals(
            """
            [general]
            mode = server
            password = x
            colour = blue
            mtu = 9000
            [adsl1]
            bindfib = 1
            [adsl2]
            bindport = 5081
            bandwidth_download = 1
            [adsl2]
            """)
        #expect(problems.map(\.line) == [4, 5, 6, 7, 10, 11])
        #expect(problems.tells(6, "adsl1", "bindport"))
        #expect(problems.tells(10, "bandwidth_upload"))
        #expect(problems.tells(11, "began on line 8"))
    }

    @Test func aClientsLinkWithoutServerIsRefusedEvenLeniently() {
        let text = "[general]\nmode = client\npassword = x\n[adsl1]\nremoteport = 5080\n[adsl2]\nbindport = 1\n"
        let problems = refusals(text, .lenient)
        #expect(problems.tells(4, "remotehost"))
        #expect(problems.tells(6, "remotehost"))
        #expect(problems.tells(6, "remoteport"))
    }

    @Test func ofTwoLinksOnOnePortAServerHasTheFirst() throws {
        let text = server(rest: "[adsl2]\nbindhost = 127.0.0.1\nbindport = 5080\n")
        #expect(refusals(text).tells(10, "adsl1", "own port"))
        let (definition, warnings) = try read(text)
        #expect(definition.links.map(\.name.text) == ["adsl1"])
        #expect(warnings.tells(10, "adsl1", "the link is left out"))
    }

    @Test func aServersRemoteOfAnotherFamilyIsNotSet() throws {
        let text = server(link: "bindhost = 127.0.0.1\nremotehost = ::1\nremoteport = 5080")
        #expect(refusals(text).tells(8, "families"))
        let (definition, warnings) = try read(text)
        #expect(definition.links.map(\.remote) == [nil])
        #expect(warnings.tells(8, "families", "not set"))
    }

    /// Stock runs these files: what a link cannot be is told at its line, and the others work.
    @Test(arguments: [
        ("bindport = 5080", 10, "the kernel chooses one", true), ("bindport = 0", 10, "the kernel chooses one", true),
        ("bindhost = ::1", 10, "families", false), ("bindport = 70000", 10, "the link is left out", false),
    ])
    func aClientsLinkThatCannotBeKeepsNoOtherFromRunning(
        line: String, number: Int, words: String, isThere: Bool
    ) throws {
        let text = """
            [general]
            mode = client
            password = x
            [adsl1]
            bindport = 5080
            remotehost = 192.0.2.1
            remoteport = 5080
            [adsl2]
            remotehost = 192.0.2.1
            \(line)
            remoteport = 5081
            """
        #expect(!refusals(text).isEmpty)
        let (definition, warnings) = try read(text)
        #expect(warnings.count == 1 && warnings.tells(line.contains("::1") ? 9 : number, words), "\(warnings)")
        #expect(definition.links.map(\.name.text) == (isThere ? ["adsl1", "adsl2"] : ["adsl1"]))
        #expect(definition.links[0].bind.port == 5080)
        if isThere { #expect(definition.links[1].bind == BindAddress()) }
    }

    @Test func nowhereIsNoRemote() throws {
        let text = """
            [general]
            mode = client
            password = x
            [adsl1]
            remotehost = 0.0.0.0
            remoteport = 5080
            [adsl2]
            remotehost = 192.0.2.1
            remoteport = 5081
            """
        #expect(refusals(text).tells(5, "no address to send to"))
        let (definition, warnings) = try read(text)
        #expect(definition.links.map(\.name.text) == ["adsl2"])
        #expect(warnings.tells(5, "no address to send to", "the link is left out"))
    }

    @Test func filtersOfUnknownLinksAndWithoutExpressionAreRefused() {
        let problems = refusals(server(rest: "[filters]\nadsl9 = udp\nadsl1 =\nadsl1,sdsl = udp\n, = udp\n"))
        #expect(problems.tells(9, "\"adsl9\"", "adsl1"))
        #expect(problems.tells(10, "no expression"))
        #expect(problems.tells(11, "\"sdsl\""))
        #expect(problems.tells(12, "no link"))
    }

    @Test func aFilterThatDoesNotCompileIsRefusedAtItsLineOrLeftOut() throws {
        let text = Array(server(rest: "[filters]\nadsl1 = udp\nadsl1 = bogus\n").utf8)
        func check(_ expression: String, _ device: DeviceKind) throws(DefinitionError) {
            if expression == "bogus" { throw DefinitionError("filter", "syntax error") }
        }
        let name = try TunnelName("office")
        let error = #expect(throws: ConfError.self) {
            try MlvpnConf.parse(text, tunnelName: name, strictness: .strict, checkFilter: check)
        }
        #expect(error?.problems.tells(10, "syntax error") == true)
        let result = try MlvpnConf.parse(text, tunnelName: name, strictness: .lenient, checkFilter: check)
        #expect(result.definition.filters.map(\.expression) == ["udp"])
        #expect(result.warnings.tells(10, "syntax error", "ignored"))
    }
}
