import Foundation
import Testing
import TunnelTestKit

/// What breaks, and what must go on.
@Suite(.serialized) struct FailureTests {
    /// A tunnel over wires 1 and 2 that is up, with its client.
    private func withTunnel(
        flags: [String] = [], _ body: (TunnelBed, NetworkNamespace, RunningProcess) throws -> Void
    ) throws {
        try TunnelBed.with(flags: flags) { bed in
            let customer = try bed.customer("customer", wires: [1, 2])
            try bed.addTunnel("acme", wires: [1, 2])
            let client = try bed.startClient("acme", in: customer, wires: [1, 2])
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            try bed.waitForPing("10.78.0.1", from: customer)
            try body(bed, customer, client)
        }
    }

    @Test func theDeviceOutlivesAKilledEngineAndTrafficComesBack() throws {
        try withTunnel { bed, customer, _ in
            let device = try bed.rig.run(["ip", "-o", "address", "show"], in: bed.server)
            let engine = try bed.pid(of: "mlvpn-engine")
            let killed = ContinuousClock.now
            kill(engine, SIGKILL)
            try waitUntil("another engine", within: .seconds(10)) {
                (try? bed.pid(of: "mlvpn-engine")).map { $0 != engine } ?? false
            }
            try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(10))
            // Two seconds are the aim; a busy machine gets twice that.
            #expect(ContinuousClock.now - killed < .seconds(4))
            // The same device: its index and its addresses are as before.
            #expect(try bed.rig.run(["ip", "-o", "address", "show"], in: bed.server) == device)
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
        }
    }

    @Test(arguments: [("realtime", "RR -"), ("high", "TS -10"), ("normal", "TS 0")])
    func allThreadsOfTheEngineHaveItsPriority(priority: String, expected: String) throws {
        try withTunnel(flags: ["--priority", priority, "--workers", "1"]) { bed, _, _ in
            let engine = try bed.pid(of: "mlvpn-engine")
            let threads = try bed.rig.run(["ps", "-L", "-o", "cls=,ni=", "-p", "\(engine)"]).split(separator: "\n")
            let priorities = threads.map { $0.split(separator: " ").joined(separator: " ") }
            #expect(priorities.count > 1 && Set(priorities) == [expected], "\(priorities)")
        }
    }

    @Test func aKilledControlCostsNoPacket() throws {
        try withTunnel { bed, customer, _ in
            let ping = try bed.rig.start(
                ["ping", "-q", "-c200", "-i0.02", "-W2", "10.78.0.1"], in: customer)
            let control = try bed.pid(of: "mlvpn-control")
            kill(control, SIGKILL)
            try waitUntil("control to answer again", within: .seconds(20)) { () throws(RigError) -> Bool in
                try bed.rig.succeeds(bed.daemon.adminCommand + ["list"])
            }
            #expect(try ping.waitForExit(within: .seconds(30)) == .exited(0))
            #expect(ping.output.contains("200 packets transmitted, 200 received"), "\(ping.output)")
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
        }
    }

    @Test func aKilledDaemonLeavesNothingThatStopsTheNext() throws {
        try withTunnel { bed, customer, _ in
            bed.daemon.process.signal(SIGKILL)
            _ = try bed.daemon.process.waitForExit(within: .seconds(5))
            try bed.daemon.start()
            try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(30))
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
        }
    }

    @Test(arguments: [SIGTERM, SIGKILL])
    func aClientThatComesBackIsServedAgain(signal: Int32) throws {
        try withTunnel { bed, customer, client in
            client.signal(signal)
            _ = try client.waitForExit(within: .seconds(10))
            try waitUntil("the customer's processes to be gone", within: .seconds(10)) { customer.processes.isEmpty }
            _ = try bed.startClient("acme", in: customer, wires: [1, 2])
            try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(20))
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
        }
    }

    @Test(arguments: ["both", "ab", "ba"])
    func aTransferOutlivesALinkThatGoesSilent(direction: String) throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer(
                "customer", lines: [1: "rate=20mbit delay=5ms", 2: "rate=20mbit delay=5ms"])
            try bed.addTunnel("acme", wires: [1, 2])
            _ = try bed.startClient("acme", in: customer, wires: [1, 2])
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            try bed.waitForPing("10.78.0.1", from: customer)

            let transfer = try Transfer(bed, from: bed.server, address: "10.78.0.1", megabytes: 12)
            let fetch = try bed.rig.start(transfer.fetch, in: customer)
            let ping = try bed.rig.start(["ping", "-D", "-i0.01", "-c400", "-W2", "10.78.0.1"], in: customer)
            try waitUntil("a fifth of the file", within: .seconds(30)) { (try? transfer.received) ?? 0 > 2_400_000 }
            try bed.lines[1]?.set("\(direction) blackhole=on")
            // The other line carries what is left in less than five seconds.
            #expect(try fetch.waitForExit(within: .seconds(30)) == .exited(0), "\(fetch.output)")
            try transfer.compare()
            // The aim is 200 ms and 20 packets; a busy machine gets more.
            _ = try ping.waitForExit(within: .seconds(30))
            let times = ping.output.matches(of: /\[([0-9.]+)\] .* icmp_seq=/).compactMap { Double($0.1) }
            let gap = zip(times, times.dropFirst()).map { $1 - $0 }.max() ?? .infinity
            #expect(gap < 1 && times.count > 340, "\(gap) s without an answer, \(times.count) of 400")

            try bed.lines[1]?.set("both blackhole=off")
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
        }
    }

    @Test func noNonceIsEverUsedTwice() throws {
        try withTunnel { bed, customer, client in
            let file = "\(bed.rig.directory)/nonces.pcap"
            let capture = try bed.rig.start(
                [
                    "tcpdump", "-i", "any", "-n", "-U", "--immediate-mode", "-Z", "root", "-w", file,
                    "udp portrange 5081-5082",
                ],
                in: bed.server)
            try waitUntil("tcpdump", within: .seconds(10)) { capture.output.contains("listening on") }
            func traffic() throws {
                try bed.rig.run(["ping", "-q", "-c50", "-i0.01", "-W2", "10.78.0.1"], in: customer)
            }

            try traffic()
            kill(try bed.pid(of: "mlvpn-engine"), SIGKILL)
            try bed.waitForPing("10.78.0.1", from: customer)
            try traffic()
            client.signal(SIGKILL)
            _ = try client.waitForExit(within: .seconds(10))
            try waitUntil("the customer's processes to be gone", within: .seconds(10)) { customer.processes.isEmpty }
            _ = try bed.startClient("acme", in: customer, wires: [1, 2])
            try bed.waitForPing("10.78.0.1", from: customer)
            try traffic()
            bed.daemon.stop()
            try bed.daemon.start()
            try bed.waitForPing("10.78.0.1", from: customer)
            try traffic()
            capture.stop()

            let nonces = try Nonces(pcap: file)
            #expect(nonces.datagrams > 350)
            #expect(nonces.repeated == [])
        }
    }
}

