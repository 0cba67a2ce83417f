import Foundation
import Testing
import TunnelTestKit

/// Peers that know version 1 of the protocol and none of its extensions, as routers in the field do: one that was written
/// from its description alone, in another language (`v1_peer.py`).
@Suite(.serialized) struct VersionOneTests {
    /// What it has received.
    private struct Found: Decodable {
        var data: Int
        /// Of these, those that ask to be put in order, and those that have a number for it.
        var ordered: Int
        var numbered: Int
        /// DATA that came in clear.
        var clear: Int
        var refused: Int
        var up: Int
        var downs: Int
        var otherVersions: Int
        /// Datagrams with a nonce that another had.
        var repeated: Int
    }

    private static let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/v1_peer.py"

    private func start(
        _ bed: TunnelBed, _ role: String, in namespace: NetworkNamespace, kind: String = "tun", address: String,
        isClear: Bool = false, password: String = TunnelBed.password, links: [String]
    ) throws -> RunningProcess {
        try bed.rig.start(
            [
                "python3", "-u", Self.script, role, "v1", kind, address, password, isClear ? "1" : "0",
            ] + links, in: namespace)
    }

    /// Ends it; what it says then.
    private func found(_ peer: RunningProcess) throws -> Found {
        peer.signal(SIGTERM)
        _ = try peer.waitForExit(within: .seconds(10))
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let line = peer.output.split(separator: "\n").last { $0.hasPrefix("{") } ?? ""
        return try decoder.decode(Found.self, from: Data(line.utf8))
    }

    private func clientLinks(_ wires: [Int]) -> [String] {
        wires.map { "\(TunnelBed.customerWire($0)):0=\(TunnelBed.serverWire($0)):\(5080 + $0)" }
    }

    /// Such a peer's reorder buffer leaks a place for each packet that comes late, and then stalls: what goes to it is
    /// brought into order on the way, and asks for none.
    @Test(arguments: [("tun", false), ("tun", true), ("tap", false)])
    func aClientIsServed(kind: String, isClear: Bool) throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1, 2])
            let flags = (kind == "tap" ? ["--tap"] : []) + (isClear ? ["--cleartext-data"] : [])
            try bed.addTunnel("acme", wires: [1, 2], flags: flags)
            let peer = try start(
                bed, "client", in: customer, kind: kind, address: "10.78.0.2/24", isClear: isClear,
                links: clientLinks([1, 2]))
            try bed.waitForLinks("acme", ["link1": "up", "link2": "up"], within: .seconds(10))
            try bed.waitForPing("10.78.0.1", from: customer)
            try Transfer.check(bed, from: bed.server, address: "10.78.0.1", to: customer)
            try Transfer.check(bed, from: customer, address: "10.78.0.2", to: bed.server)
            let found = try found(peer)
            #expect(found.data > 2000 && found.ordered == 0 && found.numbered == 0, "\(found)")
            #expect(found.clear == (isClear ? found.data : 0), "\(found)")
            #expect(found.refused == 0 && found.otherVersions == 0 && found.repeated == 0, "\(found)")
            #expect(found.up == 2 && found.downs == 0, "\(found)")
            // It said that it ends: nobody waits for the timeout.
            try bed.waitForLinks("acme", ["link1": "down", "link2": "down"], within: .seconds(2))
        }
    }

    @Test func aServerIsUsed() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1, 2])
            let server = try start(
                bed, "server", in: bed.server, address: "10.78.0.1/24",
                links: [1, 2].map { "\(TunnelBed.serverWire($0)):\(5080 + $0)" })
            let client = try bed.startClient("acme", in: customer, wires: [1, 2])
            try bed.waitForPing("10.78.0.1", from: customer)
            try Transfer.check(bed, from: bed.server, address: "10.78.0.1", to: customer)
            try Transfer.check(bed, from: customer, address: "10.78.0.2", to: bed.server)
            client.stop()
            let found = try found(server)
            #expect(found.data > 2000 && found.ordered == 0 && found.numbered == 0, "\(found)")
            #expect(found.refused == 0 && found.otherVersions == 0 && found.repeated == 0, "\(found)")
            // Both links came up, and were told that the client ends.
            #expect(found.up == 2 && found.downs == 2, "\(found)")
        }
    }

    /// Killed, it has no word for it: its flow is another's from now on, which has to wait until the first was silent.
    @Test func aClientThatWasKilledIsBackWithinItsTimeout() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            for number in 1...2 {
                let peer = try start(
                    bed, "client", in: customer, address: "10.78.0.2/24", links: clientLinks([1]))
                try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(7))
                if number == 2 { #expect(try found(peer).repeated == 0) } else { peer.signal(SIGKILL) }
                _ = try peer.waitForExit(within: .seconds(10))
            }
        }
    }

    /// Until the peer has the new password its session goes on; but nobody begins one with the old.
    @Test func anOldPasswordBeginsNothing() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            func client(_ password: String) throws -> RunningProcess {
                try start(
                    bed, "client", in: customer, address: "10.78.0.2/24", password: password, links: clientLinks([1]))
            }
            let old = try client(TunnelBed.password)
            try bed.waitForPing("10.78.0.1", from: customer)
            try bed.daemon.admin("set-tunnel", "acme", "--password-file", try bed.rig.file("new", "another password"))
            try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(1))
            old.signal(SIGKILL)
            _ = try old.waitForExit(within: .seconds(10))
            let thief = try client(TunnelBed.password)
            for _ in 0..<8 {
                #expect(try !bed.rig.succeeds(["ping", "-q", "-c1", "-W1", "10.78.0.1"], in: customer))
            }
            thief.signal(SIGKILL)
            _ = try thief.waitForExit(within: .seconds(10))
            _ = try client("another password")
            try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(10))
        }
    }

    /// A server whose process was killed has the session still; what it sends goes on from where it was.
    @Test func anEngineThatWasKilledGoesOnWithNoNonceUsedTwice() throws {
        try TunnelBed.with { bed in
            let customer = try bed.customer("customer", wires: [1])
            try bed.addTunnel("acme", wires: [1])
            let peer = try start(bed, "client", in: customer, address: "10.78.0.2/24", links: clientLinks([1]))
            try bed.waitForPing("10.78.0.1", from: customer)
            for _ in 0..<3 {
                kill(try bed.pid(of: "mlvpn-engine"), SIGKILL)
                try bed.waitForPing("10.78.0.1", from: customer, within: .seconds(3))
            }
            let found = try found(peer)
            #expect(found.repeated == 0 && found.refused == 0, "\(found)")
            #expect(found.up == 1 && found.downs == 0, "\(found)")
        }
    }
}
