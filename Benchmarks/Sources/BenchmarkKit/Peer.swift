import Foundation
import TunnelTestKit

/// Two namespaces with the wires that a tunnel runs over, and the addresses at its ends.
///
/// Wire n (from 1) joins 10.71.n.1 at the server with 10.71.n.2 at the client.
public struct Site {
    public let rig: NetworkRig
    public let server: NetworkNamespace
    public let client: NetworkNamespace
    public let links: Int
    /// Inside the tunnel.
    public let serverAddress = "10.78.0.1"
    public let clientAddress = "10.78.0.2"
    /// MTU of the tunnel device: the same for all, so that all send as many packets.
    public let mtu = 1400

    /// Namespaces of its own joined by plain veth pairs.
    public init(in rig: NetworkRig, name: String, links: Int) throws {
        try self.init(in: rig, name: name, links: links) { number, server, client in
            try rig.wire(server, client)
        }
    }

    /// Namespaces joined by whatever `lay` makes of link number n and its two ends.
    public init(
        in rig: NetworkRig, name: String, links: Int, lay: (Int, WireEnd, WireEnd) throws -> Void
    ) throws {
        self.rig = rig
        self.links = links
        server = try rig.namespace("\(name)-server")
        client = try rig.namespace("\(name)-client")
        // A connection is not to start from what another over other lines found out about the same address.
        for end in [server, client] { try rig.run(["sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1"], in: end) }
        for number in 1...links {
            try lay(
                number, WireEnd(server, "wire\(number)", "\(Site.serverWire(number))/24"),
                WireEnd(client, "wire\(number)", "\(Site.clientWire(number))/24"))
        }
    }

    public static func serverWire(_ number: Int) -> String { "10.71.\(number).1" }
    public static func clientWire(_ number: Int) -> String { "10.71.\(number).2" }

    /// Waits until the tunnel carries pings.
    public func waitForTunnel(_ name: String, processes: [RunningProcess]) throws {
        try waitUntil("a ping through \(name)", within: .seconds(30)) { () throws(RigError) -> Bool in
            for process in processes {
                if let status = process.exitStatus {
                    throw .commandFailed(
                        command: process.command.joined(separator: " "), status: status, output: process.output)
                }
            }
            return try rig.succeeds(["ping", "-q", "-c1", "-W1", serverAddress], in: client)
        }
    }

    /// Gives a tunnel device its MTU and address, as soon as it exists.
    public func configure(_ device: String, in namespace: NetworkNamespace, address: String) throws {
        try waitUntil("device \(device)", within: .seconds(10)) { () throws(RigError) -> Bool in
            try rig.succeeds(["ip", "-n", namespace.name, "link", "show", "dev", device])
        }
        try rig.ip(namespace, "address", "replace", "\(address)/24", "dev", device)
        try rig.ip(namespace, "link", "set", "dev", device, "mtu", "\(mtu)", "up")
    }
}

/// A tunnel program that can be measured: it lays a tunnel between the two ends of a site.
public protocol Peer {
    /// For tables and file names: lower case, no spaces.
    var name: String { get }
    /// Whether it uses more than the first wire.
    var bonds: Bool { get }
    /// Why it cannot run on this machine; nil if it can.
    var obstacle: String? { get }
    /// Starts both ends and returns when the tunnel carries packets.
    func start(at site: Site) throws
}

extension Peer {
    public var bonds: Bool { false }
}

/// Why a program cannot be run: nil if it is there.
public func obstacle(running program: String) -> String? {
    var candidates = [program]
    if !program.contains("/") {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        candidates = path.split(separator: ":").map { "\($0)/\(program)" }
    }
    return candidates.contains { access($0, X_OK) == 0 } ? nil : "\(program) is not installed"
}
