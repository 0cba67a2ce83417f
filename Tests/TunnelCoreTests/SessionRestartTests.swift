import Testing
import TunnelCore
import TunnelModel
import TunnelWire

@Suite("Session: ends and new beginnings")
struct SessionRestartTests {
    // MARK: DISCONNECT

    @Test func `a DISCONNECT ends the other side's session, and the client asks again half a second later`() {
        let bench = SessionBench()
        bench.connect()
        bench.network.send(bench.server.disconnect(bench.now))
        #expect(!bench.server.isUp)
        #expect(bench.server.session.reason == .shutdown)
        bench.network.run(10 * millisecond)
        #expect(!bench.client.isUp)
        #expect(bench.client.session.reason == .peerDisconnect)
        #expect(bench.client.session.disconnects == 1)
        let ended = bench.now
        #expect(bench.network.run(atMost: second) { bench.areBothUp } != nil)
        #expect(bench.client.controls.last { $0.type == .auth }?.time == ended + second / 2)
    }

    @Test func `a session that is not up has nothing to disconnect`() {
        let bench = SessionBench()
        #expect(bench.client.disconnect(bench.now).isEmpty)
        #expect(bench.server.disconnect(bench.now).isEmpty)
        bench.loseAll()
        bench.network.run(second)
        // Asking, but not up: the peer knows of nothing.
        #expect(bench.client.disconnect(bench.now).allSatisfy { $0.to != bench.client.address })
        #expect(bench.client.count(.disconnect) == 0)
    }

    @Test func `a DISCONNECT that later datagrams have overtaken ends nothing`() {
        let bench = SessionBench()
        bench.connect()
        let late = bench.client.flight(.disconnect, [], to: bench.server.address, bench.now)
        bench.sendFromClient()
        bench.network.run(20 * millisecond)
        bench.network.send([late])
        bench.network.run(20 * millisecond)
        #expect(bench.server.outcomes.last == .taken(.dropped(.state)))
        #expect(bench.server.isUp)
    }

    @Test func `what a flow sent before its DISCONNECT does not bring it back`() {
        let bench = SessionBench()
        bench.connect()
        let early = [
            bench.client.flight(.auth, Array("AU".utf8), to: bench.server.address, bench.now),
            bench.client.flight(.keepalive, [], to: bench.server.address, bench.now),
            bench.client.data(innerPacket(), bench.now)[0],
        ]
        bench.stopClient()
        #expect(!bench.server.isUp)
        let answers = bench.server.controls.count
        bench.network.send(early)
        bench.network.run(20 * millisecond)
        #expect(!bench.server.isUp)
        #expect(bench.server.controls.count == answers)
        // Nor does it keep a new flow out.
        bench.replaceClient()
        #expect(bench.network.run(atMost: second) { bench.areBothUp } != nil)
    }

    @Test func `a DISCONNECT of an older flow ends nothing`() {
        let bench = SessionBench()
        bench.connect()
        let old = bench.client
        bench.stopClient()
        bench.replaceClient()
        #expect(bench.network.run(atMost: second) { bench.areBothUp } != nil)
        bench.network.send([old.flight(.disconnect, [], to: bench.server.address, bench.now)])
        bench.network.run(20 * millisecond)
        #expect(bench.server.isUp)
        bench.sendFromClient()
        bench.network.run(20 * millisecond)
        #expect(bench.server.received.count == 1)
    }

    // MARK: A client that restarts

    @Test func `a client that said DISCONNECT is back at once with a new flow`() {
        let bench = SessionBench()
        bench.connect()
        bench.stopClient()
        #expect(!bench.server.isUp)
        bench.replaceClient()
        #expect(bench.network.run(atMost: second) { bench.areBothUp } == 20 * millisecond)
        #expect(bench.server.session.epoch == 2)
    }

