import CPcap
import FilterCompiler
import Testing
import TunnelModel

@Suite("Filter compiler")
struct FilterCompilerTests {
    @Test(arguments: [
        "", "   ", "\n\t", "udp port", "bogus(", "udp port 5060)", "port 65536", "ip proto icmp", "tcp[", "and", "1 >",
        "udp port 5060 \u{e9}", "host 1.2.3.4.5", "net 10.0.0.0/33", "inbound", "udp or outbound", "ifindex 2",
    ])
    func whatDoesNotCompileIsRefusedWithItsText(_ expression: String) {
        let error = #expect(throws: DefinitionError.self) {
            try FilterCompiler.compile(expression: expression, device: .tun)
        }
        #expect(error?.field == "filter")
        #expect(error?.problem.isEmpty == false)
    }

    @Test(arguments: [
        "host sip.example.net", "src sipgate", "sip.example.net", "udp and dst host voip", "not mail",
        "tcp port 80 or src web",
        "(port 80) or www", "net office", "port 80 and (www)", "gateway router", "ether host printer", "host 1-2",
        "host \\tcp", "tcp port http and host a.b", "udp port 53 and ip host x", "port http)and(x", "host _x or y",
    ])
    func aHostsNameIsRefusedBeforeItIsLookedUp(_ expression: String) {
        let error = #expect(throws: DefinitionError.self) {
            try FilterCompiler.compile(expression: expression, device: .tap)
        }
        #expect(error?.problem.contains("host's name") == true, "\(error?.problem ?? "")")
    }

    @Test func anExpressionThatIsTooLongIsRefused() {
        let long = String(repeating: "(", count: 5000)
        let error = #expect(throws: DefinitionError.self) { try FilterCompiler.compile(expression: long, device: .tun) }
        #expect(error?.problem.contains("4096 bytes") == true)
    }

    @Test func deepNestingIsCompiledOrRefused() {
        for depth in [10, 1000, 2000] {
            let text = String(repeating: "(", count: depth) + "udp" + String(repeating: ")", count: depth)
            let negated = String(repeating: "!", count: depth) + "udp"
            for expression in [text, negated] {
                if let program = try? FilterCompiler.compile(expression: expression, device: .tun) {
                    #expect(!program.isEmpty)
                }
            }
        }
    }

    @Test func randomWordsAreCompiledOrRefused() {
        let words = [
            "udp", "tcp", "port", "5060", "and", "or", "not", "(", ")", "host", "10.0.0.1", "net", "10.0.0.0/8", "ip6",
            "::1",
            "src", "dst", "[", "]", "0", ":", "2", "&", "=", "!=", "len", ">", "vlan", "proto", "\\tcp", "less", "icmp",
            "mpls",
        ]
        var random = SeededGenerator(state: 11)
        for _ in 0..<2000 {
            let count = Int.random(in: 1...12, using: &random)
            let text = (0..<count).map { _ in words.randomElement(using: &random)! }.joined(separator: " ")
            for device in DeviceKind.allCases {
                guard let program = try? FilterCompiler.compile(expression: text, device: device) else { continue }
                #expect((1...BPFInstruction.maximumProgram).contains(program.count), "\(text)")
            }
        }
    }

    /// Expressions of MLVPN's manual, of pcap-filter(7), and of the kind that its users write.
    @Test(arguments: [
        "udp port 5060", "icmp", "ip proto \\icmp", "tcp port 22", "udp and port 53", "portrange 10000-20000",
        "udp portrange 6000-6008", "net 192.168.0.0/24", "src net 10.0.0.0 mask 255.0.0.0", "host 2001:db8::1", "ip6",
        "ip6 net 2001:db8::/32", "tcp dst port 443 or tcp dst port 80", "port http", "tcp port (http or https)",
        "port ssh or domain", "ip[1] & 0xfc == 0xb8", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply", "icmp6[icmp6type] == icmp6-echo",
        "ip[0] & 0xf != 5", "greater 1000", "less 200", "len <= 128", "ip multicast",
        "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)", "not (tcp or udp)",
        "ip proto 47",
        "udp[8:4] == 0x21120442", "sctp", "esp or ah", "src 10.0.0.1 && dst 10.0.0.2", "src or dst port 5060",
        "ip protochain 17",
    ])
    func whatOperatorsWriteCompilesForBothDevices(_ expression: String) throws {
        for device in DeviceKind.allCases {
            let program = try FilterCompiler.compile(expression: expression, device: device)
            #expect((1...BPFInstruction.maximumProgram).contains(program.count))
        }
    }

    @Test(arguments: ["ether host 00:11:22:33:44:55", "ether proto 0x88cc", "arp", "vlan 5", "ether broadcast"])
    func whatIsOfEthernetCompilesForTap(_ expression: String) throws {
        #expect(try !FilterCompiler.compile(expression: expression, device: .tap).isEmpty)
    }

    @Test func aProgramForTunReadsThePacketFromItsIPHeader() throws {
        let program = try FilterCompiler.compile(expression: "udp port 5060", device: .tun)
        #expect(matches(program, udp(to: 5060)))
        #expect(!matches(program, udp(to: 5061)))
        #expect(!matches(program, []))
        #expect(!matches(program, Array(udp(to: 5060).prefix(21))))
    }

    @Test func aProgramForTapReadsThePacketFromItsEthernetHeader() throws {
        let program = try FilterCompiler.compile(expression: "udp port 5060", device: .tap)
        let ethernet: [UInt8] = [UInt8](repeating: 2, count: 12) + [0x08, 0x00]
        #expect(matches(program, ethernet + udp(to: 5060)))
        #expect(!matches(program, ethernet + udp(to: 5061)))
        #expect(!matches(program, udp(to: 5060)))
    }

    @Test func manyThreadsMayCompileAtOnce() async throws {
        let expected = try FilterCompiler.compile(expression: "udp port 5060", device: .tun)
        try await withThrowingTaskGroup(of: [BPFInstruction].self) { group in
            for _ in 0..<200 {
                group.addTask { try FilterCompiler.compile(expression: "udp port 5060", device: .tun) }
            }
            for try await program in group { #expect(program == expected) }
        }
    }
}

/// Runs a program as libpcap does.
private func matches(_ program: [BPFInstruction], _ packet: [UInt8]) -> Bool {
    let instructions = program.map { bpf_insn(code: $0.code, jt: $0.jt, jf: $0.jf, k: $0.k) }
    return bpf_filter(instructions, packet, UInt32(packet.count), UInt32(packet.count)) != 0
}

/// An IPv4 packet of 28 bytes with an empty UDP datagram.
private func udp(to port: UInt16) -> [UInt8] {
    [
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        0x30, 0x39, UInt8(port >> 8), UInt8(port & 0xff), 0, 8, 0, 0,
    ]
}

/// Knuth's MMIX generator: one seed, one run.
private struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ (state >> 33)
    }
}
