import Testing
import TunnelCore
import TunnelModel
import TunnelWire

@Suite("Session: handshake and keepalive")
struct SessionHandshakeTests {
    @Test func `a client and a server are up after a round trip, and say so`() {
        let bench = SessionBench()
        #expect(bench.client.session.visibleState == .down)
        #expect(bench.server.session.visibleState == .connecting)
        let time = bench.network.run(atMost: second) { bench.areBothUp }
        #expect(time == 20 * millisecond)
        #expect(bench.client.session.visibleState == .up)
        #expect(bench.server.session.visibleState == .up)
        #expect(bench.client.session.reason == .handshake)
        #expect(bench.server.session.peer == bench.client.address)
    }

    @Test func `a client asks once a second, for as long as it takes`() {
        let bench = SessionBench()
        bench.loseAll()
        bench.network.run(10 * second)
        let times = bench.client.controls.filter { $0.type == .auth }.map(\.time)
        #expect(times.count >= 10)
        for (earlier, later) in zip(times, times.dropFirst()) { #expect(later - earlier == second) }
        #expect(bench.client.session.visibleState == .connecting)
        bench.loseNothing()
        #expect(bench.network.run(atMost: 1100 * millisecond) { bench.areBothUp } != nil)
    }

    @Test func `a client without an address, and a server, stay silent`() {
        let bench = SessionBench()
        bench.client.session.configure(peer: .none)
        bench.network.run(5 * second)
        #expect(bench.network.sent.isEmpty)
        #expect(bench.server.session.deadline == .max)
    }

    @Test func `another password is not listened to`() {
        let bench = SessionBench()
        bench.connect()
        var foreign = bench.network.sent[0]
        for index in 28..<foreign.bytes.count { foreign.bytes[index] ^= 0x55 }
        bench.replaceServer()
        bench.network.send([foreign])
        bench.network.run(20 * millisecond)
        #expect(bench.server.outcomes == [.forged])
        #expect(bench.server.session.visibleState == .connecting)
    }

    @Test func `a client that did not ask is not brought up`() {
        let bench = SessionBench()
        bench.client.session.configure(peer: .none)
        bench.network.send([bench.server.flight(.authOK, Array("OK".utf8), to: bench.client.address, bench.now)])
        bench.network.run(20 * millisecond)
        #expect(bench.client.outcomes == [.taken(.dropped(.unknownFlow))])
        #expect(!bench.client.isUp)
    }

    @Test func `two clients that ask each other are up`() {
        let bench = SessionBench()
        bench.server.session.settings.isServer = false
        bench.server.session.configure(peer: bench.client.address)
        #expect(bench.network.run(atMost: second) { bench.areBothUp } != nil)
    }

    @Test func `a lost AUTH_OK costs a second`() {
        let bench = SessionBench()
        var isFirst = true
        bench.lose { flight in
            defer { if flight.from == .host(2) { isFirst = false } }
            return flight.from == .host(2) && isFirst && flight.bytes.count > 44
        }
        let time = bench.network.run(atMost: 3 * second) { bench.areBothUp }
        #expect(time == second + 20 * millisecond)
    }

    // MARK: Keepalive

    @Test func `each side sends a KEEPALIVE a second, and answers at most one a second`() {
        let bench = SessionBench()
        bench.connect()
        let before = (bench.client.count(.keepalive), bench.server.count(.keepalive))
        bench.network.run(100 * second)
        for sent in [bench.client.count(.keepalive) - before.0, bench.server.count(.keepalive) - before.1] {
            #expect(sent >= 100)
            #expect(sent <= 200)
        }
        for peer in [bench.client, bench.server] {
            let times = peer.controls.filter { $0.type == .keepalive }.map(\.time)
            for (earlier, later) in zip(times, times.dropFirst()) { #expect(later - earlier <= second) }
        }
    }

    @Test func `a KEEPALIVE of ours is answered at once, but not twice in a second`() {
        let bench = SessionBench(announces: true)
        bench.connect()
        bench.network.run(10 * second)
        bench.network.detach(bench.client)
        bench.network.run(1500 * millisecond)
        let before = bench.server.count(.keepalive)
        let start = bench.now
        for _ in 0..<20 {
            bench.network.send([bench.client.flight(.keepalive, [], to: bench.server.address, bench.now)])
        }
        bench.network.run(20 * millisecond)
        #expect(bench.server.count(.keepalive) - before == 1)
        #expect(bench.server.controls.last?.time == start + 10 * millisecond)
    }

    @Test func `DATA flows while up, both ways, as it was sent`() {
        let bench = SessionBench()
        bench.connect()
        let packets = (0..<10).map { innerPacket([UInt8]($0..<$0 + 30)) }
        for packet in packets {
            bench.sendFromClient(packet)
            bench.sendFromServer(packet)
        }
        bench.network.run(second)
        #expect(bench.server.received == packets)
        #expect(bench.client.received == packets)
    }

    @Test func `DATA is not accepted while down`() {
        let bench = SessionBench()
        bench.connect()
        bench.network.detach(bench.client)
        bench.network.run(20 * second)
        #expect(!bench.server.isUp)
        bench.sendFromClient()
        bench.network.run(20 * millisecond)
        #expect(bench.server.outcomes.last == .taken(.dropped(.state)))
        #expect(bench.server.received.isEmpty)
    }

    // MARK: Timeout

    @Test func `a link is down exactly when its timeout has passed since the last KEEPALIVE`() {
        let bench = SessionBench(timeout: 7)
        bench.connect()
        bench.network.run(5 * second)
        bench.loseAll()
        bench.network.run(20 * millisecond)
        let last = bench.server.session.lastHeard
        while bench.now < last + 7 * second - 1 {
            bench.network.run(min(100 * millisecond, last + 7 * second - 1 - bench.now))
            #expect(bench.server.isUp)
        }
        bench.network.run(1)
        #expect(!bench.server.isUp)
        #expect(bench.server.session.reason == .timeout)
        #expect(bench.server.session.visibleState == .down)
        #expect(bench.server.session.disconnects == 1)
        #expect(bench.server.session.deadline == .max)
    }

    @Test func `DATA does not put the timeout off`() {
        let bench = SessionBench(timeout: 5)
        bench.connect()
        // KEEPALIVEs are lost, DATA is not.
        bench.lose { $0.bytes.count == 44 }
        for _ in 0..<49 {
            bench.sendFromServer()
            bench.network.run(100 * millisecond)
        }
        #expect(bench.client.isUp)
        for _ in 0..<6 {
            bench.sendFromServer()
            bench.network.run(100 * millisecond)
        }
        #expect(bench.client.session.disconnects == 1)
    }

    @Test func `a client whose link timed out asks at once, and is back with the first answer`() {
        let bench = SessionBench(timeout: 5)
        bench.connect()
        bench.loseAll()
        #expect(bench.network.run(atMost: 10 * second) { !bench.client.isUp } != nil)
        #expect(bench.client.controls.last?.type == .auth)
        #expect(bench.client.controls.last?.time == bench.now)
        bench.network.run(10 * second)
        bench.loseNothing()
        #expect(bench.network.run(atMost: 1100 * millisecond) { bench.areBothUp } != nil)
    }

    @Test func `a shorter timeout holds at once`() {
        let bench = SessionBench(timeout: 60)
        bench.connect()
        bench.loseAll()
        bench.network.run(5 * second)
        bench.server.session.settings.timeout = 3 * second
        #expect(bench.server.session.deadline <= bench.now)
        bench.network.run(0)
        #expect(!bench.server.isUp)
    }

    // MARK: Stock peers

    @Test func `a stock client connects, stays and disconnects`() {
        let network = VirtualNetwork()
        let server = VirtualPeer(2, isServer: true, now: network.now)
        let client = StockPeer(
            1, isServer: false, peer: server.address, flowID: 5, timeout: 10 * second, now: network.now)
        network.attach(server)
        network.attach(client)
        #expect(network.run(atMost: second) { server.isUp && client.isUp } != nil)
        network.run(60 * second)
        #expect(client.handshakes == 1)
        #expect(server.session.disconnects == 0)
    }

    @Test func `a stock server is connected to, and stays`() {
        let network = VirtualNetwork()
        let client = VirtualPeer(1, isServer: false, now: network.now)
        let server = StockPeer(
            2, isServer: true, peer: .none, flowID: 5, timeout: 10 * second, now: network.now)
        client.session.configure(peer: server.address)
        network.attach(server)
        network.attach(client)
        #expect(network.run(atMost: second) { server.isUp && client.isUp } != nil)
        network.run(60 * second)
        #expect(server.handshakes == 1)
        #expect(client.session.disconnects == 0)
    }
}
