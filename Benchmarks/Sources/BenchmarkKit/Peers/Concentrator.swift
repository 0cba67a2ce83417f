import Foundation
import TunnelTestKit

/// This project: `mlvpnd` with one tunnel at the server's end, `mlvpn -c` at the client's.
public struct Concentrator: Peer {
    public let name: String
    public var bonds: Bool { true }
    private let directory: String
    private let scheduler: String?

    /// - Parameters:
    ///   - directory: where the executables are.
    ///   - scheduler: nil for the default.
    public init(directory: String, scheduler: String? = nil, name: String = "concentrator") {
        self.directory = directory
        self.scheduler = scheduler
        self.name = name
    }

    public var obstacle: String? {
        for program in ["mlvpnd", "mlvpn-engine", "mlvpn-control", "mlvpn-admin", "mlvpn"] {
            if BenchmarkKit.obstacle(running: "\(directory)/\(program)") != nil {
                return "\(directory)/\(program) is not built"
            }
        }
        return nil
    }

    public func start(at site: Site) throws {
        let links = Array(1...site.links)
        let processes = [try startServer(at: site, links: links), try startClient(at: site, links: links)]
        try site.waitForTunnel(name, processes: processes)
    }

    /// Starts the daemon and defines the tunnel over the given wires.
    public func startServer(at site: Site, links: [Int], extra: [String] = []) throws -> RunningProcess {
        let state = "\(site.rig.directory)/\(name)-state"
        let run = "\(site.rig.directory)/\(name)-run"
        let daemon = try site.rig.start(
            ["\(directory)/mlvpnd", "--foreground", "--state-dir", state, "--run-dir", run], in: site.server)
        let admin = ["\(directory)/mlvpn-admin", "--socket", "\(run)/control.sock"]
        try waitUntil("mlvpnd", within: .seconds(20)) { () throws(RigError) -> Bool in
            if let status = daemon.exitStatus {
                throw .commandFailed(command: "mlvpnd", status: status, output: daemon.output)
            }
            return try site.rig.succeeds(admin + ["list"])
        }
        let password = try site.rig.file("\(name)-password", MLVPNConfiguration.password)
        var add = admin + [
            "add-tunnel", "bench", "--interface", "mlvpn0", "--password-file", password,
            "--ip4", "\(site.serverAddress)/24", "--mtu", "\(site.mtu)", "--timeout", "10",
        ]
        if let scheduler { add += ["--scheduler", scheduler] }
        for link in links {
            add += ["--link", "link\(link),bind=\(Site.serverWire(link)):\(5080 + link)"]
        }
        try site.rig.run(add + extra)
        return daemon
    }

    public func startClient(at site: Site, links: [Int], extra: String = "") throws -> RunningProcess {
        let configuration = try site.rig.file(
            "\(name)-client.conf",
            MLVPNConfiguration.text(
                .client, site: site, links: links,
                extra: scheduler.map { "scheduler = \"\($0)\"\n\(extra)" } ?? extra))
        return try site.rig.start(
            ["\(directory)/mlvpn", "--debug", "-n", "bench", "-c", configuration, "-u", "mlvpn"], in: site.client)
    }

    /// What `mlvpn-admin` answers.
    public func admin(_ arguments: [String], at site: Site) throws -> String {
        try site.rig.run(
            ["\(directory)/mlvpn-admin", "--socket", "\(site.rig.directory)/\(name)-run/control.sock"] + arguments)
    }
}
