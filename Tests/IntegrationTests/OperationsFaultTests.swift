import Foundation
import Testing
import TunnelTestKit

/// A database in trouble, and clients that misbehave: told of, survived, and without a packet lost.
@Suite(.serialized) struct OperationsFaultTests {
    private func admin(_ bed: TunnelBed, _ arguments: [String]) throws -> (
        code: RunningProcess.ExitStatus, text: String
    ) {
        try admin(bed, bed.daemon, arguments)
    }

    private func admin(_ bed: TunnelBed, _ daemon: Daemon, _ arguments: [String]) throws -> (
        code: RunningProcess.ExitStatus, text: String
    ) {
        let process = try bed.rig.start(daemon.adminCommand + arguments)
        return (try process.waitForExit(within: .seconds(30)), process.output)
    }

    @Test func aLockedDatabaseIsAConflictAndTrafficGoesOn() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer)
            let stream = try NumberedStream(bed, from: bed.server, to: customer, address: "10.78.0.2", seconds: 20)
            let script = """
                import signal, sqlite3
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
                db = sqlite3.connect("\(bed.daemon.stateDirectory)/mlvpn.db", isolation_level=None)
                db.execute("BEGIN IMMEDIATE"); print("locked", flush=True)
                signal.sigwait({signal.SIGTERM}); db.execute("ROLLBACK")
                """
            let lock = try bed.rig.start(["python3", "-c", script])
            try waitUntil("the lock", within: .seconds(10)) { lock.output.contains("locked") }
            let refused = try admin(bed, ["set-tunnel", "acme", "--timeout", "9"])
            #expect(refused.code == .exited(5), "\(refused.text)")
            #expect(refused.text.contains("locked by another process"), "\(refused.text)")
            let check = try admin(bed, ["check"])
            #expect(check.code == .exited(1) && check.text.contains("locked by another process"), "\(check.text)")
            // What needs no writing is answered meanwhile.
            #expect(try admin(bed, ["status", "acme"]).code == .exited(0))
            // Nor is the lock in the way of a control process that begins.
            kill(try bed.pid(of: "mlvpn-control"), SIGKILL)
            try waitUntil("control to be back", within: .seconds(30)) {
                (try? admin(bed, ["status", "acme"]).code) == .exited(0)
            }
            lock.signal(SIGTERM)
            #expect(try lock.waitForExit(within: .seconds(20)) == .exited(0))
            try bed.daemon.admin("set-tunnel", "acme", "--timeout", "9")
            #expect(try stream.result() == "sent 4000 missing 0 []")
            try waitUntil("the link's state to be recorded", within: .seconds(10)) { () throws(RigError) -> Bool in
                try bed.daemon.admin("sql", "SELECT state FROM intervals WHERE ended_at IS NULL AND state = 'up'")
                    .contains("up")
            }
        }
    }

    @Test func aFullDiskIsToldAndChangesNothing() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            bed.daemon.stop()
            let small = try SmallDisk(bed, isFull: false)
            let daemon = small.daemon
            let password = try bed.rig.file("password", TunnelBed.password)
            try daemon.admin(
                "add-tunnel", "acme", "--password-file", password, "--ip4", "10.78.0.1/24", "--link",
                "link1,bind=\(TunnelBed.serverWire(1)):5081")
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer)
            try small.fill()
            var refused: (code: RunningProcess.ExitStatus, text: String)?
            for number in 0..<200 where refused == nil {
                let answer = try admin(
                    bed, daemon,
                    ["add-tunnel", "t\(number)", "--password-file", password, "--link", "l,bind=:\(7000 + number)"])
                if answer.code != .exited(0) { refused = answer }
            }
            #expect(refused?.code == .exited(1))
            #expect(refused?.text.contains("no space left") == true, "\(refused?.text ?? "never full")")
            try bed.waitForPing("10.78.0.1", from: customer)
            let check = try admin(bed, daemon, ["check"])
            #expect(check.code == .exited(1) && check.text.contains("no space left"), "\(check.text)")
            try small.makeRoom()
            try daemon.admin("set-tunnel", "acme", "--timeout", "9")
            try daemon.admin("check")
            daemon.stop()
            try bed.daemon.start()
        }
    }

    /// A host whose disk has filled up in the night, and that is started anew: its customers are served, and told of.
    @Test func aFullDiskKeepsNothingFromStarting() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer)
            bed.daemon.stop()
            let small = try SmallDisk(bed, isFull: true)
            let daemon = small.daemon
            try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(30))
            #expect(daemon.process.output.contains("history cannot be written"), "\(daemon.process.output)")
            let check = try admin(bed, daemon, ["check"])
            #expect(check.code == .exited(1) && check.text.contains("history is not written now"), "\(check.text)")
            kill(try bed.pid(of: "mlvpn-control"), SIGKILL)
            try waitUntil("control to be back", within: .seconds(30)) {
                (try? admin(bed, daemon, ["status", "acme"]).text.contains(" up ")) == true
            }
            try small.makeRoom()
            try waitUntil("history to be written", within: .seconds(20)) {
                daemon.process.output.contains("history is being written again")
            }
            try daemon.admin("set-tunnel", "acme", "--timeout", "9")
            try daemon.admin("check")
            daemon.stop()
            try bed.daemon.start()
        }
    }

    @Test func aRemovedDatabaseIsToldAndItsContentSaved() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer)
            let database = "\(bed.daemon.stateDirectory)/mlvpn.db"
            try bed.rig.run(["rm", database])
            for words in [["set-tunnel", "acme", "--timeout", "9"], ["check"]] {
                let refused = try admin(bed, words)
                #expect(refused.code == .exited(1) && refused.text.contains("was removed"), "\(refused.text)")
            }
            try bed.waitForPing("10.78.0.1", from: customer)
            let saved = "\(bed.rig.directory)/saved.db"
            try bed.daemon.admin("backup", saved)
            bed.daemon.stop()
            try putInPlace(saved, bed)
            try bed.daemon.start()
            try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(30))
            try bed.daemon.admin("check")
        }
    }

    /// A new, empty database would end every customer's tunnel.
    @Test func controlThatFindsItsDatabaseGoneWaitsForABackup() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer)
            let saved = "\(bed.rig.directory)/saved.db"
            try bed.daemon.admin("backup", saved)
            try bed.rig.run(["rm", "\(bed.daemon.stateDirectory)/mlvpn.db"])
            kill(try bed.pid(of: "mlvpn-control"), SIGKILL)
            try waitUntil("control to miss its database", within: .seconds(20)) {
                bed.daemon.process.output.contains("mlvpn.db: was removed")
            }
            try bed.waitForPing("10.78.0.1", from: customer)
            try putInPlace(saved, bed)
            try waitUntil("control to be back", within: .seconds(60)) {
                (try? admin(bed, ["show", "acme"]).code) == .exited(0)
            }
            try bed.waitForPing("10.78.0.1", from: customer)
        }
    }

    private func putInPlace(_ backup: String, _ bed: TunnelBed) throws {
        let database = "\(bed.daemon.stateDirectory)/mlvpn.db"
        try bed.rig.run([
            "sh", "-c",
            "rm -f \(database)-* && install -m 600 -o mlvpn-control -g mlvpn-control \(backup) \(database)",
        ])
    }

    /// Everything is killed at once, again and again: the database stays sound, and what nobody saw is unknown.
    @Test func afterAKillHistoryIsWholeAndTheGapUnknown() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            let database = "\(bed.daemon.stateDirectory)/mlvpn.db"
            for _ in 0..<3 {
                try bed.waitForLinks("acme", ["link1": "up"], within: .seconds(30))
                try bed.rig.run(["sleep", "2.3"])
                bed.daemon.process.signalGroup(SIGKILL)
                _ = try bed.daemon.process.waitForExit(within: .seconds(5))
                try waitUntil("the daemon's processes to be gone", within: .seconds(10)) {
                    bed.server.processes.isEmpty
                }
                try bed.rig.run(["sleep", "1"])
                try bed.daemon.start()
            }
            try bed.waitForLinks("acme", ["link1": "up"], within: .seconds(30))
            try bed.rig.run(["sleep", "2"])
            func sql(_ statement: String) throws(RigError) -> String {
                try bed.rig.run(["sqlite3", database, statement])
            }
            #expect(try sql("PRAGMA integrity_check").contains("ok"))
            #expect(
                try sql(
                    """
                    SELECT count(*) FROM intervals AS a JOIN intervals AS b ON a.series_id = b.series_id AND a.id <> b.id
                    WHERE a.started_at < coalesce(b.ended_at, 9e15) AND b.started_at < coalesce(a.ended_at, 9e15)
                        AND a.started_at < coalesce(a.ended_at, 9e15) AND b.started_at < coalesce(b.ended_at, 9e15)
                    """) == "0\n", "intervals overlap")
            // Up, then unknown for each kill; the concentrator's own end is no outage of the line.
            #expect(try sql("SELECT count(*) FROM link_outages") == "0\n")
            let gaps = try sql(
                """
                SELECT count(*) FROM intervals JOIN series ON series.id = series_id
                WHERE series.link = 'link1' AND state = 'unknown' AND ended_at - started_at >= 1000
                """)
            #expect((Int(gaps.prefix { $0.isNumber }) ?? 0) >= 3, "\(gaps)")
        }
    }

    @Test func clientsThatHangBlockNobody() throws {
        try TunnelBed.with { bed in
            let socket = "\(bed.daemon.runDirectory)/control.sock"
            // Half a request; a body that never comes; an event stream and a big answer that nobody reads.
            let script = """
                import socket, sys
                held = []
                for start in [b"GET /v1/tun", b"POST /v1/tunnels HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 900\\r\\n\\r\\n{",
                              b"GET /v1/events?follow=1 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n", b"\\x00\\xff" * 500,
                              b"GET /v1/backup HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"] * 20:
                    s = socket.socket(socket.AF_UNIX); s.connect("\(socket)"); s.sendall(start); held.append(s)
                print("hanging", flush=True)
                sys.stdin.read()
                """
            let clients = try bed.rig.start(["python3", "-c", script], withInput: true)
            try waitUntil("100 clients", within: .seconds(20)) { clients.output.contains("hanging") }
            for _ in 0..<5 { try bed.daemon.admin("list", within: .seconds(5)) }
            let huge = try bed.rig.file("huge.json", #"{"name": ""# + String(repeating: "x", count: 2_000_000) + "\"}")
            let status = try bed.rig.run(
                [
                    "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}\n", "--unix-socket", socket, "--data-binary",
                    "@\(huge)", "http://localhost/v1/tunnels",
                ])
            #expect(status.contains("413"), "\(status)")
            clients.stop()
        }
    }
}

