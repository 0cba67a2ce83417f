import Foundation
import TunnelTestKit

/// OpenVPN over UDP with AES-256-GCM, certificates pinned by fingerprint, without kernel offload.
public struct OpenVPN: Peer {
    public let name: String
    private let program: String

    public init(program: String = "openvpn", name: String = "openvpn") {
        self.program = program
        self.name = name
    }

    public var obstacle: String? {
        BenchmarkKit.obstacle(running: program) ?? BenchmarkKit.obstacle(running: "openssl")
    }

    public func start(at site: Site) throws {
        let server = try identity("server", site)
        let client = try identity("client", site)
        let common = [
            program, "--dev", "ovpn0", "--dev-type", "tun", "--proto", "udp4", "--tun-mtu", "\(site.mtu)",
            "--data-ciphers", "AES-256-GCM", "--cipher", "AES-256-GCM", "--disable-dco", "--ping", "10", "--verb", "3",
        ]
        let processes = [
            try site.rig.start(
                common + [
                    "--local", Site.serverWire(1), "--port", "1194", "--tls-server", "--dh", "none",
                    "--ifconfig", site.serverAddress, site.clientAddress, "--cert", server.certificate,
                    "--key", server.key, "--peer-fingerprint", client.fingerprint,
                ], in: site.server),
            try site.rig.start(
                common + [
                    "--remote", Site.serverWire(1), "1194", "--nobind", "--tls-client",
                    "--ifconfig", site.clientAddress, site.serverAddress, "--cert", client.certificate,
                    "--key", client.key, "--peer-fingerprint", server.fingerprint,
                ], in: site.client),
        ]
        try site.waitForTunnel(name, processes: processes)
    }

    private func identity(_ who: String, _ site: Site) throws -> (certificate: String, key: String, fingerprint: String)
    {
        let base = "\(site.rig.directory)/\(name)-\(who)"
        try site.rig.run([
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "\(base).key", "-out", "\(base).crt", "-days", "2", "-subj", "/CN=\(who)",
        ])
        let printed = try site.rig.run([
            "openssl", "x509", "-in", "\(base).crt", "-noout", "-fingerprint", "-sha256",
        ])
        guard let fingerprint = printed.split(separator: "=").last else {
            throw RigError.unexpected("openssl printed no fingerprint: \(printed)")
        }
        return ("\(base).crt", "\(base).key", fingerprint.trimmingCharacters(in: .whitespacesAndNewlines))
    }
}
