import Foundation
import Testing
import TunnelTestKit

/// Customers' packets over real devices, sockets and processes.
@Suite(.serialized) struct TrafficTests {
    @Test(arguments: [
        ("tun", "", [String]()),
        ("tap", "tuntap = \"tap\"", ["--tap"]),
        ("cleartext", "cleartext_data = 1", ["--cleartext-data"]),
        ("no reordering", "reorder_buffer_size = 0", ["--reorder", "off"]),
        ("wrr", "scheduler = wrr", ["--scheduler", "wrr"]),
        ("redundant", "scheduler = redundant", ["--scheduler", "redundant"]),
        ("failover", "scheduler = failover", ["--scheduler", "failover"]),
        (
            "no offloads", "offload_device = 0\noffload_udp_segment = 0\noffload_udp_gro = 0",
            ["--no-device-offload", "--no-udp-segment", "--no-udp-gro"]
        ),
    ])
    func bothLinksComeUpAndFilesPassBothWays(kind: String, general: String, flags: [String]) throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1, 2])
            try bed.addTunnel("acme", wires: [1, 2], flags: flags + ["--ip6", "fd78::1/64"])
            _ = try bed.startClient(
                "acme", in: customer, wires: [1, 2], general: general + "\nip6 = \"fd78::2/64\"")
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            try bed.waitForPing("10.78.0.1", from: customer)
            try bed.waitForPing("fd78::1", from: customer)
            let offloads = try bed.daemon.admin("status", "acme")
            #expect(
                offloads.contains("offloads: device none, link1 none, link2 none") == (kind == "no offloads"),
                "\(offloads)")
            try bed.rig.run(["ping", "-q", "-c3", "-i0.05", "-W2", "10.78.0.2"], in: bed.server)
            try bed.rig.run(["ping", "-q", "-c3", "-i0.05", "-W2", "-s", "1350", "10.78.0.1"], in: customer)
            try Transfer.check(bed, from: bed.server, address: "10.78.0.1", to: customer)
            try Transfer.check(bed, from: customer, address: "10.78.0.2", to: bed.server)
        }
    }

    /// What comes from a flow of our own is not always our own, sent back.
    @Test func aServerAndAClientOfOneDaemonArePeers() throws {
        try TunnelBed.with { bed in
            let password = try bed.rig.file("password", TunnelBed.password)
            for flags in [
                ["server", "--link", "l,bind=127.0.0.1:5081"],
                ["client", "--mode", "client", "--link", "l,remote=127.0.0.1:5081"],
            ] { try bed.daemon.admin(["add-tunnel"] + flags + ["--password-file", password]) }
            for name in ["server", "client"] { try bed.waitForLinks(name, ["l": "up"], within: .seconds(10)) }
        }
    }

    /// The server listens at one of its name's addresses alone, of whichever family.
    @Test(arguments: [TunnelBed.serverWire(1), "fd71:1::1"])
    func aNameWithAddressesOfBothFamiliesLeadsThereInTheEnd(bind: String) throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            // ip-netns(8) shows it as /etc/hosts in there.
            let etc = "/etc/netns/\(customer.name)"
            try bed.rig.run(["mkdir", "-p", etc])
            defer { _ = try? bed.rig.run(["rm", "-r", etc]) }
            let hosts = "\(TunnelBed.serverWire(1)) server.example\nfd71:1::1 server.example\n"
            try hosts.write(toFile: etc + "/hosts", atomically: false, encoding: .utf8)
            let password = try bed.rig.file("password", TunnelBed.password)
            try bed.daemon.admin(
                "add-tunnel", "acme", "--password-file", password, "--ip4", "10.78.0.1/24", "--link",
                "l,bind=\(bind.contains(":") ? "[\(bind)]" : bind):5081")
            _ = try bed.startClient("acme", in: customer, wires: [1]) { _ in
                "remotehost = \"server.example\"\nremoteport = 5081"
            }
            try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(25))
        }
    }

    @Test func linksMayRunOverIPv6AndOnePort() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            let password = try bed.rig.file("password", TunnelBed.password)
            try bed.daemon.admin(
                "add-tunnel", "acme", "--password-file", password, "--ip4", "10.78.0.1/24", "--link",
                "link1,bind=[fd71:1::1]:5081")
            _ = try bed.startClient("acme", in: customer, wires: [1]) { _ in
                "remotehost = \"fd71:1::1\"\nremoteport = 5081"
            }
            try bed.waitForPing("10.78.0.1", from: customer)
            try Transfer.check(bed, from: bed.server, address: "10.78.0.1", to: customer)
        }
    }

    @Test func tunnelsWithEqualLinkNamesDoNotMix() throws {
        try TunnelBed.with { bed in
            let acme = try bed.customer("acme", wires: [1])
            let globex = try bed.customer("globex", wires: [2])
            let password = try bed.rig.file("password", TunnelBed.password)
            for (name, wire) in [("acme", 1), ("globex", 2)] {
                try bed.daemon.admin(
                    "add-tunnel", name, "--password-file", password, "--ip4", "10.78.\(wire).1/24", "--link",
                    "adsl,bind=\(TunnelBed.serverWire(wire)):5080")
            }
            for (name, customer, wire) in [("acme", acme, 1), ("globex", globex, 2)] {
                _ = try bed.startClient(name, in: customer, wires: [wire], address: "10.78.\(wire).2/24") { _ in
                    "remotehost = \"\(TunnelBed.serverWire(wire))\"\nremoteport = 5080"
                }
                try bed.waitForPing("10.78.\(wire).1", from: customer)
            }
            #expect(try bed.linkStates("acme") == ["adsl": "up"])
            #expect(try bed.linkStates("globex") == ["adsl": "up"])
        }
    }

    /// As a line's does by PPPoE, DHCP or LTE.
    @Test func aCustomerWhoseAddressChangesGoesOn() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1]) { _ in
                "remotehost = \"\(TunnelBed.serverWire(1))\"\nremoteport = 5081"
            }
            try bed.waitForPing("10.78.0.1", from: customer)
            try bed.rig.run(["ip", "address", "del", "\(TunnelBed.customerWire(1))/24", "dev", "wire1"], in: customer)
            try bed.rig.run(["ip", "address", "add", "10.71.1.77/24", "dev", "wire1"], in: customer)
            try bed.waitForPing("10.78.0.1", from: customer)
            #expect(try bed.linkStates("acme") == ["link1": "up"])
        }
    }

    @Test func aWrongPasswordStaysOutside() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            let password = try bed.rig.file("password", "another password")
            try bed.daemon.admin(
                "add-tunnel", "acme", "--password-file", password, "--ip4", "10.78.0.1/24", "--link",
                "link1,bind=\(TunnelBed.serverWire(1)):5081")
            let client = try bed.startClient("acme", in: customer, wires: [1])
            // Three attempts of the client have arrived.
            let capture = try bed.rig.run(
                ["timeout", "10", "tcpdump", "-i", "wire1", "-n", "-c", "3", "udp dst port 5081"], in: bed.server)
            #expect(capture.contains("3 packets captured"))
            #expect(try bed.linkStates("acme")["link1"] != "up")
            #expect(client.isRunning)
        }
    }

    @Test func aFilterKeepsAFlowOnItsLink() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1, 2])
            try bed.addTunnel("acme", wires: [1, 2], flags: ["--filter", "link2=udp dst port 7777"])
            _ = try bed.startClient("acme", in: customer, wires: [1, 2])
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            try bed.waitForPing("10.78.0.1", from: customer)

            // 200 datagrams of 1000 bytes are seen on wire 2 alone; the kernel may show several in one.
            let captures = try [1, 2].map { wire in
                let capture = try bed.rig.start(
                    [
                        "tcpdump", "-i", "wire\(wire)", "-n", "-l", "--immediate-mode",
                        "udp and greater 1000 and src host \(TunnelBed.serverWire(wire))",
                    ],
                    in: bed.server)
                try waitUntil("tcpdump", within: .seconds(10)) { capture.output.contains("listening on") }
                return capture
            }
            let script = """
                import socket
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                for i in range(200): s.sendto(bytes(1000), ("10.78.0.2", 7777))
                """
            try bed.rig.run(["python3", "-c", script], in: bed.server)
            func bytes(_ index: Int) -> Int {
                captures[index].output.matches(of: /UDP, length ([0-9]+)/).reduce(0) { $0 + (Int($1.1) ?? 0) }
            }
            try waitUntil("200 datagrams on wire 2", within: .seconds(10)) { bytes(1) >= 200 * 1000 }
            #expect(bytes(0) == 0)
        }
    }
}
