import Testing
import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

/// Captured datagrams, cut and changed, through all that touches bytes from the network.
@Suite("Changed datagrams")
struct CaptureMutationTests {
    private let capture: Capture
    private let now = 1000 * second

    init() throws {
        capture = try Capture.load()
        try #require(capture.datagrams.count == 76)
        try #require(Array(capture.password.utf8) == VirtualPeer.password)
    }

    @Test func `as captured, each session is followed from AUTH to DISCONNECT`() {
        for mode in ["encrypted", "cleartext"] {
            for sender in ["client", "server"] {
                let peer = makePeer(for: sender, mode)
                for entry in capture.datagrams where entry.mode == mode && entry.sender == sender {
                    _ = peer.take(entry.bytes, from: .host(1), now)
                }
                let taken = peer.outcomes.count { $0 == .taken(.data) }
                #expect(taken > 0, "\(mode), \(sender)")
                #expect(!peer.outcomes.contains(.malformed))
                #expect(!peer.outcomes.contains(.forged))
            }
        }
    }

    @Test func `every truncation is refused`() {
        for entry in capture.datagrams {
            let peer = makePeer(for: entry.sender, entry.mode)
            let bytes = entry.bytes
            // The largest are cut at every length near their ends, and at some between.
            for count in 0..<bytes.count where count < 80 || count > bytes.count - 20 || count % 97 == 0 {
                _ = peer.take(Array(bytes.prefix(count)), from: .host(1), now)
                #expect(peer.outcomes.last == .malformed)
                // With a length that fits, the MAC does not.
                guard count > 28 else { continue }
                var shorter = Array(bytes.prefix(count))
                shorter[0] = UInt8((count - 28) >> 8)
                shorter[1] = UInt8((count - 28) & 0xff)
                _ = peer.take(shorter, from: .host(1), now)
                #expect(isRefused(peer, entry), "\(count) bytes of \(bytes.count)")
            }
            #expect(!peer.isUp)
        }
    }

    @Test func `every byte that is appended is refused`() {
        for entry in capture.datagrams {
            let peer = makePeer(for: entry.sender, entry.mode)
            for extra in [1, 2, 16, 256, 1500, 60_000] {
                _ = peer.take(entry.bytes + [UInt8](repeating: 0, count: extra), from: .host(1), now)
                #expect(peer.outcomes.last == .malformed)
            }
        }
    }

    /// Each byte in turn takes values of its own; the header all of them.
    @Test func `no change of a byte passes, but for what is not authenticated`() {
        var random = SeededRandom(seed: 76)
        for entry in capture.datagrams {
            let original = entry.bytes
            let isClear = entry.mode == "cleartext" && original[2] >> 4 == DatagramType.data.rawValue
            for position in original.indices where position < 64 || position % 41 == 0 {
                let values = position < 12 ? 255 : position < 28 ? 24 : 6
                for change in values == 255 ? Array(1...255) : (0..<values).map({ _ in random.number(1...255) }) {
                    var bytes = original
                    bytes[position] ^= UInt8(change)
                    let peer = makePeer(for: entry.sender, entry.mode)
                    _ = peer.take(bytes, from: .host(1), now)
                    let outcome = peer.outcomes.last
                    // Length, flags (type, reorder), timestamps and data_seq are not bound by the MAC.
                    let mayPass = (2...7).contains(position) || (20..<28).contains(position) || isClear
                    if !mayPass {
                        let isRefused = outcome == .malformed || outcome == .notOpened || outcome == .forged
                        #expect(isRefused, "byte \(position) changed by \(change)")
                    }
                    if position < 2 { #expect(outcome == .malformed) }
                    #expect(peer.received.isEmpty, "a session that is not up delivers nothing")
                }
            }
        }
    }

    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `a session that is up survives noise and mutations`(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for mode in ["encrypted", "cleartext"] {
            let entries = capture.datagrams.filter { $0.mode == mode && $0.sender == "client" }
            let peer = makePeer(for: "client", mode)
            var time = now
            for _ in 0..<1500 {
                var bytes =
                    random.oneIn(10)
                    ? random.byteArray(random.number(0...120)) : entries[random.number(0...entries.count - 1)].bytes
                for _ in 0..<random.number(0...3) where !bytes.isEmpty {
                    bytes[random.number(0...min(bytes.count, 48) - 1)] = UInt8(truncatingIfNeeded: random.next())
                }
                if random.oneIn(5), bytes.count >= 28 {
                    bytes[0] = UInt8((bytes.count - 28) >> 8)
                    bytes[1] = UInt8((bytes.count - 28) & 0xff)
                }
                _ = peer.take(bytes, from: .host(UInt32(random.number(1...3))), time)
                time += Int64(random.number(0...400)) * millisecond
                if peer.deadline <= time { _ = peer.tick(time) }
            }
            // The capture has one packet that was sent twice, over two links.
            let sent = entries.filter { $0.type == "data" }.count
            if mode == "encrypted" { #expect(peer.received.count <= sent, "seed \(seed): delivered twice") }
        }
    }

    /// A fresh end to receive what `sender` sent.
    private func makePeer(for sender: String, _ mode: String) -> VirtualPeer {
        let peer = VirtualPeer(2, isServer: sender == "client", flowID: 1, isCleartext: mode == "cleartext", now: now)
        if sender == "server" {
            peer.session.configure(peer: .host(1))
            _ = peer.tick(now)
        }
        return peer
    }

    private func isRefused(_ peer: VirtualPeer, _ entry: Capture.Entry) -> Bool {
        switch peer.outcomes.last {
        case .forged, .notOpened, .taken(.dropped): true
        default: false
        }
    }
}
