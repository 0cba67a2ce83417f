import Glibc
import Testing
import TunnelTestKit

/// Status scripts, as mlvpn(8) has them.
@Suite(.serialized) struct ScriptTests {
    @Test func theScriptSeesEveryEventInOrderWithItsEnvironment() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1, 2])
            let log = "\(bed.rig.directory)/events"
            let script = try bed.rig.file(
                "client-script",
                """
                #!/bin/sh
                echo "$1 $2 $3 IP4=$IP4 IP4_GATEWAY=$IP4_GATEWAY MTU=$MTU DEVICE=$DEVICE" >> \(log)
                [ "$2" = tuntap_up ] && ip address replace "$IP4" dev "$1" && ip link set dev "$1" mtu "$MTU" up
                exit 0

                """, mode: 0o700)
            try bed.addTunnel("acme", wires: [1, 2])
            let client = try bed.startClient(
                "acme", in: customer, wires: [1, 2],
                general: "statuscommand = \"\(script)\"\nip4_gateway = \"10.78.0.1\"\nmtu = 1400")
            try bed.waitForPing("10.78.0.1", from: customer)
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            func events() throws(RigError) -> [[Substring]] {
                try bed.rig.run(["cat", log]).split(separator: "\n").map { $0.split(separator: " ") }
            }
            try waitUntil("three events", within: .seconds(10)) { () throws(RigError) -> Bool in
                try events().count == 3
            }
            client.signal(SIGTERM)
            #expect(try client.waitForExit(within: .seconds(15)) == .exited(0), "\(client.output)")

            let all = try events()
            let kinds = all.map { $0.count > 1 ? String($0[1]) : "" }
            #expect(kinds == ["rtun_up", "tuntap_up", "rtun_up", "rtun_down", "rtun_down", "tuntap_down"])
            #expect(
                all.allSatisfy {
                    $0.first == "mlvpn0"
                        && $0.suffix(4).elementsEqual([
                            "IP4=10.78.0.2/24", "IP4_GATEWAY=10.78.0.1", "MTU=1400", "DEVICE=mlvpn0",
                        ])
                }, "\(all)")
            #expect(Set(all.filter { $0[1].hasPrefix("rtun") }.map { $0[2] }) == ["link1", "link2"])
        }
    }

    /// The script takes down what it has set up; the device is configured without it then.
    @Test func aTunnelWhoseScriptIsTakenAwayGoesOn() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            let script = try bed.rig.file(
                "down-script",
                """
                #!/bin/sh -e
                [ "$2" != tuntap_up ] || { ip address replace "$IP4" dev "$1"; ip link set dev "$1" up; }
                [ "$2" != tuntap_down ] || { sleep 0.3; ip link set dev "$1" down; ip address flush dev "$1"; }

                """, mode: 0o700)
            try bed.addTunnel("acme", wires: [1])
            let client = try bed.startClient(
                "acme", in: customer, wires: [1], general: "statuscommand = \"\(script)\"")
            try bed.waitForPing("10.78.0.1", from: customer)
            try bed.rig.run(["sed", "-i", "/statuscommand/d", "\(bed.rig.directory)/acme.conf"])
            client.signal(SIGHUP)
            try waitUntil("the file to be read again", within: .seconds(10)) { client.output.contains("reloaded") }
            try bed.rig.run(["sleep", "1"])
            try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(5))
        }
    }

    /// The helper is killed while a script runs: what it has not told its successor does, one script at a time; and what
    /// was told is taken back though no helper is there when the tunnel ends.
    @Test func aKilledHelperCostsNoEvent() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            let log = "\(bed.rig.directory)/events"
            let go = "\(bed.rig.directory)/go"
            let script = try bed.rig.file(
                "slow-script",
                """
                #!/bin/sh
                echo "begin $2" >> \(log)
                [ "$2" = rtun_up ] && while [ ! -e \(go) ]; do sleep 0.05; done
                echo "end $2" >> \(log)

                """, mode: 0o700)
            try bed.addTunnel("acme", wires: [1])
            let client = try bed.startClient(
                "acme", in: customer, wires: [1], general: "statuscommand = \"\(script)\"")
            func events() -> [String] {
                (try? bed.rig.run(["cat", log]).split(separator: "\n").map(String.init)) ?? []
            }
            func helper() throws(RigError) -> pid_t {
                try poll("the helper", within: .seconds(10)) {
                    customer.processes.first { (try? bed.rig.run(["cat", "/proc/\($0)/comm"])) == "mlvpn-helper\n" }
                }
            }
            try waitUntil("the script", within: .seconds(20)) { events() == ["begin rtun_up"] }
            let first = try helper()
            kill(first, SIGKILL)
            try waitUntil("another helper", within: .seconds(10)) { () throws(RigError) in try helper() != first }
            try bed.rig.run(["touch", go])
            let up = ["begin rtun_up", "end rtun_up", "begin tuntap_up", "end tuntap_up"]
            try waitUntil("the rest", within: .seconds(10)) { events() == up }
            kill(try helper(), SIGKILL)
            client.signal(SIGTERM)
            #expect(try client.waitForExit(within: .seconds(15)) == .exited(0), "\(client.output)")
            let down = ["begin rtun_down", "end rtun_down", "begin tuntap_down", "end tuntap_down"]
            #expect(events() == up + down)
        }
    }

    /// A script may leave something running that goes on to write.
    @Test func whatAScriptLeavesRunningMayWrite() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            let script = try bed.rig.file(
                "leaving-script",
                """
                #!/bin/sh
                [ "$2" = tuntap_up ] || exit 0
                (for i in 1 2 3; do sleep 0.3; echo "still here $i"; done; echo "and done") &

                """, mode: 0o700)
            try bed.addTunnel("acme", wires: [1])
            let client = try bed.startClient(
                "acme", in: customer, wires: [1], general: "statuscommand = \"\(script)\"")
            try waitUntil("its last word", within: .seconds(20)) { client.output.contains("and done") }
            #expect(client.output.contains("still here 3"))
            client.stop()
        }
    }

    @Test func aScriptThatOthersCanChangeIsNotRunUntilTheyCannot() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            let mark = "\(bed.rig.directory)/was-run"
            let script = try bed.rig.file("open-script", "#!/bin/sh\ntouch \(mark)\n", mode: 0o722)
            try bed.addTunnel("acme", wires: [1])
            let client = try bed.startClient(
                "acme", in: customer, wires: [1], general: "statuscommand = \"\(script)\"")
            try bed.waitForLinks("acme", ["link1": "up"])
            try waitUntil("a word about the script", within: .seconds(10)) { client.output.contains(script) }
            #expect(try !bed.rig.succeeds(["test", "-e", mark]))
            // What it has missed it is told once it may run.
            try bed.rig.run(["chmod", "700", script])
            client.signal(SIGHUP)
            try waitUntil("the script to run", within: .seconds(10)) { () throws(RigError) in
                try bed.rig.succeeds(["test", "-e", mark])
            }
            client.stop()
        }
    }
}