    @Test func `a client that crashed is back with a new flow once the old one was silent for 3 s, not before`() {
        let bench = SessionBench()
        bench.connect()
        let heard = bench.server.session.lastHeard
        bench.replaceClient()
        bench.network.run(heard + 3 * second - 20 * millisecond - bench.now)
        #expect(!bench.client.isUp)
        #expect(bench.server.session.epoch == 1)
        let time = bench.network.run(atMost: 2 * second) { bench.client.isUp }
        #expect(time != nil)
        // The link never went down, so nobody has to be told.
        #expect(bench.server.session.disconnects == 0)
        #expect(bench.server.session.epoch == 2)
        bench.sendFromClient()
        bench.network.run(20 * millisecond)
        #expect(bench.server.received.count == 1)
    }

    @Test func `a foreign flow does not take a living link, whatever it sends`() {
        let bench = SessionBench()
        bench.connect()
        let other = VirtualPeer(9, isServer: false, flowID: 0x99, now: bench.now)
        for _ in 0..<100 {
            for (type, body) in [
                (.auth, Array("AU".utf8)), (.authOK, Array("OK".utf8)), (.keepalive, []), (.data, innerPacket()),
                (.disconnect, []),
            ] as [(DatagramType, [UInt8])] {
                bench.network.send([other.flight(type, body, to: bench.server.address, bench.now)])
            }
            bench.network.run(100 * millisecond)
        }
        #expect(bench.areBothUp)
        #expect(bench.server.session.peer == bench.client.address)
        #expect(bench.server.session.epoch == 1)
        #expect(bench.server.received.isEmpty)
        #expect(bench.network.sent.allSatisfy { $0.to != other.address })
    }

    @Test func `a known flow takes its link back at once`() {
        let bench = SessionBench()
        bench.connect()
        let first = bench.client
        bench.network.run(4 * second)
        bench.network.detach(first)
        bench.network.run(4 * second)
        // Another flow comes while the first is silent.
        bench.replaceClient()
        #expect(bench.network.run(atMost: 2 * second) { bench.areBothUp } != nil)
        bench.network.detach(bench.client)
        bench.network.send(first.data(innerPacket([1]), bench.now))
        bench.network.run(20 * millisecond)
        #expect(bench.server.received.last == innerPacket([1]))
        #expect(bench.server.session.epoch == 3)
    }

    @Test func `a client that starts tells its server, which does not believe a flow it does not know`() {
        let bench = SessionBench()
        bench.connect()
        bench.replaceClient()
        bench.client.session.announceStart()
        bench.network.run(50 * millisecond)
        #expect(bench.client.controls.map(\.type) == [.disconnect, .auth])
        #expect(bench.server.isUp)
        #expect(bench.server.outcomes.contains(.notOpened))
        #expect(!bench.server.outcomes.contains(.taken(.control)) || bench.server.session.epoch == 1)
    }

    // MARK: A server that lost its state

    @Test func `a stock client is back within 2 s after its server lost the state`() {
        let network = VirtualNetwork()
        let old = VirtualPeer(2, isServer: true, now: network.now)
        let client = StockPeer(
            1, isServer: false, peer: old.address, flowID: 5, timeout: 60 * second, now: network.now)
        network.attach(old)
        network.attach(client)
        network.run(10_300 * millisecond)
        #expect(client.isUp)
        network.detach(old)
        let server = VirtualPeer(2, isServer: true, flowID: 0x88, now: network.now)
        network.attach(server)
        #expect(network.run(atMost: 2100 * millisecond) { server.isUp && client.handshakes == 2 } != nil)
        network.run(10 * second)
        #expect(client.handshakes == 2)
    }

