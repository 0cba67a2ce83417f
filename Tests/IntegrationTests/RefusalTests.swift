import Foundation
import Testing
import TunnelTestKit

/// Bad input: refused with the reason, the right exit code, and nothing changed.
@Suite(.serialized) struct RefusalTests {
    /// Runs mlvpn-admin; its exit code and what it printed.
    private func admin(
        _ bed: TunnelBed, _ arguments: [String]
    ) throws -> (status: RunningProcess.ExitStatus, output: String) {
        let process = try bed.rig.start(bed.daemon.adminCommand + arguments)
        return (try process.waitForExit(within: .seconds(30)), process.output)
    }

    @Test func definitionsThatCannotBeAreRefusedAndNothingChanges() throws {
        try TunnelBed.with { bed in
            _ = try bed.customer("customer", wires: [1, 2])
            try bed.addTunnel("acme", wires: [1])
            let password = try bed.rig.file("password", "secret")
            let before = try bed.daemon.admin("--json", "list")
            let add = ["--password-file", password, "--link", "l,bind=:6000"]
            let refused: [([String], Int32, String)] = [
                (["add-tunnel", "acme"] + add, 1, "acme"),
                (["add-tunnel", "other", "--interface", "sixteen-bytes-xx"] + add, 1, "sixteen-bytes-xx"),
                (["add-tunnel", "other", "--interface", "mlacme"] + add, 1, "mlacme"),
                (["add-tunnel", "other", "--interface", "lo"] + add, 1, "lo is a device of this host"),
                (["set-tunnel", "acme", "--interface", "lo"], 1, "lo is a device of this host"),
                (["add-tunnel", "other", "--ip4", "10.0.0.300/24"] + add, 1, "10.0.0.300/24"),
                (["add-tunnel", "other", "--mtu", "20"] + add, 1, "20"),
                (["add-tunnel", "other", "--link", "l,bind=:6000"], 2, "password"),
                (
                    [
                        "add-tunnel", "other", "--password-file", password, "--link",
                        "l,bind=\(TunnelBed.serverWire(1)):5081",
                    ], 1, "5081"
                ),
                (["add-tunnel", "other", "--frobnicate"] + add, 2, "frobnicate"),
                (["add-tunnel", "other", "--password-file", password, "--link", "l,bnid=:6000"], 1, "bnid"),
                (["set-tunnel", "nobody", "--mtu", "1400"], 3, "nobody"),
                (["set-link", "acme", "link9,bandwidth=5mbit"], 3, "link9"),
                (["remove-tunnel", "nobody"], 3, "nobody"), (["status", ""], 2, "empty"), ([], 2, "command"),
                (["frobnicate"], 2, "frobnicate"),
            ]
            for (arguments, code, word) in refused {
                let result = try admin(bed, arguments)
                #expect(result.status == .exited(code), "\(arguments): \(result.output)")
                #expect(result.output.contains(word), "\(arguments): \(result.output)")
            }
            #expect(try bed.daemon.admin("--json", "list") == before)
        }
    }

    @Test func withoutADaemonTheAdministratorIsTold() throws {
        try NetworkRig.with { rig in
            let process = try rig.start(
                ["\(try TunnelBed.programs)/mlvpn-admin", "--socket", "\(rig.directory)/nowhere.sock", "list"])
            #expect(try process.waitForExit(within: .seconds(10)) == .exited(4))
            #expect(process.output.contains("nowhere.sock"))
        }
    }

