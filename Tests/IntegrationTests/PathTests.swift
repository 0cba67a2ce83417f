import Foundation
import Testing
import TunnelTestKit

/// What fits through a tunnel, and what ps shows of its links.
@Suite(.serialized) struct PathTests {
    @Test func theSenderOfAPacketThatIsTooBigIsTold() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1], flags: ["--ip6", "fd78::1/64", "--mtu", "1400"])
            _ = try bed.startClient("acme", in: customer, wires: [1], general: "ip6 = \"fd78::2/64\"\nmtu = 1400")
            try bed.waitForPing("10.78.0.1", from: customer)
            try bed.waitForPing("fd78::1", from: customer)
            // Someone gave the device an MTU that no datagram holds: the kernel does not refuse the packet by itself.
            try bed.rig.ip(customer, "link", "set", "dev", "mlvpn0", "mtu", "1600")
            for (address, size, answer) in [
                ("10.78.0.1", "1500", "Frag needed and DF set (mtu = 1400)"),
                ("fd78::1", "1500", "Packet too big: mtu=1400"),
            ] {
                let ping = try bed.rig.start(["ping", "-M", "do", "-c2", "-W2", "-s", size, address], in: customer)
                _ = try ping.waitForExit(within: .seconds(20))
                #expect(ping.output.contains(answer), "\(ping.output)")
            }
            // TCP finds out from the same answers.
            try Transfer.check(bed, from: bed.server, address: "10.78.0.1", to: customer)
            try Transfer.check(bed, from: customer, address: "10.78.0.2", to: bed.server)
        }
    }

    @Test func anotherMTUUnderTrafficLosesNothing() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1, 2])
            try bed.addTunnel("acme", wires: [1, 2])
            _ = try bed.startClient("acme", in: customer, wires: [1, 2])
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            try bed.waitForPing("10.78.0.1", from: customer)
            let up = try NumberedStream(bed, from: customer, to: bed.server, address: "10.78.0.1", seconds: 6)
            let down = try NumberedStream(bed, from: bed.server, to: customer, address: "10.78.0.2", seconds: 6)
            let transfer = try Transfer(bed, from: bed.server, address: "10.78.0.1", megabytes: 40)
            let fetch = try bed.rig.start(transfer.fetch, in: customer)
            for mtu in ["1300", "1420", "1280", "1400"] {
                try bed.daemon.admin("set-tunnel", "acme", "--mtu", mtu)
                #expect(try bed.rig.run(["ip", "link", "show", "mlacme"], in: bed.server).contains("mtu \(mtu) "))
            }
            #expect(try fetch.waitForExit(within: .seconds(60)) == .exited(0), "\(fetch.output)")
            try transfer.compare()
            #expect(try up.result() == "sent 1200 missing 0 []")
            #expect(try down.result() == "sent 1200 missing 0 []")
            #expect(try bed.linkStates("acme") == ["link1": "up", "link2": "up"])
        }
    }

    @Test func theHelpersTitleShowsEachLinksState() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", lines: [1: "", 2: ""])
            try bed.addTunnel("acme", wires: [1, 2], flags: ["--loss-tolerance", "15"])
            func waitForTitle(_ title: String) throws {
                try waitUntil("'\(title)' in ps", within: .seconds(40)) {
                    bed.server.processes.contains { pid in
                        let words = try? bed.rig.run(["ps", "-o", "args=", "-p", "\(pid)"])
                        return words?.split(separator: "\n").first?.hasSuffix(title) == true
                    }
                }
            }
            try waitForTitle("mlvpn: acme [priv] !link1 !link2")
            _ = try bed.startClient(
                "acme", in: customer, wires: [1, 2], general: "scheduler = wrr\nloss_tolerance = 100")
            try waitForTitle("mlvpn: acme [priv] @link1 @link2")
            // The customer sends over both, whatever they lose: this end sees it.
            try bed.lines[2]?.set("both loss=50%")
            let ping = try bed.rig.start(["ping", "-q", "-i0.01", "-W1", "10.78.0.1"], in: customer)
            try waitForTitle("mlvpn: acme [priv] @link1 ~link2")
            ping.stop()
            try bed.lines[2]?.set("both blackhole=on")
            try waitForTitle("mlvpn: acme [priv] @link1 !link2")
        }
    }
}
