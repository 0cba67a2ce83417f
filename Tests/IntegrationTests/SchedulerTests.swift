import Foundation
import Testing
import TunnelTestKit

/// Schedulers and filters that use several links at once.
@Suite(.serialized) struct SchedulerTests {
    private static let redundant = ["--scheduler", "redundant"]

    /// How many datagrams that match a filter pass each wire while something runs, once there are as many as expected.
    private func count(
        _ bed: TunnelBed, wires: [Int], filter: String, expected: [Int], while body: () throws -> Void
    ) throws -> [Int] {
        let captures = try wires.map { wire in
            let capture = try bed.rig.start(
                ["tcpdump", "-i", "wire\(wire)", "-n", "-l", "--immediate-mode", filter], in: bed.server)
            try waitUntil("tcpdump", within: .seconds(10)) { capture.output.contains("listening on") }
            return capture
        }
        try body()
        func counts() -> [Int] { captures.map { $0.output.matches(of: /UDP, length/).count } }
        try waitUntil("\(expected) datagrams", within: .seconds(10)) { zip(counts(), expected).allSatisfy { $0 >= $1 } }
        for capture in captures { capture.stop() }
        return counts()
    }

    @Test func everyPacketGoesOverEveryLinkAndArrivesOnce() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", lines: [1: "loss=20%", 2: "loss=20%"])
            try bed.addTunnel("acme", wires: [1, 2], flags: Self.redundant)
            _ = try bed.startClient("acme", in: customer, wires: [1, 2], general: "scheduler = \"redundant\"")
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            try bed.waitForPing("10.78.0.1", from: customer)
            let ping = try bed.rig.start(
                ["ping", "-c300", "-i0.01", "-W2", "10.78.0.1"], in: customer)
            _ = try ping.waitForExit(within: .seconds(60))
            #expect(!ping.output.contains("DUP!"))
            // Each way 20 % are lost on one link, 4 % on both: 92 % come back, where one link alone would bring 64 %.
            let received = ping.output.firstMatch(of: /([0-9]+) received/).flatMap { Int($0.1) } ?? 0
            #expect(received > 240, "\(ping.output.suffix(300))")
        }
    }

    @Test func aFilterWithTwoLinksSendsOnBothAndTheFlowArrivesOnce() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1, 2])
            try bed.addTunnel("acme", wires: [1, 2], flags: ["--filter", "link1,link2=icmp and greater 900"])
            _ = try bed.startClient("acme", in: customer, wires: [1, 2])
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            try bed.waitForPing("10.78.0.1", from: customer)
            let counts = try count(
                bed, wires: [1, 2], filter: "udp and (src port 5081 or src port 5082) and greater 900",
                expected: [50, 50]
            ) {
                let output = try bed.rig.run(
                    ["ping", "-c50", "-i0.02", "-W2", "-s", "1000", "10.78.0.2"], in: bed.server)
                #expect(output.contains("50 received") && !output.contains("DUP!"), "\(output)")
            }
            #expect(counts.allSatisfy { $0 >= 50 }, "\(counts)")
        }
    }

    /// Both ends use the second of two links when the first is down.
    private func failoverCustomer(_ bed: TunnelBed) throws -> NetworkNamespace {
        let customer = try bed.customer("customer", wires: [1, 2])
        try bed.addTunnel("acme", wires: [1, 2], flags: ["--scheduler", "failover"])
        _ = try bed.startClient("acme", in: customer, wires: [1, 2], general: "scheduler = \"failover\"")
        try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
        try bed.waitForPing("10.78.0.1", from: customer)
        return customer
    }

    /// The second link rests. A KEEPALIVE is 44 bytes, with a report 78, and 2 more when it says so.
    @Test func aLinkThatRestsSaysSo() throws {
        try TunnelBed.with { bed in
            let customer = try failoverCustomer(bed)
            let counts = try count(
                bed, wires: [1, 2], filter: "udp and (udp[4:2] = 54 or udp[4:2] = 88)", expected: [0, 4]
            ) {
                try bed.rig.run(["ping", "-q", "-c20", "-i0.02", "-W2", "10.78.0.1"], in: customer)
            }
            #expect(counts[0] == 0 && counts[1] >= 4, "\(counts)")
        }
    }

    @Test func failoverUsesTheFirstLinkAlone() throws {
        try TunnelBed.with { bed in
            let customer = try failoverCustomer(bed)
            let counts = try count(bed, wires: [1, 2], filter: "udp and greater 900", expected: [100, 0]) {
                try bed.rig.run(["ping", "-q", "-c50", "-i0.02", "-W2", "-s", "1000", "10.78.0.1"], in: customer)
            }
            #expect(counts[0] >= 100 && counts[1] == 0, "\(counts)")
            try bed.rig.ip(bed.server, "link", "set", "dev", "wire1", "down")
            try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(10))
        }
    }

    /// Nothing is sent through the tunnel but a ping: packet trains tell what its lines carry, jitter or none.
    @Test func whatLinesCarryIsKnownBeforeTheyAreUsed() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer(
                "customer",
                lines: [1: "rate=40mbit delay=5ms queue=100ms", 2: "rate=6mbit delay=20ms jitter=2ms queue=50ms"])
            try bed.addTunnel("acme", wires: [1, 2])
            _ = try bed.startClient("acme", in: customer, wires: [1, 2])
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            try bed.waitForPing("10.78.0.1", from: customer)
            // UDP payload is 0.98 of what the line carries.
            let (first, second) = (30.0...45.0, 4.5...7.0)
            try waitUntil("rates of the links", within: .seconds(10)) { () throws(RigError) -> Bool in
                let rates = try bed.links(of: "acme").map { ($0.rate ?? 0) / 1e6 }
                return rates.count == 2 && first.contains(rates[0]) && second.contains(rates[1])
            }
            #expect(try bed.linkStates("acme") == ["link1": "up", "link2": "up"])
        }
    }
}
