import Foundation
import TunnelTestKit

/// This project: `mlvpnd` with one tunnel at the server's end, `mlvpn -c` at the client's.
public struct Concentrator: Peer {
    public let name: String
    public var bonds: Bool { true }
    private let directory: String
    private let scheduler: String?
    private let isCleartext: Bool

    /// - Parameters:
    ///   - directory: where the executables are.
    ///   - scheduler: nil for the default.
    ///   - isCleartext: leave the customer's packets unencrypted.
    public init(
        directory: String, scheduler: String? = nil, isCleartext: Bool = false, name: String = "concentrator"
    ) {
        self.isCleartext = isCleartext
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
    ///
    /// - Parameter bandwidths: of links, in bytes per second, where they are told.
    public func startServer(at site: Site, links: [Int], bandwidths: [Int: Int] = [:]) throws -> RunningProcess {
        // A second start at the same site begins with an empty database.
        try site.rig.run(["rm", "-rf", "\(site.rig.directory)/\(name)-state", "\(site.rig.directory)/\(name)-run"])
        let daemon = try Daemon(in: site.rig, site.server, programs: directory, name: name)
        let password = try site.rig.file("\(name)-password", MLVPNConfiguration.password)
        var add = [
            "add-tunnel", "bench", "--interface", "mlvpn0", "--password-file", password,
            "--ip4", "\(site.serverAddress)/24", "--mtu", "\(site.mtu)", "--timeout", "10",
        ]
        if let scheduler { add += ["--scheduler", scheduler] }
        if isCleartext { add.append("--cleartext-data") }
        for link in links {
            let bandwidth = bandwidths[link].map { ",bandwidth=\($0)" } ?? ""
            add += ["--link", "link\(link),bind=\(Site.serverWire(link)):\(5080 + link)\(bandwidth)"]
        }
        try daemon.admin(add)
        return daemon.process
    }

    public func startClient(at site: Site, links: [Int], bandwidths: [Int: Int] = [:]) throws -> RunningProcess {
        let configuration = try site.rig.file(
            "\(name)-client.conf",
            MLVPNConfiguration.text(
                .client, site: site, links: links, bandwidths: bandwidths,
                extra: (scheduler.map { "scheduler = \"\($0)\"\n" } ?? "")
                    + (isCleartext ? "cleartext_data = 1" : "")))
        return try site.rig.start(
            ["\(directory)/mlvpn", "--debug", "-n", "bench", "-c", configuration, "-u", "mlvpn"], in: site.client)
    }
}
