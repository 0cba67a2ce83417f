import Foundation
import Testing
import TunnelTestKit

/// `mlvpn-admin` against a daemon: what it prints, and with which code it ends.
@Suite(.serialized) struct OperationsAdminTests {
    private func json(_ text: String) throws -> Any {
        try JSONSerialization.jsonObject(with: Data(text.utf8))
    }

    /// Runs it; its exit code and what it printed, on either stream.
    private func admin(_ bed: TunnelBed, _ arguments: [String]) throws -> (
        code: RunningProcess.ExitStatus, text: String
    ) {
        let process = try bed.rig.start(bed.daemon.adminCommand + arguments)
        return (try process.waitForExit(within: .seconds(30)), process.output)
    }

    @Test func everyCommandSpeaksJSONAndErrorsAreProblemDocuments() throws {
        try TunnelBed.with { bed in
            _ = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            for command in [
                "list", "show acme", "status", "status acme", "reload --dry-run", "history",
                "history acme link1 --by hour",
                "history --events", "check", "audit", "export acme", "set-tunnel acme --timeout 8",
                "set-link acme link1,timeout=9", "set-filters acme --filter link1=icmp", "disable acme", "enable acme",
                "completions bash", "new-token laptop", "debug acme rtt", "debug acme --off",
            ] {
                let answer = try admin(bed, ["--json"] + command.split(separator: " ").map(String.init))
                #expect(answer.code == .exited(0), "\(command): \(answer.text)")
                #expect(throws: Never.self, "\(command): \(answer.text)") { try json(answer.text) }
            }
            for (command, code, type) in [
                ("show nobody", Int32(3), "no-such-tunnel"), ("set-link acme nolink,timeout=9", 3, "no-such-link"),
                ("set-tunnel acme --mtu 20", 1, "refused"), ("frobnicate", 2, "usage"), ("show", 2, "usage"),
                ("set-tunnel acme --if-version 1 --timeout 5", 5, "conflict"), ("history nobody", 3, "no-such-tunnel"),
                ("events --tunnel nobody", 3, "no-such-tunnel"), ("debug acme gossip", 1, "refused"),
                ("capture acme nolink", 3, "no-such-link"), ("export nobody", 3, "no-such-tunnel"),
            ] {
                let answer = try admin(bed, ["--json"] + command.split(separator: " ").map(String.init))
                #expect(answer.code == .exited(code), "\(command): \(answer.text)")
                let problem = try json(answer.text) as? [String: Any]
                #expect((problem?["type"] as? String)?.hasSuffix(":" + type) == true, "\(command): \(answer.text)")
                #expect(problem?["status"] is Int && problem?["detail"] is String && problem?["title"] is String)
            }
        }
    }

    @Test func whatIsExportedCanBeImportedAndIsTheSame() throws {
        try TunnelBed.with { bed in
            let password = try bed.rig.file("password", "it's \"secret\"\n".replacingOccurrences(of: "\"", with: ""))
            try bed.daemon.admin(
                "add-tunnel", "acme", "--password-file", password, "--ip4", "10.78.0.1/24", "--ip6", "fd78::1/64",
                "--gateway4", "10.78.0.2", "--route", "10.80.0.0/16", "--mtu", "1300", "--timeout", "9", "--reorder",
                "64",
                "--loss-tolerance", "20", "--latency-tolerance", "300", "--scheduler", "wrr", "--link",
                "adsl,bind=127.0.0.1:6001,bandwidth=20mbit,limit=3MB,timeout=5", "--link",
                "lte,bind=127.0.0.1:6002,fallback",
                "--filter", "lte=udp port 5060")
            let before = try bed.daemon.admin("show", "acme", "--secrets")
            let conf = try bed.daemon.admin("export", "acme")
            try bed.daemon.admin("remove-tunnel", "acme")
            let file = try bed.rig.file("acme.conf", conf)
            #expect(try bed.daemon.admin("import", file, "--dry-run").isEmpty == false)
            #expect(try bed.daemon.admin("--json", "list") == "[]\n")
            try bed.daemon.admin("import", file)
            func lines(_ text: String) -> [Substring] {
                text.split(separator: "\n").filter { !$0.hasPrefix("version") }
            }
            #expect(lines(try bed.daemon.admin("show", "acme", "--secrets")) == lines(before))
            #expect(try bed.daemon.admin("export", "acme") == conf)

            // The other end's file makes a client of it.
            let client = try bed.daemon.admin("export", "acme", "--for", "client", "--remote", "192.0.2.1")
            #expect(client.contains("mode = \"client\"") && client.contains("remotehost = \"192.0.2.1\""))
            let other = try bed.rig.file("router.conf", client)
            try bed.daemon.admin("remove-tunnel", "acme")
            try bed.daemon.admin("import", other, "--name", "router", "--dry-run")
        }
    }

