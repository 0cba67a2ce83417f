import Foundation
import Testing
import TunnelTestKit

/// Many customers at once, and an administrator who does everything there is to do, in any order.
@Suite(.serialized) struct OperationsSoakTests {
    private static let tunnels = 8
    private static let others = 3

    private func network(_ tunnel: Int) -> String { "10.80.\(tunnel)" }

    private func port(_ tunnel: Int, wire: Int) -> Int { 6000 + tunnel * 10 + wire }

    private func define(_ tunnel: Int, at bed: TunnelBed) throws {
        let password = try bed.rig.file("soak-password", TunnelBed.password)
        try bed.daemon.admin(
            ["add-tunnel", "t\(tunnel)", "--password-file", password, "--ip4", "\(network(tunnel)).1/24"]
                + [1, 2].flatMap { wire in
                    ["--link", "link\(wire),bind=\(TunnelBed.serverWire(wire)):\(port(tunnel, wire: wire))"]
                })
    }

    @Test func randomChangesLoseNoPacketOfAnyTunnelThatMustNotNotice() throws {
        let given = ProcessInfo.processInfo.environment["MLVPN_TEST_SEED"].flatMap { UInt64($0) }
        let seed = given ?? .random(in: 1...999_999)
        print("MLVPN_TEST_SEED=\(seed)")
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1, 2])
            for tunnel in 0..<Self.tunnels {
                try define(tunnel, at: bed)
                _ = try bed.startClient(
                    "t\(tunnel)", in: customer, wires: [1, 2], address: "\(network(tunnel)).2/24",
                    interface: "client\(tunnel)"
                ) { wire in
                    """
                    bindhost = "\(TunnelBed.customerWire(wire))"
                    remotehost = "\(TunnelBed.serverWire(wire))"
                    remoteport = \(port(tunnel, wire: wire))
                    """
                }
            }
            for tunnel in 0..<Self.tunnels { try bed.waitForLinks("t\(tunnel)", ["link1": "up", "link2": "up"]) }
            let streams = try NumberedStreams(
                between: bed.server, and: customer, of: bed,
                pairs: (0..<Self.tunnels).map {
                    ("\(network($0)).1", "\(network($0)).2")
                })
            var changes = SoakChanges(seed: seed, tunnels: Self.tunnels, others: Self.others)
            for _ in 0..<40 {
                switch changes.next() {
                case .command(let words): try bed.daemon.admin(words.split(separator: " ").map(String.init))
                case .define(let tunnel): try define(tunnel, at: bed)
                case .signal: bed.daemon.process.signal(SIGHUP)
                }
            }
            let log = "seed \(seed): \(changes.log)"
            for result in try streams.results() {
                #expect(result.lost == [], "\(log)")
                #expect(result.sent.allSatisfy { $0 > 100 }, "\(result.sent)")
            }
        }
    }
}

/// Random changes: of tunnels with traffic what may not disturb it, of others everything.
private struct SoakChanges {
    enum Change {
        /// Of mlvpn-admin, in words.
        case command(String)
        case define(Int)
        case signal
    }

    private var random: SeededGenerator
    private let tunnels: Int
    private let others: Int
    private var defined: Set<Int> = []
    private var waiting: [String] = []
    private(set) var log: [Change] = []

    init(seed: UInt64, tunnels: Int, others: Int) {
        random = SeededGenerator(seed: seed)
        self.tunnels = tunnels
        self.others = others
    }

    mutating func next() -> Change {
        let change = waiting.isEmpty ? choose() : .command(waiting.removeFirst())
        log.append(change)
        return change
    }

    private mutating func choose() -> Change {
        switch Int.random(in: 0..<20, using: &random) {
        case ..<8: return .command(inPlace(Int.random(in: 0..<tunnels, using: &random)))
        case ..<17:
            let tunnel = tunnels + Int.random(in: 0..<others, using: &random)
            guard defined.contains(tunnel) else {
                defined.insert(tunnel)
                return .define(tunnel)
            }
            switch Int.random(in: 0..<6, using: &random) {
            case 0:
                waiting = ["enable t\(tunnel)"]
                return .command("disable t\(tunnel)")
            case 1: return .command("set-link t\(tunnel) link2,bind=:\(7000 + Int.random(in: 0..<900, using: &random))")
            case 2, 3: return .command(inPlace(tunnel))
            default:
                defined.remove(tunnel)
                return .command("remove-tunnel t\(tunnel)")
            }
        case 17: return .signal
        case 18: return .command("reload")
        default: return .command("reload t\(Int.random(in: 0..<tunnels, using: &random))")
        }
    }

    private mutating func inPlace(_ tunnel: Int) -> String {
        let name = "t\(tunnel)"
        let number = Int.random(in: 20..<60, using: &random)
        switch Int.random(in: 0..<10, using: &random) {
        case 0: return "set-tunnel \(name) --timeout \(number)"
        case 1: return "set-tunnel \(name) --loss-tolerance \(number) --latency-tolerance 900"
        case 2: return "set-tunnel \(name) --scheduler \(["wrr", "adaptive", "failover"][number % 3])"
        case 3: return "set-tunnel \(name) --reorder \(["auto", "off", "64"][number % 3])"
        case 4: return "set-tunnel \(name) --route 10.\(100 + tunnel).\(number).0/24"
        case 5: return "set-link \(name) link1,bandwidth=\(number)mbit"
        case 6: return "set-link \(name) link2,fallback=\(number % 2 == 0 ? "yes" : "no")"
        case 7: return "set-link \(name) link1,limit=\(number % 2 == 0 ? "100mbit" : "none")"
        case 8: return number % 2 == 0 ? "set-filters \(name) --filter link2=udp" : "set-filters \(name)"
        default:
            waiting = ["remove-link \(name) spare"]
            return "add-link \(name) spare,bind=:\(8000 + tunnel)"
        }
    }
}
