import BenchmarkKit
import Foundation
import StockClients
import TunnelTestKit

/// Random changes of a stage's tunnels, one after the other.
struct Changes {
    let stage: Stage
    private var random: SeededGenerator
    /// What was done: its kind, and from when to when.
    private(set) var log: [(kind: String, from: Int64, to: Int64)] = []
    /// Others that are defined.
    private var present: Set<Int>
    private var withSpareLink: Set<Int> = []
    private var disabled: Set<Int> = []

    init(_ stage: Stage, seed: UInt64) {
        self.stage = stage
        random = SeededGenerator(seed: seed)
        present = Set(stage.shape.tunnels..<stage.shape.tunnels + stage.shape.others)
    }

    mutating func make() throws {
        let from = StockClients.now()
        let kind = try change()
        log.append((kind, from, StockClients.now()))
    }

    private mutating func change() throws -> String {
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<35:
            return "in place: " + (try changeInPlace(Int.random(in: 0..<stage.shape.tunnels, using: &random)))
        case 35..<88 where stage.shape.others > 0: return "other: " + (try changeOther())
        case ..<94:
            try stage.api.send("POST", "/v1/reload", "{}")
            return "reload of all"
        case ..<97:
            stage.daemon.process.signal(SIGHUP)
            return "SIGHUP"
        default:
            let name = Plan.name(Int.random(in: 0..<stage.shape.tunnels, using: &random))
            try stage.api.send("POST", "/v1/reload", "{\"tunnels\":[\"\(name)\"]}")
            return "reload of one"
        }
    }

    private mutating func changeOther() throws -> String {
        let (first, end) = (stage.shape.tunnels, stage.shape.tunnels + stage.shape.others)
        let tunnel = Int.random(in: first..<end, using: &random)
        let target = "/v1/tunnels/\(Plan.name(tunnel))"
        guard present.contains(tunnel) else {
            try stage.add(tunnel)
            present.insert(tunnel)
            return "add"
        }
        switch Int.random(in: 0..<100, using: &random) {
        case ..<40:
            try stage.api.send("DELETE", target)
            present.remove(tunnel)
            withSpareLink.remove(tunnel)
            disabled.remove(tunnel)
            return "remove"
        case ..<65: return try changeInPlace(tunnel)
        case ..<75:
            for port in [Plan.sparePort(tunnel), Plan.port(tunnel, link: 2)] {
                try stage.api.send(
                    "PATCH", "\(target)/links/link2", "{\"bind\":\"\(Site.serverWire(2)):\(port)\"}")
            }
            return "endpoint, there and back"
        case ..<85:
            for password in ["another", Plan.password(tunnel)] {
                try stage.api.send("PATCH", target, "{\"password\":\"\(password)\"}")
            }
            return "password, there and back"
        default:
            let isDisabled = disabled.contains(tunnel)
            try stage.api.send("POST", "\(target)/\(isDisabled ? "enable" : "disable")")
            if isDisabled { disabled.remove(tunnel) } else { disabled.insert(tunnel) }
            return isDisabled ? "enable" : "disable"
        }
    }

    /// A change that no packet of the tunnel itself may notice.
    private mutating func changeInPlace(_ tunnel: Int) throws -> String {
        let name = Plan.name(tunnel)
        let target = "/v1/tunnels/\(name)"
        func set(_ field: String, _ values: [String]) throws -> String {
            let value = values.randomElement(using: &random) ?? "null"
            try stage.api.send("PATCH", target, "{\"\(field)\":\(value)}")
            return field
        }
        func setLink(_ link: Int, _ field: String, _ values: [String]) throws -> String {
            let value = values.randomElement(using: &random) ?? "null"
            try stage.api.send("PATCH", "\(target)/links/link\(link)", "{\"\(field)\":\(value)}")
            return "link's \(field)"
        }
        switch Int.random(in: 0..<14, using: &random) {
        case 0: return try set("timeout", ["20", "25", "30"])
        case 1: return try set("loss_tolerance", ["40", "70", "100"])
        case 2: return try set("latency_tolerance", ["500", "800", "1000"])
        case 3: return try set("scheduler", ["\"wrr\"", "\"adaptive\"", "\"failover\""])
        case 4: return try set("route", ["[]", "[\"10.\(100 + tunnel % 100).0.0/16\"]"])
        case 5: return try set("reorder", ["\"auto\"", "\"off\"", "\"64\""])
        case 6: return try setLink(1, "bandwidth", ["\"auto\"", "\"20mbit\"", "\"5mbit\""])
        case 7: return try setLink(2, "fallback", ["true", "false"])
        case 8: return try setLink(2, "limit", ["\"none\"", "\"100mbit\""])
        case 9: return try setLink(1, "loss_tolerance", ["30", "90"])
        case 10:
            let filters = ["[]", "[\"link1=icmp\"]", "[\"link2=udp\"]", "[\"link1=udp\"]"]
            try stage.api.send("PUT", "\(target)/filters", filters.randomElement(using: &random) ?? "[]")
            return "filters"
        case 11:
            if withSpareLink.contains(tunnel) {
                try stage.api.send("DELETE", "\(target)/links/spare")
                withSpareLink.remove(tunnel)
                return "remove a link that nobody uses"
            }
            let bind = "\(Site.serverWire(1)):\(Plan.sparePort(tunnel))"
            try stage.api.send("POST", "\(target)/links", "\"spare,bind=\(bind)\"")
            withSpareLink.insert(tunnel)
            return "add a link"
        case 12:
            try stage.api.send("PATCH", target, "{\"name\":\"renamed\"}")
            try stage.api.send("PATCH", "/v1/tunnels/renamed", "{\"name\":\"\(name)\"}")
            return "name, there and back"
        default:
            let seconds = Int.random(in: 20...40, using: &random)
            try stage.rig.run([
                "sqlite3", "\(stage.daemon.stateDirectory)/mlvpn.db",
                "PRAGMA busy_timeout = 5000; UPDATE tunnels SET timeout = \(seconds) WHERE name = '\(name)'",
            ])
            try stage.api.send("POST", "/v1/reload", "{\"tunnels\":[\"\(name)\"]}")
            return "SQL and reload"
        }
    }

    /// What was going on at a time.
    func activity(at time: Int64) -> String {
        guard let last = log.last(where: { $0.from <= time + 5_000_000 }) else { return "before the first change" }
        return "\(String(format: "%.1f", Double(time - last.from) / 1e6)) ms after the beginning of '\(last.kind)'"
    }
}
