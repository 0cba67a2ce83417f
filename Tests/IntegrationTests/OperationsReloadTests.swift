import Foundation
import Glibc
import Testing
import TunnelTestKit

/// Changes in working hours: what is changed changes, and nothing else notices.
@Suite(.serialized) struct OperationsReloadTests {
    /// A tunnel over wires 1 and 2 that is up, with its client.
    private func withTunnel(_ body: (TunnelBed, NetworkNamespace) throws -> Void) throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1, 2])
            try bed.addTunnel("acme", wires: [1, 2])
            _ = try bed.startClient("acme", in: customer, wires: [1, 2])
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            try bed.waitForPing("10.78.0.1", from: customer)
            try body(bed, customer)
        }
    }

    @Test func changesInPlaceLoseNoPacketOfTheirOwnTunnel() throws {
        try withTunnel { bed, customer in
            let up = try NumberedStream(bed, from: customer, to: bed.server, address: "10.78.0.1", seconds: 12)
            let down = try NumberedStream(bed, from: bed.server, to: customer, address: "10.78.0.2", seconds: 12)
            for words in [
                "set-tunnel acme --timeout 7", "set-tunnel acme --loss-tolerance 40 --latency-tolerance 500",
                "set-tunnel acme --scheduler wrr", "set-link acme link1,bandwidth=20mbit",
                "set-link acme link2,bandwidth=5mbit,loss-tolerance=30", "set-tunnel acme --scheduler adaptive",
                "set-tunnel acme --route 10.99.0.0/16", "set-tunnel acme --no-route", "set-tunnel acme --reorder 64",
                "set-tunnel acme --reorder auto", "set-link acme link2,fallback", "set-link acme link2,fallback=no",
                "set-filters acme --filter link1=icmp", "set-filters acme", "set-link acme link1,limit=100mbit",
                "set-link acme link1,limit=none", "reload acme", "reload",
                "add-link acme link3,bind=10.71.1.1:5090", "remove-link acme link3", "set-tunnel acme --rename other",
                "set-tunnel other --rename acme",
            ] {
                try bed.daemon.admin(words.split(separator: " ").map(String.init))
            }
            bed.daemon.process.signal(SIGHUP)
            #expect(try up.result() == "sent 2400 missing 0 []")
            #expect(try down.result() == "sent 2400 missing 0 []")
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            let ups = try bed.daemon.admin(
                "--json", "sql", "SELECT count(*) AS n FROM intervals WHERE state = 'up'")
            #expect(ups != #"[{"n":0}]"# + "\n", "\(ups)")
            let outages = try bed.daemon.admin("--json", "sql", "SELECT tunnel, link, reason FROM link_outages")
            #expect(outages == "[]\n", "\(outages)")
        }
    }

    /// What an operator switches off because of a device's fault is off at once.
    @Test func offloadsAreSwitchedInPlace() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer)
            for (flags, shown) in [
                (["--no-udp-segment"], "link1 gro"), (["--udp-segment", "--no-udp-gro"], "link1 gso"),
                (["--no-udp-segment"], "link1 none"), (["--udp-segment", "--udp-gro"], "link1 gso+gro"),
            ] {
                try bed.daemon.admin(["set-tunnel", "acme"] + flags)
                try waitUntil("'\(shown)'", within: .seconds(5)) { () throws(RigError) -> Bool in
                    try bed.daemon.admin("status", "acme").contains(shown)
                }
            }
            #expect(try bed.linkStates("acme") == ["link1": "up"])
        }
    }

    /// Both ends get a new password, and then a link another port, one after the other: the old ones serve until then.
    @Test func anotherPasswordOrEndpointLosesNothing() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1, 2])
            try bed.addTunnel("acme", wires: [1, 2])
            let client = try bed.startClient("acme", in: customer, wires: [1, 2])
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            let up = try NumberedStream(bed, from: customer, to: bed.server, address: "10.78.0.1", seconds: 12)
            let down = try NumberedStream(bed, from: bed.server, to: customer, address: "10.78.0.2", seconds: 12)
            func reload(_ old: String, _ new: String) throws {
                let conf = try bed.rig.run(["cat", "\(bed.rig.directory)/acme.conf"])
                _ = try bed.rig.file("acme.conf", conf.replacingOccurrences(of: old, with: new))
                client.signal(SIGHUP)
            }
            func told(_ text: String) -> Int { bed.daemon.process.output.components(separatedBy: text).count - 1 }

            let password = try bed.rig.file("new-password", "another password")
            try bed.daemon.admin("set-tunnel", "acme", "--password-file", password)
            try waitUntil("the links to go on with their old password", within: .seconds(5)) {
                told("link goes on with its old password") == 2
            }
            try reload(TunnelBed.password, "another password")
            try waitUntil("the links to go on with their new password", within: .seconds(5)) {
                told("link goes on with its new password") == 2
            }

            try bed.daemon.admin("set-link", "acme", "link2,bind=10.71.2.1:5099")
            try bed.waitForPing("10.78.0.1", from: customer)
            try reload("remoteport = 5082", "remoteport = 5099")
            try waitUntil("link2 to be reached at its new port", within: .seconds(5)) { () throws(RigError) -> Bool in
                try bed.rig.run(["ss", "-lunH", "sport = :5082"], in: bed.server).isEmpty
            }
            #expect(try up.result() == "sent 2400 missing 0 []")
            #expect(try down.result() == "sent 2400 missing 0 []")
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            let outages = try bed.daemon.admin("--json", "sql", "SELECT tunnel, link, reason FROM link_outages")
            #expect(try JSONDecoder().decode([[String: String]].self, from: Data(outages.utf8)) == [])
        }
    }

    /// Why the session under the old password ended is told, though another is waited for already.
    @Test func aCustomerWhoLeavesBeforeHavingTheNewPasswordIsExplained() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            let client = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForLinks("acme", ["link1": "up"])
            let password = try bed.rig.file("new-password", "another password")
            try bed.daemon.admin("set-tunnel", "acme", "--password-file", password)
            client.signal(SIGTERM)
            try bed.waitForLinks("acme", ["link1": "down"])
            try waitUntil("the outage in the database", within: .seconds(5)) { () throws(RigError) -> Bool in
                let outages = try bed.daemon.admin("--json", "sql", "SELECT link, reason FROM link_outages")
                return outages == #"[{"link":"link1","reason":"peer disconnected"}]"# + "\n"
            }
        }
    }

    @Test func othersComeGoAndChangeUnnoticed() throws {
        try withTunnel { bed, customer in
            let stream = try NumberedStream(bed, from: bed.server, to: customer, address: "10.78.0.2", seconds: 15)
            let password = try bed.rig.file("other-password", "another")
            for round in 0..<15 {
                try bed.daemon.admin(
                    "add-tunnel", "other", "--password-file", password, "--ip4", "10.79.0.1/24", "--link",
                    "l,bind=\(TunnelBed.serverWire(1)):6000")
                try bed.daemon.admin("set-tunnel", "other", "--timeout", "\(10 + round)")
                try bed.daemon.admin("set-link", "other", "l,bind=\(TunnelBed.serverWire(2)):6001")
                try bed.daemon.admin("disable", "other")
                try bed.daemon.admin("enable", "other")
                try bed.daemon.admin("remove-tunnel", "other")
            }
            #expect(try stream.result() == "sent 3000 missing 0 []")
        }
    }

    @Test func aNewTunnelCarriesAtOnceForAClientThatWaits() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            // It has tried in vain for a while.
            try bed.rig.run(["sleep", "3"])
            try bed.addTunnel("acme", wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(5))
        }
    }

    @Test func aTunnelThatIsEnabledWhileItIsStillBeingDisabledStartsAnew() throws {
        try withTunnel { bed, customer in
            let helper = try #require(
                bed.server.processes.first { pid in
                    (try? bed.rig.run(["cat", "/proc/\(pid)/comm"])) == "mlvpn-helper\n"
                })
            kill(helper, SIGSTOP)
            try bed.daemon.admin("disable", "acme")
            try bed.daemon.admin("enable", "acme")
            kill(helper, SIGCONT)
            try bed.waitForPing("10.78.0.1", from: customer)
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"])
            try bed.daemon.admin("check")
            try bed.daemon.admin("set-tunnel", "acme", "--route", "10.99.0.0/16")
            try waitUntil("the route", within: .seconds(10)) { () throws(RigError) -> Bool in
                try bed.rig.run(["ip", "route"], in: bed.server).contains("10.99.0.0/16")
            }
        }
    }

    @Test func aTunnelWhoseRowsCannotBeRunOutlivesControl() throws {
        try withTunnel { bed, customer in
            try bed.rig.run([
                "sqlite3", "\(bed.daemon.stateDirectory)/mlvpn.db",
                "UPDATE tunnels SET ip4 = '10.0.0.300/24' WHERE name = 'acme'",
            ])
            let control = try bed.pid(of: "mlvpn-control")
            kill(control, SIGKILL)
            try waitUntil("another control", within: .seconds(20)) { () throws(RigError) -> Bool in
                guard let next = try? bed.pid(of: "mlvpn-control"), next != control else { return false }
                return try bed.rig.succeeds(bed.daemon.adminCommand + ["status"])
            }
            try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(2))
            try bed.daemon.admin("remove-tunnel", "acme")
            try waitUntil("the device to be gone", within: .seconds(15)) { () throws(RigError) -> Bool in
                try !bed.rig.run(["ip", "-br", "link"], in: bed.server).contains("mlacme")
            }
        }
    }

    @Test func rowsEditedWithSQLAreAppliedByReloadAndBadOnesRefused() throws {
        try withTunnel { bed, customer in
            let database = "\(bed.daemon.stateDirectory)/mlvpn.db"
            func sql(_ statement: String) throws {
                try bed.rig.run(["sqlite3", "-cmd", "PRAGMA foreign_keys = ON", database, statement])
            }
            try sql("UPDATE tunnels SET timeout = 9 WHERE name = 'acme'")
            #expect(try bed.daemon.admin("reload", "--dry-run").contains("would change acme"))
            #expect(try bed.daemon.admin("reload", "acme").contains("change acme"))
            #expect(try bed.daemon.admin("reload").contains("unchanged: 1"))

            // No constraint can see that there is no such address; the tunnel goes on as it was.
            try sql("UPDATE tunnels SET ip4 = '10.0.0.300/24' WHERE name = 'acme'")
            let refused = try bed.rig.start(bed.daemon.adminCommand + ["reload"])
            #expect(try refused.waitForExit(within: .seconds(10)) == .exited(1))
            #expect(refused.output.contains("10.0.0.300/24"), "\(refused.output)")
            try bed.waitForPing("10.78.0.1", from: customer)
            let check = try bed.rig.start(bed.daemon.adminCommand + ["check"])
            #expect(try check.waitForExit(within: .seconds(10)) == .exited(1))

            try sql("UPDATE tunnels SET ip4 = '10.78.0.1/24' WHERE name = 'acme'")
            try bed.daemon.admin("reload")
            try bed.daemon.admin("check")
            try sql("DELETE FROM tunnels WHERE name = 'acme'")
            #expect(try bed.daemon.admin("reload").contains("remove acme"))
            #expect(try bed.daemon.admin("--json", "list") == "[]\n")
        }
    }
}