    /// It says KEEPALIVE instead while an answer of its waits for its timer (``StockPeer/end(_:)``).
    @Test(arguments: [true, false])
    func `a stock peer that is told to end can say so at nearly any moment`(isServer: Bool) {
        let network = VirtualNetwork()
        // Hosts are not exact to the nanosecond, which decides whether a second has passed since the last answer.
        var random = SeededRandom(seed: 1)
        network.tamper = { flight in
            var flight = flight
            flight.time += Int64(random.number(0...2000)) * 1000
            return [flight]
        }
        let ours = VirtualPeer(2, isServer: !isServer, now: network.now)
        network.attach(ours)
        if !isServer { network.run(300 * millisecond) }
        let stock = StockPeer(
            1, isServer: isServer, peer: ours.address, flowID: 5, timeout: 60 * second, now: network.now)
        if isServer {
            network.attach(stock)
            network.run(370 * millisecond)
            ours.session.configure(peer: stock.address)
        } else {
            network.attach(stock)
        }
        #expect(network.run(atMost: second) { stock.isUp && ours.isUp } != nil)
        var unheard = 0
        for _ in 0..<1000 {
            network.run(10 * millisecond)
            #expect(stock.isUp)
            if stock.end(network.now) != .disconnect { unheard += 1 }
        }
        #expect(unheard <= 100)
        #expect(stock.handshakes == 1)
    }

    @Test func `a client of ours is back once its old server was silent for 3 s and the new one has said DISCONNECT`() {
        let bench = SessionBench(timeout: 60)
        bench.connect()
        bench.network.run(10 * second)
        bench.replaceServer()
        // 3 s of silence, a second to the next KEEPALIVE, half a second of rest.
        #expect(
            bench.network.run(atMost: 4600 * millisecond) { bench.areBothUp && bench.client.session.epoch == 2 } != nil)
        bench.sendFromServer()
        bench.network.run(20 * millisecond)
        #expect(bench.client.received.count == 1)
    }

    @Test func `a stranger's datagrams are answered with DISCONNECT at most once a second`() {
        let bench = SessionBench()
        let stranger = VirtualPeer(9, isServer: false, flowID: 0x99, now: bench.now)
        bench.network.detach(bench.client)
        for number in 0..<1000 {
            let type: DatagramType = number % 2 == 0 ? .keepalive : .data
            let body = type == .data ? innerPacket() : []
            bench.network.send([stranger.flight(type, body, to: bench.server.address, bench.now)])
            bench.network.run(10 * millisecond)
        }
        #expect((9...11).contains(bench.server.count(.disconnect)))
        #expect(bench.server.controls.allSatisfy { $0.to == stranger.address })
    }

    @Test func `a DISCONNECT is never answered, nor is a datagram that does not authenticate`() {
        let bench = SessionBench()
        let stranger = VirtualPeer(9, isServer: false, flowID: 0x99, now: bench.now)
        bench.network.detach(bench.client)
        bench.network.send([stranger.flight(.disconnect, [], to: bench.server.address, bench.now)])
        var forged = stranger.flight(.data, innerPacket(), to: bench.server.address, bench.now)
        forged.bytes[40] ^= 1
        bench.network.send([forged])
        bench.network.run(second)
        #expect(bench.server.controls.isEmpty)
        #expect(bench.server.outcomes == [.taken(.dropped(.unknownFlow)), .forged])
    }

    @Test func `a server whose link timed out tells a peer that goes on`() {
        let bench = SessionBench(timeout: 5)
        bench.client.session.settings.timeout = 600 * second
        bench.connect()
        bench.lose { $0.from == .host(1) }
        #expect(bench.network.run(atMost: 10 * second) { !bench.server.isUp } != nil)
        #expect(bench.client.isUp)
        bench.loseNothing()
        // A KEEPALIVE, the answer, half a second, AUTH, AUTH_OK.
        #expect(bench.network.run(atMost: 1600 * millisecond) { bench.areBothUp } != nil)
        #expect(bench.client.session.disconnects == 1)
        #expect(bench.server.session.epoch == 1)
    }

    @Test func `a client does not believe a stranger's DISCONNECT while its server speaks`() {
        let bench = SessionBench()
        bench.connect()
        let stranger = VirtualPeer(9, isServer: true, flowID: 0x99, now: bench.now)
        for _ in 0..<50 {
            bench.network.send([stranger.flight(.disconnect, [], to: bench.client.address, bench.now)])
            bench.network.run(100 * millisecond)
        }
        #expect(bench.client.session.disconnects == 0)
        #expect(bench.client.session.peer == bench.server.address)
    }
}
