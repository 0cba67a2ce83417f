import BenchmarkKit
import Foundation
import TunnelTestKit

extension Plan {
    /// The mlvpn.conf of one end of a tunnel.
    static func configuration(_ number: Int, isServer: Bool) -> String {
        var text = """
            [general]
            mode = "\(isServer ? "server" : "client")"
            interface_name = "\(isServer ? "scale" : "client")\(number)"
            password = "\(password(number))"
            ip4 = "\(Plan.text(inner(number) + (isServer ? 1 : 2)))/30"
            timeout = 10

            """
        for link in 1...2 {
            let port = port(tunnel: number, link: link)
            text += "[link\(link)]\n"
            text +=
                isServer
                ? "bindhost = \"\(Site.serverWire(link))\"\nbindport = \(port)\n"
                : "bindhost = \"\(Site.clientWire(link))\"\nremotehost = \"\(Site.serverWire(link))\"\nremoteport = \(port)\n"
        }
        return text
    }
}

extension Daemon {
    /// Defines the first tunnels of the plan, from files as MLVPN has them.
    func importTunnels(_ count: Int, isServer: Bool = true, rig: NetworkRig) throws {
        let ending = isServer ? "" : "-client"
        let files = try (0..<count).map { number in
            try rig.file("t\(number)\(ending).conf", Plan.configuration(number, isServer: isServer))
        }
        for start in stride(from: 0, to: count, by: 250) {
            try admin(["import"] + files[start..<min(start + 250, count)], within: .seconds(600))
        }
    }
}

/// The directory of the executables, which are all there.
func executables(_ programs: String) throws -> String {
    let directory = URL(fileURLWithPath: programs).standardizedFileURL.path
    if let obstacle = Concentrator(directory: directory).obstacle { throw RigError.unexpected(obstacle) }
    return directory
}
