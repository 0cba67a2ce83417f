import Foundation
import Testing
import TunnelTestKit

/// What watches a concentrator: MLVPN's monitoring sockets, Prometheus, and the API on TCP.
@Suite(.serialized) struct OperationsMonitoringTests {
    /// The root of the checkout.
    private static let checkout = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().path

    private func object(_ text: String) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any], "\(text)")
    }

    // MARK: MLVPN's monitoring

    /// A script that was written for stock MLVPN finds what it looks for, and it is true.
    @Test func stockMonitoringScriptsFindWhatTheyLookFor() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1, 2])
            let directory = "\(bed.rig.directory)/monitoring"
            try bed.rig.run(["install", "-d", "-o", "mlvpn-control", directory])
            try bed.addTunnel(
                "acme", wires: [1, 2],
                flags: [
                    "--control-unix-path", "\(directory)/acme.sock", "--control-bind-host", "127.0.0.1",
                    "--control-bind-port", "1040",
                ])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForLinks("acme", ["link1": "up", "link2": "connecting"])
            try bed.waitForPing("10.78.0.1", from: customer)
            try bed.rig.run(["ping", "-q", "-c20", "-i0.05", "10.78.0.1"], in: customer)

            let overTCP = try object(try bed.rig.run(["curl", "-sf", "http://127.0.0.1:1040/status"], in: bed.server))
            let script = """
                import socket
                s = socket.socket(socket.AF_UNIX); s.connect("\(directory)/acme.sock")
                s.sendall(b"status\\n"); f = s.makefile(); print(f.readline(), end="")
                s.sendall(b"quit\\n"); print(f.read(), end="")
                """
            let answer = try bed.rig.run(["python3", "-c", script], in: bed.server).split(separator: "\n")
            let overUNIX = try object(String(try #require(answer.first)))
            for status in [overTCP, overUNIX] {
                #expect(status["name"] as? String == "acme")
                #expect(status["version"] is String)
                #expect(try #require(status["uptime"] as? Int) < 600)
                #expect(status["last_reload"] is Int)
                let pid = Int(bed.daemon.process.pid)
                #expect(status["pid"] as? Int == pid)
                let device = try #require(status["tuntap"] as? [String: String])
                #expect(device == ["type": "tun", "name": "mlacme"])
                let links = try #require(status["tunnels"] as? [[String: Any]])
                #expect(links.map { $0["name"] as? String } == ["link1", "link2"])
                #expect(links.map { $0["status"] as? String } == ["connected", "waiting peer"])
                let link = links[0]
                #expect(link["mode"] as? String == "server")
                #expect(link["bindaddr"] as? String == "10.71.1.1" && "\(link["bindport"] ?? "")" == "5081")
                #expect(link["destaddr"] as? String == "10.71.1.2")
                for (key, least) in [
                    ("sentpackets", 20), ("recvpackets", 20), ("sentbytes", 2000), ("recvbytes", 2000),
                ] {
                    #expect(try #require(link[key] as? Int) > least, "\(key)")
                }
                #expect(link["timeout"] as? Int == 5 && link["loss"] as? Int == 0 && link["disconnects"] as? Int == 0)
                let heard = try #require(link["last_packet"] as? Int)
                #expect(abs(Double(heard) - Date().timeIntervalSince1970) < 10)
                for key in ["destport", "bandwidth", "srtt"] { #expect(link[key] != nil, "\(key)") }
            }
            let metrics = try bed.rig.run(["curl", "-sf", "http://127.0.0.1:1040/metrics"], in: bed.server)
            for name in [
                "disconnected", "waitingpeer", "connected", "lossy", "slow", "sentpackets", "recvpackets", "sentbytes",
                "recvbytes", "bandwidth", "srtt", "loss", "disconnects", "last_packet", "timeout",
            ] {
                #expect(metrics.contains("\(name){tunnel=\"link1\"} "), "\(name)")
            }
            #expect(metrics.contains("connected{tunnel=\"link1\"} 1\n"))
            #expect(metrics.contains("waitingpeer{tunnel=\"link2\"} 1\n"))
            #expect(metrics.contains("\nlast_reload") && metrics.contains("uptime "))
            #expect(try !bed.rig.succeeds(["curl", "-sf", "http://127.0.0.1:1040/nothing"], in: bed.server))

            // The sockets follow the definition.
            try bed.daemon.admin("set-tunnel", "acme", "--no-control-bind-port", "--no-control-bind-host")
            try waitUntil("the port to be closed", within: .seconds(10)) { () throws(RigError) -> Bool in
                try !bed.rig.succeeds(["curl", "-sf", "http://127.0.0.1:1040/status"], in: bed.server)
            }
        }
    }

    // MARK: The API on TCP

    /// A concentrator with the API on TCP, and its token.
    private func withAPI(tls: Bool, _ body: (TunnelBed, _ token: String, _ directory: String) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("mlvpn-api-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        func shell(_ script: String) throws -> String {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            process.arguments = ["-c", script]
            process.currentDirectoryURL = URL(fileURLWithPath: directory)
            let output = Pipe()
            process.standardOutput = output
            process.standardError = FileHandle.nullDevice
            try process.run()
            let data = output.fileHandleForReading.readDataToEndOfFile()
            process.waitUntilExit()
            try #require(process.terminationStatus == 0, "\(script)")
            return String(decoding: data, as: UTF8.self)
        }
        let token = try shell(
            "'\(try TunnelBed.programs)/mlvpn-admin' new-token prometheus --file '\(directory)/tokens'"
        )
        .trimmingCharacters(in: .newlines)
        #expect(!(try String(contentsOfFile: directory + "/tokens", encoding: .utf8)).contains(token))
        var config = "api_listen = 127.0.0.1:8480\napi_token_file = \(directory)/tokens\n"
        if tls {
            _ = try shell(
                """
                openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=concentrator \
                -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem && chmod 600 key.pem
                """)
            config += "api_tls_certificate = \(directory)/cert.pem\napi_tls_key = \(directory)/key.pem\n"
        }
        try config.write(toFile: directory + "/mlvpnd.conf", atomically: false, encoding: .utf8)
        try TunnelBed.with(flags: ["--config", directory + "/mlvpnd.conf"]) { bed in
            try waitUntil("the port", within: .seconds(10)) { () throws(RigError) -> Bool in
                try bed.rig.run(["ss", "-ltn"], in: bed.server).contains("127.0.0.1:8480")
            }
            try body(bed, token, directory)
        }
    }

    @Test func onTCPATokenAndTLSAreAskedFor() throws {
        try withAPI(tls: true) { bed, token, directory in
            func expect(_ code: String, _ arguments: String...) throws {
                let output = try bed.rig.run(
                    ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}\n", "--cacert", directory + "/cert.pem"]
                        + arguments, in: bed.server
                )
                #expect(output.hasSuffix(code + "\n"), "\(arguments): \(output)")
            }
            let url = "https://127.0.0.1:8480/v1/tunnels"
            try expect("401", url)
            try expect("401", "-H", "Authorization: Bearer wrong", url)
            try expect("401", "-H", "Authorization: Basic \(token)", url)
            try expect("200", "-H", "Authorization: Bearer \(token)", url)
            try expect("200", "-H", "Authorization: Bearer \(token)", "https://127.0.0.1:8480/v1/openapi.json")
            // Without TLS there is nothing to talk to, nor with one that is too old.
            #expect(try !bed.rig.succeeds(["curl", "-s", "http://127.0.0.1:8480/v1/tunnels"], in: bed.server))
            #expect(
                try !bed.rig.succeeds(
                    ["curl", "-s", "--tls-max", "1.1", "--cacert", directory + "/cert.pem", url], in: bed.server))
            // A change made with a token is recorded with its name.
            let body = #"{"name": "acme", "password": "x", "links": ["l,bind=:6000"]}"#
            try expect("201", "-H", "Authorization: Bearer \(token)", "--data", body, url)
            #expect(try bed.daemon.admin("audit").contains("token prometheus"))
            #expect(!bed.daemon.process.output.contains(token))
        }
    }

    /// Debian's Prometheus with the configuration of deploy/prometheus.
    @Test func prometheusScrapesWhatDeployOffers() throws {
        let source = Self.checkout + "/deploy/prometheus"
        try withAPI(tls: false) { bed, token, _ in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            _ = try bed.startClient("acme", in: customer, wires: [1])
            try bed.waitForPing("10.78.0.1", from: customer)

            let directory = "\(bed.rig.directory)/prometheus"
            try bed.rig.run(["cp", "-r", source, directory])
            _ = try bed.rig.file("prometheus/mlvpn.token", token)
            try bed.rig.run(["sed", "-i", "s/: 15s/: 1s/", "\(directory)/prometheus.yml"])
            try bed.rig.run(["promtool", "check", "config", "\(directory)/prometheus.yml"])
            try bed.rig.run(["promtool", "check", "rules", "\(directory)/mlvpn.rules.yml"])
            try bed.rig.run(["promtool", "test", "rules", "\(directory)/mlvpn.rules.test.yml"])
            try bed.rig.run(
                [
                    "sh", "-c",
                    "curl -sf -H 'Authorization: Bearer \(token)' http://127.0.0.1:8480/metrics | promtool check metrics",
                ], in: bed.server)

            let prometheus = try bed.rig.start(
                [
                    "prometheus", "--config.file=\(directory)/prometheus.yml", "--storage.tsdb.path=\(directory)/data",
                    "--web.listen-address=127.0.0.1:9099",
                ], in: bed.server)
            /// The value of an expression's first series; nil without one.
            func value(_ expression: String) throws(RigError) -> String? {
                let answer = try? bed.rig.run(
                    [
                        "curl", "-sf", "--data-urlencode", "query=\(expression)", "http://127.0.0.1:9099/api/v1/query",
                    ], in: bed.server)
                guard let answer, let whole = try? object(answer), let data = whole["data"] as? [String: Any],
                    let result = data["result"] as? [[String: Any]], let pair = result.first?["value"] as? [Any]
                else { return nil }
                return pair.last as? String
            }
            for (expression, expected) in [
                ("up{job=\"mlvpn\"}", "1"), ("mlvpn_tunnel_up{tunnel=\"acme\"}", "1"),
                ("mlvpn_link_state{tunnel=\"acme\",link=\"link1\",state=\"up\"}", "1"),
                ("mlvpn:tunnel_links_up:ratio > bool 0", "1"), ("count(mlvpn:engine_busy:ratio)", "1"),
                ("count(mlvpn_engine_heartbeat_timestamp_seconds > time() - 20)", "1"),
                ("count(ALERTS{alertname=\"MlvpnUnreachable\"}) or vector(0)", "0"),
            ] {
                try waitUntil("\(expression) to be \(expected)", within: .seconds(30)) { () throws(RigError) -> Bool in
                    try value(expression) == expected
                }
            }
            // Every panel of the dashboard asks something that Prometheus understands, of metrics that there are.
            let dashboard = try String(contentsOfFile: "\(directory)/grafana-dashboard.json", encoding: .utf8)
            let panels = try #require(try object(dashboard)["panels"] as? [[String: Any]])
            let expressions = panels.flatMap { $0["targets"] as? [[String: Any]] ?? [] }.compactMap {
                $0["expr"] as? String
            }
            #expect(expressions.count > 20)
            let metrics = try bed.rig.run(
                ["curl", "-sf", "-H", "Authorization: Bearer \(token)", "http://127.0.0.1:8480/metrics"], in: bed.server
            )
            for expression in expressions {
                for name in expression.matches(of: /mlvpn_[a-z_]+/) {
                    #expect(metrics.contains("# TYPE \(name.output) "), "\(name.output)")
                }
                let query =
                    expression.replacingOccurrences(of: "$instance", with: "127.0.0.1:8480")
                    .replacingOccurrences(of: "$tunnel", with: ".*").replacingOccurrences(
                        of: "$__rate_interval", with: "1m")
                let answer = try bed.rig.run(
                    ["curl", "-s", "--data-urlencode", "query=\(query)", "http://127.0.0.1:9099/api/v1/query"],
                    in: bed.server)
                #expect(answer.contains("\"status\":\"success\""), "\(query): \(answer)")
            }
            prometheus.stop()
        }
    }
}
