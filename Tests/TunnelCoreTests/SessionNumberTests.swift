import Testing
import TunnelCore
import TunnelModel
import TunnelWire

@Suite("Session: numbers and taking up a session")
struct SessionNumberTests {
    @Test func `numbers go up by one with each datagram of any type`() {
        let bench = SessionBench()
        bench.connect()
        for _ in 0..<50 {
            bench.sendFromClient()
            bench.network.run(70 * millisecond)
        }
        var next: UInt64 = 1_700_000_000_000_000
        for flight in bench.network.sent where flight.from == bench.client.address {
            let header = flight.bytes.withUnsafeBytes { DatagramHeader(reading: $0.baseAddress!) }
            #expect(header.sequence == next)
            #expect(header.flowID == 0x1000)
            next += 1
        }
        #expect(bench.client.session.nextSequence == next)
    }

    /// The process dies; what the next finds is as old as `lost` datagrams.
    @Test(arguments: [0, 1, 100, 5000])
    func `a session that is taken up repeats no number`(lost: Int) {
        let bench = SessionBench()
        bench.connect()
        let found = bench.client.session
        for _ in 0..<lost { _ = bench.client.data(innerPacket(), bench.now) }
        bench.client.session = found
        bench.client.session.resume(now: bench.now)
        // The peer object notices a number that comes twice.
        for _ in 0..<lost + 10 { _ = bench.client.data(innerPacket(), bench.now) }
        #expect(bench.client.numbers.count >= 2 * lost + 10)
    }

    @Test func `a session that is taken up goes on without a handshake`() {
        let bench = SessionBench(lossTolerance: 5)
        bench.connect()
        bench.network.run(5 * second)
        let handshakes = bench.client.count(.auth)
        bench.server.session.resume(now: bench.now)
        bench.client.session.resume(now: bench.now)
        #expect(bench.server.session.visibleState == .up)
        #expect(bench.server.session.reason == .resumed)
        bench.sendFromClient()
        bench.sendFromServer()
        bench.network.run(10 * second)
        #expect(bench.server.received.count == 1)
        #expect(bench.client.received.count == 1)
        #expect(bench.client.count(.auth) == handshakes)
        #expect(bench.server.session.disconnects == 0)
        #expect(bench.server.session.epoch == 1)
        // The numbers left out are no loss.
        #expect(bench.server.session.visibleState == .up)
    }

    @Test func `a session that is taken up after its timeout is down`() {
        let bench = SessionBench(timeout: 5)
        bench.connect()
        bench.network.detach(bench.server)
        bench.network.run(10 * second)
        bench.server.session.resume(now: bench.now)
        _ = bench.server.tick(bench.now)
        #expect(!bench.server.isUp)
        #expect(bench.server.session.reason == .timeout)
    }

    @Test func `replays are refused after a session was taken up`() {
        let bench = SessionBench()
        bench.connect()
        bench.sendFromClient()
        bench.network.run(second)
        let recorded = bench.network.sent.filter { $0.to == bench.server.address }
        bench.server.session.resume(now: bench.now)
        let opened = bench.server.outcomes.count
        bench.network.send(recorded)
        bench.network.run(10 * millisecond)
        #expect(bench.server.outcomes.dropFirst(opened).prefix(recorded.count).allSatisfy { $0 == .notOpened })
        #expect(bench.server.received.count == 1)
    }

    @Test func `numbers may reach the end of their range`() {
        let bench = SessionBench()
        bench.connect()
        let last = VirtualPeer(1, isServer: false, flowID: 0x55, sequence: .max - 3, now: bench.now)
        for type in [.auth, .keepalive, .keepalive, .keepalive, .keepalive] as [DatagramType] {
            let body: [UInt8] = type == .auth ? Array("AU".utf8) : []
            bench.replaceServer(flowID: 0x99)
            bench.network.send([last.flight(type, body, to: bench.server.address, bench.now)])
            bench.network.run(10 * millisecond)
        }
        #expect(last.session.nextSequence == 1)
    }
}
