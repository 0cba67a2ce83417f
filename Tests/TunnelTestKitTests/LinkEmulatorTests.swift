import Foundation
import Testing
import TunnelTestKit

/// Two namespaces with an emulated line between 10.9.1.1 (end a) and 10.9.1.2 (end b).
private func withLine(
    ab: String, ba: String, timeline: String? = nil,
    _ body: (NetworkRig, NetworkNamespace, NetworkNamespace, EmulatedLink) throws -> Void
) throws {
    try NetworkRig.with { rig in
        let a = try rig.namespace("a")
        let b = try rig.namespace("b")
        let link = try EmulatedLink(
            in: rig, program: [try BuiltProgram.path("link-emulator")], name: "line",
            a: WireEnd(a, "eth0", "10.9.1.1/24", "fd00:9:1::1/64"),
            b: WireEnd(b, "eth0", "10.9.1.2/24", "fd00:9:1::2/64"), ab: ab, ba: ba, timeline: timeline,
            seed: 1)
        try body(rig, a, b, link)
    }
}

@Suite(.serialized) struct LinkEmulatorTests {
    static let badArguments: [([String], Int32)] = [
        ([], 2),
        (["a"], 2),
        (["a", "b", "--ab"], 2),
        (["a", "b", "--ab", "rate=x"], 2),
        (["a", "b", "--frob", "1"], 2),
        (["a", "b", "--seed", "-1"], 2),
        (["no-such-if", "b"], 1),
        (["lo", "lo", "--timeline", "/no/such/file"], 1),
    ]

    @Test(arguments: badArguments)
    func badArgumentsAreRefused(arguments: [String], code: Int32) throws {
        try NetworkRig.with { rig in
            let namespace = try rig.namespace("x")
            let process = try rig.start([try BuiltProgram.path("link-emulator")] + arguments, in: namespace)
            #expect(try process.waitForExit(within: .seconds(10)) == .exited(code))
            #expect(process.output.hasPrefix("link-emulator: ") || process.output.contains("usage"))
        }
    }

    @Test func pingTakesTheDelayOfBothDirections() throws {
        try withLine(ab: "delay=20ms", ba: "delay=30ms") { rig, a, _, _ in
            for address in ["10.9.1.2", "fd00:9:1::2"] {
                let output = try rig.run(["ping", "-c5", "-i0.1", "-q", address], in: a)
                let minimum = try #require(output.split(separator: "=").last?.split(separator: "/").first)
                let milliseconds = try #require(Double(minimum.trimmingCharacters(in: .whitespaces)))
                // A busy machine may add to the fastest of five, but not the half.
                #expect((50..<75).contains(milliseconds), "\(output)")
            }
        }
    }

    @Test func tcpCarriesTheRateOfEachDirection() throws {
        try withLine(ab: "rate=40mbit delay=5ms", ba: "rate=10mbit delay=5ms") { rig, a, b, link in
            for (flags, rate) in [([], 40e6), (["-R"], 10e6)] {
                let server = try rig.start(["iperf3", "-s", "-1", "--forceflush"], in: b)
                try waitUntil("iperf3", within: .seconds(20)) { server.output.contains("listening") }
                let report = try rig.run(["iperf3", "-c", "10.9.1.2", "-t", "3", "-J"] + flags, in: a)
                let goodput = try Iperf(json: report).receivedBitsPerSecond
                _ = try server.waitForExit(within: .seconds(20))
                // 1448 of 1500 bytes are payload; slow start and the last round trip take their part of 3 s.
                #expect((0.70...0.97).contains(goodput / rate), "\(goodput / 1e6) Mbit/s of \(rate / 1e6)")
            }
            let counters = try link.counters()
            for direction in ["ab", "ba"] {
                #expect(counters[direction]?["unfinished"] == 0)
                #expect(counters[direction]?["oversized"] == 0)
            }
        }
    }

    @Test func aOneWayBlackholeStopsThatDirectionAndEndsAgain() throws {
        try withLine(ab: "", ba: "") { rig, a, _, link in
            try rig.run(["ping", "-c1", "-W2", "10.9.1.2"], in: a)
            try link.set("ba blackhole=on")
            #expect(try !rig.succeeds(["ping", "-c2", "-i0.1", "-W1", "10.9.1.2"], in: a))
            let counters = try link.counters()
            #expect(counters["ab"]?["blackholed"] == 0)
            // The two answers, and perhaps a multicast report.
            #expect(counters["ba"]?["blackholed"] ?? 0 >= 2)
            try link.set("ba blackhole=off")
            try rig.run(["ping", "-c1", "-W2", "10.9.1.2"], in: a)
            #expect(throws: RigError.self) { try link.set("ba blackhole=perhaps") }
        }
    }

    @Test func anMTUBlackHoleSwallowsOnlyWhatIsLarger() throws {
        try withLine(ab: "mtu=1400", ba: "") { rig, a, _, _ in
            // 1372 bytes of echo and 28 of headers.
            try rig.run(["ping", "-c1", "-W2", "-Mdo", "-s1372", "10.9.1.2"], in: a)
            #expect(try !rig.succeeds(["ping", "-c1", "-W1", "-Mdo", "-s1373", "10.9.1.2"], in: a))
        }
    }

    @Test func theTimelineRunsByItself() throws {
        try withLine(ab: "", ba: "", timeline: "200 both blackhole=on\n600 both blackhole=off\n") { rig, a, _, link in
            let output = try rig.run(["ping", "-q", "-c80", "-i0.01", "-W1", "10.9.1.2"], in: a, within: .seconds(20))
            #expect(!output.contains(" 80 received"))
            let swallowed = try link.counters().values.compactMap { $0["blackholed"] }.reduce(0, +)
            #expect(swallowed > 0)
            try rig.run(["ping", "-c1", "-W2", "10.9.1.2"], in: a)
        }
    }

    @Test func theEmulatorEndsWithItsCommands() throws {
        try withLine(ab: "", ba: "") { _, _, _, link in
            try link.emulator.send(line: "quit")
            #expect(try link.emulator.waitForExit(within: .seconds(5)) == .exited(0))
        }
    }
}