/// The (flow_id, seq) pairs of captured MLVPN datagrams (wire-v1.md, Datagram).
private struct Nonces {
    private(set) var datagrams = 0
    private(set) var repeated: [String] = []

    /// Reads a classic pcap file of link type LINUX_SLL2 (276), as `tcpdump -i any` writes it.
    init(pcap path: String) throws {
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        func little32(_ offset: Int) -> Int { (0..<4).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) } }
        try #require(bytes.count > 24 && little32(0) == 0xa1b2_c3d4 && little32(20) == 276, "an unknown capture format")
        var seen: Set<[UInt8]> = []
        var offset = 24
        while offset + 16 <= bytes.count {
            let length = little32(offset + 8)
            let packet = offset + 16
            offset = packet + length
            // 20 bytes of SLL2, IPv4 without options, 8 bytes of UDP; flow_id and seq lie at 8 ..< 20 of the datagram.
            guard offset <= bytes.count, length >= 20 + 20 + 8 + 28, bytes[packet + 20] == 0x45 else { continue }
            let datagram = packet + 20 + 20 + 8
            datagrams += 1
            let nonce = Array(bytes[datagram + 8..<datagram + 20])
            if !seen.insert(nonce).inserted {
                repeated.append(nonce.map { String($0, radix: 16) }.joined(separator: " "))
            }
        }
    }
}