    @Test func filesThatCannotBeImportedAreToldLineByLineAndChangeNothing() throws {
        try TunnelBed.with { bed in
            let good = "[general]\nmode = server\npassword = x\n[adsl]\nbindport = 6000\n"
            let files: [(String, String, String)] = [
                ("unknown", good + "frobnicate = 1\n", "6"),
                ("binary", String(repeating: "\u{1}\u{0}\u{7f}", count: 5000), "NUL"),
                ("half", "[general]\nmode = ser", "line 2"), ("empty", "", "general"),
                (
                    "line", "[general]\nmode = server\npassword = \"" + String(repeating: "x", count: 900_000) + "\"\n",
                    "line 3"
                ),
                ("huge", String(repeating: "a", count: 10_000_000), "longer than"),
            ]
            let fine = try bed.rig.file("fine.conf", good)
            for (name, text, word) in files {
                let file = try bed.rig.file("\(name).conf", text)
                // Not even the good one before it is imported.
                let answer = try admin(bed, ["import", fine, file])
                #expect(answer.code == .exited(1), "\(name): \(answer.text.prefix(500))")
                #expect(
                    answer.text.contains("\(name).conf") && answer.text.contains(word), "\(answer.text.prefix(500))")
                #expect(answer.text.utf8.count < 20_000)
            }
            #expect(try bed.daemon.admin("--json", "list") == "[]\n")
        }
    }

    /// What is in the way lies in the host, and not in the files.
    @Test func ofSeveralFilesEveryOneIsImportedOrNone() throws {
        try TunnelBed.with { bed in
            let other = try bed.rig.start(
                [
                    "python3", "-c",
                    "import signal, socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 6001));"
                        + " print('bound', flush=True); signal.pause()",
                ], in: bed.server)
            try waitUntil("the port to be taken", within: .seconds(10)) { other.output.contains("bound") }
            let files = try [6000, 6001].map { port in
                try bed.rig.file(
                    "port\(port).conf", "[general]\nmode = server\npassword = x\n[adsl]\nbindport = \(port)\n")
            }
            // What has the port may be what is to be replaced.
            #expect(try admin(bed, ["import", "--dry-run"] + files).code == .exited(0))
            let answer = try admin(bed, ["import"] + files)
            #expect(answer.code == .exited(1), "\(answer.text)")
            #expect(answer.text.contains("port6001.conf: link adsl: bind: port 6001 is in use"), "\(answer.text)")
            #expect(try bed.daemon.admin("--json", "list") == "[]\n")
            other.signal(SIGKILL)
            _ = try other.waitForExit(within: .seconds(10))
            #expect(try admin(bed, ["import"] + files).code == .exited(0))
        }
    }

    @Test func aBackupIsRestoredWhileEverythingRuns() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer)
            let file = "\(bed.rig.directory)/backup.db"
            try bed.daemon.admin("backup", file)
            #expect(try bed.rig.run(["sqlite3", file, "PRAGMA integrity_check"]).contains("ok"))
            #expect(try bed.rig.run(["stat", "-c", "%a", file]).contains("600"))
            try bed.daemon.admin("set-tunnel", "acme", "--timeout", "77")
            let stream = try NumberedStream(bed, from: bed.server, to: customer, address: "10.78.0.2", seconds: 4)
            try bed.daemon.admin("restore", file)
            #expect(try stream.result() == "sent 800 missing 0 []")
            #expect(try bed.daemon.admin("show", "acme").contains("timeout             5\n"))
            #expect(try bed.daemon.admin("audit").contains("restore"))
            let bad = try bed.rig.file("bad.db", "no database")
            #expect(try admin(bed, ["restore", bad]).code == .exited(1))
            try bed.daemon.admin("check")
        }
    }

    @Test func eventsAreFollowedAndStatusIsWatched() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            let events = try bed.rig.start(
                bed.daemon.adminCommand + ["--json", "events", "--follow", "--tunnel", "acme"])
            // An event from before it listens is none that it follows.
            try poll("it to listen", within: .seconds(20), every: .milliseconds(100)) { () throws(RigError) -> Void? in
                try bed.daemon.admin("disable", "acme")
                try bed.daemon.admin("enable", "acme")
                return events.output.contains("link1") ? () : nil
            }
            let status = try bed.rig.start(bed.daemon.adminCommand + ["status", "--watch"])
            try waitUntil("the first status", within: .seconds(10)) { status.output.contains("acme") }
            let client = try bed.startClient("acme", in: customer, wires: [1])
            try waitUntil("the link's event", within: .seconds(10)) {
                events.output.contains("\"link\":\"link1\"") && events.output.contains("\"state\":\"up\"")
            }
            try waitUntil("the status to show it", within: .seconds(10)) { status.output.contains(" up ") }
            client.signal(SIGKILL)
            try waitUntil("the link's end", within: .seconds(20)) { events.output.contains("\"previous\":\"up\"") }
            // Nobody reads: it does not wait for an event to find out.
            let unread = try bed.rig.start([
                "sh", "-c", (bed.daemon.adminCommand + ["events", "--follow"]).joined(separator: " ") + " | true",
            ])
            _ = try unread.waitForExit(within: .seconds(10))
            kill(try bed.pid(of: "mlvpn-control"), SIGKILL)
            #expect(try events.waitForExit(within: .seconds(10)) == .exited(4))
            for line in events.output.split(separator: "\n") {
                #expect(throws: Never.self, "\(line)") { try json(String(line)) }
            }
        }
    }

    @Test func aCaptureShowsThePacketsInsideAndOutside() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer)
            func capture(_ arguments: [String]) throws -> String {
                let command = (bed.daemon.adminCommand + ["capture"] + arguments).joined(separator: " ")
                let process = try bed.rig.start(["sh", "-c", "\(command) | tcpdump -n -r - 2>&1"], in: bed.server)
                let pings = try bed.rig.start(["ping", "-q", "-i0.05", "-c100", "10.78.0.1"], in: customer)
                #expect(try process.waitForExit(within: .seconds(30)) == .exited(0), "\(process.output)")
                pings.stop()
                return process.output
            }
            let inner = try capture(["acme", "--count", "6", "--seconds", "10"])
            #expect(inner.contains("link-type RAW"), "\(inner)")
            #expect(inner.contains("10.78.0.2 > 10.78.0.1: ICMP echo request"), "\(inner)")
            #expect(inner.contains("10.78.0.1 > 10.78.0.2: ICMP echo reply"), "\(inner)")
            #expect(inner.matches(of: /ICMP/).count == 6)
            let outer = try capture(["acme", "link1", "--count", "6", "--seconds", "10"])
            #expect(outer.contains("IP 10.71.1.2."), "\(outer)")
            #expect(outer.contains("> 10.71.1.1.5081: UDP"), "\(outer)")
            #expect(!outer.contains("ICMP"), "\(outer)")
        }
    }
}
