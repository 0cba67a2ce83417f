import Foundation
import TunnelTestKit

/// MLVPN's C implementation.
public struct StockMLVPN: Peer {
    public let name: String
    public var bonds: Bool { true }
    private let program: String
    private let user: String

    /// - Parameter user: whom it drops its privileges to; it makes that user's home its root directory.
    public init(program: String, user: String, name: String = "mlvpn") {
        self.program = program
        self.user = user
        self.name = name
    }

    public var obstacle: String? {
        if let missing = BenchmarkKit.obstacle(running: program) { return missing }
        return getpwnam(user) == nil ? "the user \(user) does not exist" : nil
    }

    public func start(at site: Site) throws {
        let processes = [
            try startEnd(.server, at: site, links: Array(1...site.links)),
            try startEnd(.client, at: site, links: Array(1...site.links)),
        ]
        try site.waitForTunnel(name, processes: processes)
    }

    public enum End: String {
        case server
        case client
    }

    /// Starts one end with the given wires, each with its weight in bytes per second if one is known.
    public func startEnd(
        _ end: End, at site: Site, links: [Int], bandwidths: [Int: Int] = [:], extra: String = ""
    ) throws -> RunningProcess {
        let script = try site.rig.file(
            "\(name)-updown",
            """
            #!/bin/sh
            [ "$2" = tuntap_up ] && ip address replace "$IP4" dev "$1" && ip link set dev "$1" mtu "$MTU" up
            exit 0

            """, mode: 0o700)
        let configuration = try site.rig.file(
            "\(name)-\(end.rawValue).conf",
            MLVPNConfiguration.text(
                end, site: site, links: links, bandwidths: bandwidths,
                extra: "statuscommand = \"\(script)\"\nreorder_buffer_size = 64\n\(extra)"))
        return try site.rig.start(
            [program, "--debug", "-n", "\(name)-\(end.rawValue)", "-c", configuration, "-u", user],
            in: end == .server ? site.server : site.client)
    }
}

/// The mlvpn.conf of one end of a site's tunnel.
enum MLVPNConfiguration {
    static let password = "the benchmark's shared secret"

    static func text(
        _ end: StockMLVPN.End, site: Site, links: [Int], bandwidths: [Int: Int] = [:], extra: String = ""
    ) -> String {
        var text = """
            [general]
            mode = "\(end.rawValue)"
            interface_name = "mlvpn0"
            password = "\(password)"
            ip4 = "\(end == .server ? site.serverAddress : site.clientAddress)/24"
            mtu = \(site.mtu)
            timeout = 10
            \(extra)

            """
        for link in links {
            text += "[link\(link)]\n"
            text +=
                end == .server
                ? "bindhost = \"\(Site.serverWire(link))\"\nbindport = \"\(5080 + link)\"\n"
                : """
                bindhost = "\(Site.clientWire(link))"
                remotehost = "\(Site.serverWire(link))"
                remoteport = "\(5080 + link)"

                """
            if let bandwidth = bandwidths[link] {
                text += "bandwidth_upload = \(bandwidth)\n"
            }
        }
        return text
    }
}
