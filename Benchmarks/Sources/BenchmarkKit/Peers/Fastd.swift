import Foundation
import TunnelTestKit

/// fastd with its recommended method.
public struct Fastd: Peer {
    public let name: String
    private let program: String

    public init(program: String = "fastd", name: String = "fastd") {
        self.program = program
        self.name = name
    }

    public var obstacle: String? { BenchmarkKit.obstacle(running: program) }

    public func start(at site: Site) throws {
        let server = try keys(site)
        let client = try keys(site)
        let common = """
            mode tun;
            interface "fastd0";
            mtu \(site.mtu);
            method "salsa2012+umac";

            """
        let serverFile = try site.rig.file(
            "\(name)-server.conf",
            common + """
                bind \(Site.serverWire(1)):10000;
                secret "\(server.secret)";
                peer "client" { key "\(client.publicKey)"; }

                """)
        let clientFile = try site.rig.file(
            "\(name)-client.conf",
            common + """
                secret "\(client.secret)";
                peer "server" { key "\(server.publicKey)"; remote \(Site.serverWire(1)):10000; }

                """)
        let processes = [
            try site.rig.start([program, "--config", serverFile], in: site.server),
            try site.rig.start([program, "--config", clientFile], in: site.client),
        ]
        try site.configure("fastd0", in: site.server, address: site.serverAddress)
        try site.configure("fastd0", in: site.client, address: site.clientAddress)
        try site.waitForTunnel(name, processes: processes)
    }

    private func keys(_ site: Site) throws -> (secret: String, publicKey: String) {
        let printed = try site.rig.run([program, "--generate-key"])
        func value(_ title: String) throws -> String {
            for line in printed.split(separator: "\n") where line.hasPrefix(title) {
                return line.dropFirst(title.count).trimmingCharacters(in: .whitespaces)
            }
            throw RigError.unexpected("fastd --generate-key printed no '\(title)': \(printed)")
        }
        return (try value("Secret:"), try value("Public:"))
    }
}
