import Foundation
import Testing
import TunnelTestKit

/// A database in trouble, and clients that misbehave: told of, survived, and without a packet lost.
@Suite(.serialized) struct OperationsFaultTests {
    private func admin(_ bed: TunnelBed, _ arguments: [String]) throws -> (
        code: RunningProcess.ExitStatus, text: String
    ) {
        let process = try bed.rig.start(bed.daemon.adminCommand + arguments)
        return (try process.waitForExit(within: .seconds(30)), process.output)
    }

    @Test func aLockedDatabaseIsAConflictAndTrafficGoesOn() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer)
            let stream = try NumberedStream(bed, from: bed.server, to: customer, address: "10.78.0.2", seconds: 10)
            let script = """
                import sqlite3, time
                db = sqlite3.connect("\(bed.daemon.stateDirectory)/mlvpn.db", isolation_level=None)
                db.execute("BEGIN IMMEDIATE"); print("locked", flush=True); time.sleep(8); db.execute("ROLLBACK")
                """
            let lock = try bed.rig.start(["python3", "-c", script])
            try waitUntil("the lock", within: .seconds(10)) { lock.output.contains("locked") }
            let refused = try admin(bed, ["set-tunnel", "acme", "--timeout", "9"])
            #expect(refused.code == .exited(5), "\(refused.text)")
            #expect(refused.text.contains("locked by another process"), "\(refused.text)")
            // What needs no writing is answered meanwhile.
            #expect(try admin(bed, ["status", "acme"]).code == .exited(0))
            #expect(try lock.waitForExit(within: .seconds(20)) == .exited(0))
            try bed.daemon.admin("set-tunnel", "acme", "--timeout", "9")
            #expect(try stream.result() == "sent 2000 missing 0 []")
        }
    }

    @Test func aFullDiskIsToldAndChangesNothing() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            let state = bed.daemon.stateDirectory
            bed.daemon.stop()
            // The same state on a file system of 3 MB; it goes with the namespace of mounts of this shell.
            let copy = "\(bed.rig.directory)/small"
            try bed.rig.run([
                "sh", "-c",
                "mkdir \(copy) && mount -t tmpfs -o size=3m,mode=755 tmpfs \(copy) && cp -a \(state)/. \(copy)/ && chown --reference=\(state) \(copy)",
            ])
            defer { _ = try? bed.rig.run(["umount", "-l", copy]) }
            let daemon = try Daemon(
                in: bed.rig, bed.server, programs: try TunnelBed.programs, name: "full",
                flags: ["--state-dir", copy])
            let password = try bed.rig.file("password", TunnelBed.password)
            try daemon.admin(
                "add-tunnel", "acme", "--password-file", password, "--ip4", "10.78.0.1/24", "--link",
                "link1,bind=\(TunnelBed.serverWire(1)):5081")
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer)
            try bed.rig.run(["sh", "-c", "cat /dev/zero > \(copy)/ballast 2>/dev/null || true"])
            var refused: (code: RunningProcess.ExitStatus, text: String)?
            for number in 0..<200 where refused == nil {
                let process = try bed.rig.start(
                    daemon.adminCommand + [
                        "add-tunnel", "t\(number)", "--password-file", password, "--link", "l,bind=:\(7000 + number)",
                    ])
                let code = try process.waitForExit(within: .seconds(30))
                if code != .exited(0) { refused = (code, process.output) }
            }
            #expect(refused?.code == .exited(1))
            #expect(refused?.text.contains("no space left") == true, "\(refused?.text ?? "never full")")
            try bed.waitForPing("10.78.0.1", from: customer)
            try bed.rig.run(["rm", "\(copy)/ballast"])
            try daemon.admin("set-tunnel", "acme", "--timeout", "9")
            try daemon.admin("check")
            daemon.stop()
            try bed.daemon.start()
        }
    }

    @Test func clientsThatHangBlockNobody() throws {
        try TunnelBed.with { bed in
            let socket = "\(bed.daemon.runDirectory)/control.sock"
            // Half a request; a body that never comes; an event stream and a big answer that nobody reads.
            let script = """
                import socket, time
                held = []
                for start in [b"GET /v1/tun", b"POST /v1/tunnels HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 900\\r\\n\\r\\n{",
                              b"GET /v1/events?follow=1 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n", b"\\x00\\xff" * 500,
                              b"GET /v1/backup HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"] * 20:
                    s = socket.socket(socket.AF_UNIX); s.connect("\(socket)"); s.sendall(start); held.append(s)
                print("hanging", flush=True)
                time.sleep(20)
                """
            let clients = try bed.rig.start(["python3", "-c", script])
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
