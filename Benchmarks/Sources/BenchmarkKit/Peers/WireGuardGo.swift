import Foundation
import TunnelTestKit

/// wireguard-go, configured by `wg`.
public struct WireGuardGo: Peer {
    public let name: String
    private let program: String

    public init(program: String = "wireguard-go", name: String = "wireguard-go") {
        self.program = program
        self.name = name
    }

    public var obstacle: String? {
        BenchmarkKit.obstacle(running: program) ?? BenchmarkKit.obstacle(running: "wg")
    }

    public func start(at site: Site) throws {
        // Its control sockets lie in one directory of the machine: the device's name must be unique there.
        let unique = "wg\(getpid() % 1_000_000)\(name.utf8.reduce(0) { ($0 &* 31 &+ Int($1)) & 0xff })"
        let server = try keys("server", site)
        let client = try keys("client", site)
        let devices = [unique + "s", unique + "c"]
        let processes = [
            try site.rig.start([program, "-f", devices[0]], in: site.server),
            try site.rig.start([program, "-f", devices[1]], in: site.client),
        ]
        try site.configure(devices[0], in: site.server, address: site.serverAddress)
        try site.configure(devices[1], in: site.client, address: site.clientAddress)
        for (device, namespace) in zip(devices, [site.server, site.client]) {
            try waitUntil("wireguard-go of \(device)", within: .seconds(10)) { () throws(RigError) -> Bool in
                try site.rig.succeeds(["wg", "show", device], in: namespace)
            }
        }
        try site.rig.run(
            [
                "wg", "set", devices[0], "listen-port", "51820", "private-key", server.file, "peer", client.publicKey,
                "allowed-ips", "\(site.clientAddress)/32",
            ], in: site.server)
        try site.rig.run(
            [
                "wg", "set", devices[1], "private-key", client.file, "peer", server.publicKey,
                "endpoint", "\(Site.serverWire(1)):51820", "allowed-ips", "\(site.serverAddress)/32",
            ], in: site.client)
        try site.waitForTunnel(name, processes: processes)
    }

    private func keys(_ who: String, _ site: Site) throws -> (file: String, publicKey: String) {
        let secret = try site.rig.run(["wg", "genkey"])
        let file = try site.rig.file("\(name)-\(who).key", secret)
        let publicKey = try site.rig.run(["sh", "-c", "wg pubkey < \(file)"])
        return (file, publicKey.trimmingCharacters(in: .whitespacesAndNewlines))
    }
}
