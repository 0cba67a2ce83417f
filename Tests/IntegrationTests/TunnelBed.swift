import Foundation
import Testing
import TunnelTestKit

/// A concentrator and customers in namespaces of their own, joined by wires.
///
/// Wire n (from 1) joins 10.71.n.1 and fd71:n::1 at the server with 10.71.n.2 and fd71:n::2 at its customer.
final class TunnelBed {
    let rig: NetworkRig
    let server: NetworkNamespace
    let daemon: Daemon
    static let password = "a password that no log may show"

    private(set) var lines: [Int: EmulatedLink] = [:]

    static func with(flags: [String] = [], _ body: (TunnelBed) throws -> Void) throws {
        try NetworkRig.with { rig in
            let server = try rig.namespace("server")
            let bed = try TunnelBed(rig, server, flags: flags)
            do {
                try body(bed)
            } catch {
                // What the daemon said is what explains most failures.
                Issue.record("log of mlvpnd:\n\(bed.daemon.process.output.suffix(6000))")
                throw error
            }
            bed.daemon.stop()
            #expect(bed.daemon.process.exitStatus == .exited(0))
            #expect(!bed.daemon.process.output.contains(TunnelBed.password), "a password in the log")
        }
    }

    private init(_ rig: NetworkRig, _ server: NetworkNamespace, flags: [String]) throws {
        self.rig = rig
        self.server = server
        daemon = try Daemon(in: rig, server, programs: TunnelBed.programs, name: "bed", flags: flags)
    }

    /// Where the executables under test are.
    static var programs: String {
        get throws { String(try BuiltProgram.path("mlvpnd").dropLast("/mlvpnd".count)) }
    }

    static func serverWire(_ number: Int) -> String { "10.71.\(number).1" }
    static func customerWire(_ number: Int) -> String { "10.71.\(number).2" }

    /// A namespace for a customer with plain wires to the server.
    func customer(_ name: String, wires: [Int]) throws -> NetworkNamespace {
        let customer = try rig.namespace(name)
        for number in wires {
            let ends = ends(number, customer)
            try rig.wire(ends.server, ends.customer)
        }
        return customer
    }

    /// A namespace for a customer with emulated lines to the server; end a is the server's.
    func customer(_ name: String, lines settings: [Int: String]) throws -> NetworkNamespace {
        let customer = try rig.namespace(name)
        for (number, words) in settings.sorted(by: { $0.key < $1.key }) {
            let ends = ends(number, customer)
            lines[number] = try EmulatedLink(
                in: rig, program: [try BuiltProgram.path("link-emulator")], name: "\(number)", a: ends.server,
                b: ends.customer, ab: words, ba: words, seed: UInt64(number))
        }
        return customer
    }

    private func ends(_ number: Int, _ customer: NetworkNamespace) -> (server: WireEnd, customer: WireEnd) {
        (
            WireEnd(server, "wire\(number)", "\(TunnelBed.serverWire(number))/24", "fd71:\(number)::1/64"),
            WireEnd(customer, "wire\(number)", "\(TunnelBed.customerWire(number))/24", "fd71:\(number)::2/64")
        )
    }

    /// Defines a tunnel with its links bound to the server's ends of the wires.
    func addTunnel(
        _ name: String, wires: [Int], address: String = "10.78.0.1/24", flags: [String] = []
    ) throws {
        let password = try rig.file("\(name)-password", TunnelBed.password + "\n")
        let links = wires.flatMap { ["--link", "link\($0),bind=\(TunnelBed.serverWire($0)):\(5080 + $0)"] }
        try daemon.admin(
            ["add-tunnel", name, "--password-file", password, "--ip4", address, "--timeout", "5"] + links + flags)
    }

    /// Starts a customer's `mlvpn -c`.
    ///
    /// - Parameters:
    ///   - interface: its device.
    ///   - general: further lines of the section general.
    ///   - link: the section of the link on a wire, without its name; nil for the usual.
    func startClient(
        _ name: String, in customer: NetworkNamespace, wires: [Int], address: String = "10.78.0.2/24",
        interface: String = "mlvpn0", general: String = "", link: ((Int) -> String)? = nil
    ) throws -> RunningProcess {
        var text = """
            [general]
            mode = "client"
            interface_name = "\(interface)"
            password = "\(TunnelBed.password)"
            ip4 = "\(address)"
            timeout = 5
            \(general)

            """
        for number in wires {
            let section =
                link?(number) ?? """
                    bindhost = "\(TunnelBed.customerWire(number))"
                    remotehost = "\(TunnelBed.serverWire(number))"
                    remoteport = \(5080 + number)
                    """
            text += "[link\(number)]\n\(section)\n"
        }
        let file = try rig.file("\(name).conf", text)
        return try rig.start(
            ["\(try TunnelBed.programs)/mlvpn", "--debug", "-n", name, "-c", file, "-u", "mlvpn"], in: customer)
    }

    /// Waits until a ping from a namespace is answered.
    func waitForPing(_ address: String, from customer: NetworkNamespace, within limit: Duration = .seconds(20)) throws {
        try waitUntil("a ping of \(address)", within: limit) { () throws(RigError) -> Bool in
            try rig.succeeds(["ping", "-q", "-c1", "-W1", address], in: customer)
        }
    }

    /// What the server's status says of a link.
    struct LinkStatus: Decodable {
        var name: String
        var state: String
        /// Bits per second.
        var rate: Double?

        enum CodingKeys: String, CodingKey {
            case name, state
            case rate = "rate_bps"
        }
    }

    func links(of tunnel: String) throws(RigError) -> [LinkStatus] {
        struct Status: Decodable { var links: [LinkStatus] }
        let answer = try daemon.admin("--json", "status", tunnel)
        guard let status = try? JSONDecoder().decode([Status].self, from: Data(answer.utf8)), let only = status.first
        else {
            throw .unexpected("status is not what it should be: \(answer)")
        }
        return only.links
    }

    /// The states of a tunnel's links by their names.
    func linkStates(_ tunnel: String) throws(RigError) -> [String: String] {
        Dictionary(uniqueKeysWithValues: try links(of: tunnel).map { ($0.name, $0.state) })
    }

    func waitForLinks(_ tunnel: String, _ states: [String: String], within limit: Duration = .seconds(20)) throws {
        try waitUntil("\(tunnel) to be \(states)", within: limit) { () throws(RigError) -> Bool in
            try linkStates(tunnel) == states
        }
    }

    /// The id of the only process of the server's whose executable has a name.
    func pid(of executable: String) throws(RigError) -> pid_t {
        let found = server.processes.filter { pid in
            let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/exe")
            return target?.hasSuffix("/\(executable)") == true
        }
        guard let only = found.first, found.count == 1 else { throw .unexpected("\(executable): \(found)") }
        return only
    }
}
