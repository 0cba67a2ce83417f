import Testing
import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

/// A link that carries nothing tells its peer, which then waits for nothing on it.
@Suite("Session: rest")
struct SessionRestTests {
    private let start = 1000 * second
    private let client: VirtualPeer
    private let server: VirtualPeer

    init() {
        client = VirtualPeer(1, isServer: false, now: start)
        server = VirtualPeer(2, isServer: true, now: start)
    }

    private func connect(_ announces: Bool) {
        server.announces = announces
        client.session.configure(peer: .host(2))
        pass(client.tick(start))
        #expect(client.session.isUp && server.session.isUp)
        _ = server.takeRest()
    }

    /// Delivers what the client sends to the server, and the answers.
    private func pass(_ flights: [Flight]) {
        var left = flights
        while !left.isEmpty {
            let flight = left.removeFirst()
            let receiver = flight.from == .host(1) ? server : client
            left += receiver.take(flight.bytes, from: flight.from, flight.time)
        }
    }

    @Test func `it is told at once, and with every keepalive until it carries again`() {
        connect(true)
        let now = start + second / 10
        #expect(client.rest(true))
        pass(client.tick(now))
        #expect(server.takeRest())
        #expect(!server.takeRest())
        // Once is enough for now.
        #expect(!client.rest(true))
        pass(client.tick(now + second + millisecond))
        #expect(server.takeRest())
        #expect(!client.rest(false))
        pass(client.tick(now + 3 * second))
        #expect(!server.takeRest())
    }

    @Test func `a stock peer is not told`() {
        connect(false)
        #expect(!client.rest(true))
        pass(client.tick(start + 2 * second))
        #expect(!server.takeRest())
    }

    @Test func `a link that is down has nobody to tell`() {
        #expect(!client.rest(true))
        connect(true)
        #expect(!client.rest(true))
        // Its keepalives say it then.
        pass(client.tick(start + 2 * second))
        #expect(server.takeRest())
        #expect(!client.rest(false))
        pass(client.disconnect(start + 3 * second))
        #expect(!client.rest(true))
    }

    /// A link that is suspected rests, and comes back by answers to its probes.
    @Test func `a probe asks for a report though the link rests`() {
        client.announces = true
        connect(true)
        #expect(client.rest(true))
        let now = start + second / 2
        pass(client.tick(now))
        pass(server.tick(now + second / 10))
        client.session.probe()
        pass(client.tick(now + second / 5))
        #expect(server.session.reportDeadline < .max)
        #expect(!server.takeRest())
    }

    @Test func `what was overtaken by data says nothing of the link`() {
        connect(true)
        #expect(client.rest(true))
        let notice = client.tick(start + second / 10)
        pass(client.data([0x45] + [UInt8](repeating: 0, count: 19), start + second / 10 + 1))
        pass(notice)
        #expect(!server.takeRest())
    }
}
