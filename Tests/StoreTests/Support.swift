import Foundation
import GRDB
import TunnelModel

@testable import Store

/// A directory of its own, gone with the value.
final class ScratchDirectory {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("store-\(UUID())").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    var database: String { path + "/mlvpn.db" }
}

func name(_ text: String) throws -> TunnelName { try TunnelName(text) }

func makeTunnel(_ name: String = "acme", port: UInt16 = 5080, links: [String] = ["adsl1"]) throws -> TunnelDefinition {
    var tunnel = TunnelDefinition(
        name: try TunnelName(name), mode: .server, interface: try InterfaceName("ml\(name)".prefix(15).description),
        password: try Password(Array("secret of \(name)".utf8)))
    for (index, link) in links.enumerated() {
        tunnel.links.append(try LinkSpec("\(link),bind=127.0.0.1:\(Int(port) + index)").definition)
    }
    return tunnel
}

/// One with every field set to something else than its default.
func makeRichTunnel() throws -> TunnelDefinition {
    var tunnel = try makeTunnel("rich", port: 6000, links: ["adsl1", "lte", "wifi"])
    tunnel.device = .tap
    tunnel.enabled = false
    tunnel.ip4 = try CIDR("10.0.0.1/30", field: "ip4")
    tunnel.ip6 = try CIDR("2001:db8::1/64", field: "ip6")
    tunnel.gateway4 = IPAddress("10.0.0.2")
    tunnel.gateway6 = IPAddress("2001:db8::2")
    tunnel.routes = [try CIDR("10.2.0.0/16", field: "route"), try CIDR("2001:db8:1::/48", field: "route")]
    tunnel.mtu = 1300
    tunnel.timeout = 7
    tunnel.reorder = .packets(64)
    tunnel.lossTolerance = 20
    tunnel.latencyTolerance = 300
    tunnel.scheduler = .failover
    tunnel.cleartextData = true
    tunnel.clampMSS = false
    tunnel.offloads = OffloadSwitches(device: false, udpSegment: false, udpGRO: false)
    tunnel.statusCommand = "/etc/mlvpn/updown.sh"
    tunnel.monitoring = Monitoring(
        unixPath: "/run/mlvpn/rich.sock", bindHost: try Host("::1", field: "host"), bindPort: 1040)
    tunnel.password = try Password([0xff, 0xfe, 0x20, 0x22])
    tunnel.links[0].remote = try HostPort("[2001:db8::9]:4000", field: "remote")
    tunnel.links[0].bind = BindAddress(host: nil, port: 6000)
    tunnel.links[1].bandwidth = .bytesPerSecond(2_500_000)
    tunnel.links[1].limit = 3_000_000
    tunnel.links[1].timeout = 4
    tunnel.links[1].lossTolerance = 5
    tunnel.links[1].latencyTolerance = 60
    tunnel.links[2].fallback = true
    tunnel.filters = [
        try FilterDefinition(spec: "lte+adsl1=udp port 5060"), try FilterDefinition(spec: "wifi=tcp port 22"),
        try FilterDefinition(spec: "lte=icmp"),
    ]
    return tunnel
}

let byTest = Change(uid: 0, action: "test")

extension Store {
    /// What an operator does with the sqlite3 shell.
    func sql(_ statement: String) throws { try pool.write { try $0.execute(sql: statement) } }
}

/// The reason of a failure; nil if there was none, or if it was no error of the store's.
func failure(_ body: () throws -> Void) -> StoreError? {
    do {
        try body()
        return nil
    } catch {
        return error as? StoreError
    }
}

/// SplitMix64: the same numbers for the same seed, everywhere.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}