/// A daemon like the bed's, with a copy of its state on a file system of 3 MB.
///
/// `ip netns exec` gives each command mounts of its own: this one is the daemon's alone and goes with it, whatever ends it.
private struct SmallDisk {
    let daemon: Daemon
    private let bed: TunnelBed
    private let directory: String

    init(_ bed: TunnelBed, isFull: Bool) throws {
        self.bed = bed
        directory = "\(bed.rig.directory)/small"
        let programs = "\(bed.rig.directory)/programs"
        try bed.rig.run(["mkdir", directory, programs])
        try bed.rig.run(["ln", "-s", "\(try TunnelBed.programs)/mlvpn-admin", programs])
        let state = bed.daemon.stateDirectory
        _ = try bed.rig.file(
            "programs/mlvpnd",
            """
            #!/bin/sh -e
            mount -t tmpfs -o size=3m,mode=755 tmpfs \(directory)
            cp -a \(state)/. \(directory)/
            chown --reference=\(state) \(directory)
            \(isFull ? Self.filling(directory) : "")
            exec \(try TunnelBed.programs)/mlvpnd "$@"

            """, mode: 0o700)
        daemon = try Daemon(
            in: bed.rig, bed.server, programs: programs, name: "full", flags: ["--state-dir", directory])
        #expect(try !bed.rig.run(["cat", "/proc/mounts"]).contains(directory))
    }

    func fill() throws { try inside(Self.filling(directory)) }
    func makeRoom() throws { try inside("rm \(directory)/ballast") }

    private static func filling(_ directory: String) -> String {
        "cat /dev/zero > \(directory)/ballast 2>/dev/null || true"
    }

    private func inside(_ command: String) throws {
        try bed.rig.run(["nsenter", "--target", "\(daemon.process.pid)", "--mount", "sh", "-c", command])
    }
}
