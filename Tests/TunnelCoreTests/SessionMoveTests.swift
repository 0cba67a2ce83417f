import Testing
import TunnelCore
import TunnelModel
import TunnelWire

@Suite("Session: a server elsewhere, and one that is doubted")
struct SessionMoveTests {
    private func move(_ server: VirtualPeer, to host: UInt32, _ bench: SessionBench) {
        bench.network.detach(server)
        server.address = .host(host)
        bench.network.attach(server)
    }

    @Test func `the same server at another address goes on with the session`() {
        let bench = SessionBench(announces: true)
        bench.connect()
        move(bench.server, to: 7, bench)
        bench.client.session.move(to: .host(7), now: bench.now)
        bench.sendFromClient(innerPacket([1]))
        bench.network.run(50 * millisecond)
        #expect(bench.server.received == [innerPacket([1])])
        bench.network.run(5 * second)
        #expect(bench.areBothUp)
        #expect(bench.client.session.epoch == 1 && bench.server.session.epoch == 1)
        #expect(bench.client.session.disconnects == 0 && bench.client.session.peer == .host(7))
    }

    @Test func `another server takes the link over as soon as it answers, though the old one still sends`() {
        let bench = SessionBench(announces: true)
        bench.connect()
        let other = VirtualPeer(7, isServer: true, flowID: 0x77, now: bench.now)
        other.announces = true
        bench.network.attach(other)
        bench.client.session.move(to: .host(7), now: bench.now)
        bench.sendFromServer(innerPacket([1]))
        bench.network.run(100 * millisecond)
        #expect(bench.client.received == [innerPacket([1])])
        #expect(other.isUp && bench.client.session.epoch == 2)
        #expect(bench.client.session.disconnects == 0 && bench.client.session.peer == .host(7))
    }

    @Test func `a server that does not answer at once is asked each second`() {
        let bench = SessionBench(announces: true)
        bench.connect()
        bench.client.session.move(to: .host(7), now: bench.now)
        let before = bench.client.count(.auth)
        bench.network.run(4 * second)
        #expect((4...6).contains(bench.client.count(.auth) - before))
        #expect(bench.client.session.peer == .host(7))
    }

    @Test func `a stock peer's KEEPALIVE is answered shortly before its next`() {
        let bench = SessionBench()
        bench.connect()
        bench.network.run(10 * second)
        bench.network.detach(bench.client)
        bench.network.run(700 * millisecond)
        bench.network.send([bench.client.flight(.keepalive, [], to: bench.server.address, bench.now)])
        bench.network.run(10 * millisecond)
        let arrival = bench.now
        bench.network.run(second)
        let sent = bench.server.controls.filter { $0.type == .keepalive && $0.time > arrival }.map(\.time)
        #expect(sent.contains { (800 * millisecond...930 * millisecond).contains($0 - arrival) })
    }

    @Test func `a peer that is doubted and silent may begin anew before 3 s have passed`() {
        let bench = SessionBench(timeout: 60)
        bench.connect()
        bench.network.run(10 * second)
        bench.replaceServer()
        bench.client.session.doubtPeer(now: bench.now)
        let time = bench.network.run(atMost: 3 * second) { bench.areBothUp && bench.client.session.epoch == 2 }
        #expect(time ?? .max <= 700 * millisecond)
    }

    @Test func `a peer that is doubted and heard goes on as before`() {
        let bench = SessionBench(timeout: 60)
        bench.connect()
        bench.network.run(10 * second)
        let before = bench.client.count(.auth)
        bench.client.session.doubtPeer(now: bench.now)
        for _ in 0..<20 {
            bench.sendFromServer()
            bench.network.run(100 * millisecond)
        }
        bench.network.run(10 * second)
        #expect(bench.client.count(.auth) - before <= 1)
        #expect(bench.client.session.epoch == 1)
    }
}