    @Test func strangersMayNotUseTheSocket() throws {
        try TunnelBed.with { bed in
            let result = try bed.rig.start(
                ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] + bed.daemon.adminCommand
                    + ["list"])
            #expect(try result.waitForExit(within: .seconds(10)) == .exited(4))
            #expect(result.output.contains("control.sock: no permission"), "\(result.output)")
        }
    }

    @Test func aSecondDaemonOnTheSameStateIsRefused() throws {
        try TunnelBed.with { bed in
            let second = try bed.rig.start(
                [
                    "\(try TunnelBed.programs)/mlvpnd", "--foreground", "--state-dir", bed.daemon.stateDirectory,
                    "--run-dir", "\(bed.rig.directory)/another-run",
                ], in: bed.server)
            let status = try second.waitForExit(within: .seconds(20))
            #expect(status != .exited(0))
            #expect(second.output.contains("\(bed.daemon.process.pid)"), "\(second.output)")
            try bed.daemon.admin("list")
        }
    }

    /// Neither in the foreground nor as a command that goes into the background does the start wait for ever.
    @Test(arguments: [["--foreground"], []])
    func aDatabaseThatCannotBeUsedIsRefusedWithTheReason(mode: [String]) throws {
        try NetworkRig.with { rig in
            let namespace = try rig.namespace("server")
            let state = "\(rig.directory)/state"
            let database = "\(state)/mlvpn.db"
            try rig.run(["install", "-d", "-m", "700", "-o", "mlvpn-control", state])
            for (prepare, reason) in [
                ("echo nonsense that is no database > \(database)", "is damaged or no database"),
                (
                    """
                    sqlite3 \(database) "CREATE TABLE grdb_migrations (identifier TEXT NOT NULL PRIMARY KEY);
                    INSERT INTO grdb_migrations VALUES ('9999-later')"
                    """, "was written by a later version"
                ),
                ("touch \(database) && chmod 400 \(database)", "no permission"),
            ] {
                try rig.run([
                    "sh", "-c", "rm -f \(database)*; \(prepare); chown mlvpn-control \(database)",
                ])
                let process = try rig.start(
                    [
                        "\(try TunnelBed.programs)/mlvpnd", "--state-dir", state, "--run-dir", "\(rig.directory)/run",
                    ] + mode, in: namespace)
                #expect(try process.waitForExit(within: .seconds(30)) == .exited(1), "\(reason)")
                #expect(process.output.contains(reason), "\(process.output)")
                try waitUntil("the processes to be gone", within: .seconds(10)) { namespace.processes.isEmpty }
            }
        }
    }

    @Test func onlyRootMayStartTheDaemon() throws {
        try NetworkRig.with { rig in
            let process = try rig.start([
                "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                "\(try TunnelBed.programs)/mlvpnd", "--foreground", "--state-dir", "/tmp/nobody", "--run-dir",
                "/tmp/nobody",
            ])
            #expect(try process.waitForExit(within: .seconds(10)) != .exited(0))
            #expect(process.output.contains("must be started as root"), "\(process.output)")
        }
    }

    @Test(arguments: [(mode_t(0o640), "640"), (mode_t(0o604), "604")])
    func aConfigurationThatOthersCanReadIsRefused(mode: mode_t, text: String) throws {
        try NetworkRig.with { rig in
            let file = try rig.file("open-\(text).conf", "[general]\nmode = client\npassword = x\n", mode: mode)
            let process = try rig.start([
                "\(try TunnelBed.programs)/mlvpn", "--debug", "-c", file, "-u", "mlvpn",
            ])
            #expect(try process.waitForExit(within: .seconds(10)) != .exited(0))
            #expect(process.output.contains("chmod"), "\(process.output)")
        }
    }

    @Test func oneBrokenTunnelKeepsNoOtherFromStarting() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.rig.run(["ip", "link", "add", "mltaken", "type", "veth"], in: bed.server)
            let password = try bed.rig.file("password", TunnelBed.password)
            // In the database it stands, although the device is another's.
            try bed.daemon.admin(
                "add-tunnel", "broken", "--disabled", "--interface", "mltaken", "--password-file", password, "--link",
                "l,bind=10.99.99.99:5080")
            try bed.rig.run([
                "sqlite3", "\(bed.daemon.stateDirectory)/mlvpn.db",
                "UPDATE tunnels SET enabled = 1 WHERE name = 'broken'",
            ])
            try bed.daemon.admin("reload")
            try bed.addTunnel("acme", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer)
            #expect(try bed.daemon.admin("status", "broken").contains("mltaken"))
            // It comes up by itself once what was in its way is gone.
            try bed.rig.run(["ip", "link", "delete", "mltaken"], in: bed.server)
            try waitUntil("the device", within: .seconds(70)) { () throws(RigError) -> Bool in
                try bed.rig.run(["ip", "tuntap"], in: bed.server).contains("mltaken")
            }
        }
    }
}
