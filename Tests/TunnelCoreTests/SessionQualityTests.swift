import Testing
import TunnelCore
import TunnelModel

@Suite("Session: lossy and slow")
struct SessionQualityTests {
    /// 64 datagrams from the client, of which some in the middle get lost.
    private func sendBatch(_ bench: SessionBench, lost: Int) {
        for number in 0..<64 {
            let flights = bench.client.data(innerPacket(), bench.now)
            if !(20..<20 + lost).contains(number) { bench.network.send(flights) }
        }
    }

    /// A batch a second, for so many seconds.
    private func run(_ bench: SessionBench, seconds: Int, lost: Int) {
        for _ in 0..<seconds {
            sendBatch(bench, lost: lost)
            bench.network.run(second)
        }
    }

    @Test func `loss at its tolerance is tolerated, above it the link is lossy within 2 s`() {
        let bench = SessionBench(lossTolerance: 9)
        bench.connect()
        run(bench, seconds: 5, lost: 6)
        #expect(bench.server.session.loss.permille == 6 * 1000 / 64)
        #expect(bench.server.session.visibleState == .up)
        run(bench, seconds: 2, lost: 7)
        #expect(bench.server.session.visibleState == .lossy)
        #expect(bench.server.session.reason == .loss)
        #expect(bench.server.isUp)
        // The other direction is the other side's to judge.
        #expect(bench.client.session.visibleState == .up)
    }

    @Test func `a lossy link stays lossy above three quarters of its tolerance`() {
        let bench = SessionBench(lossTolerance: 9)
        bench.connect()
        run(bench, seconds: 2, lost: 10)
        run(bench, seconds: 20, lost: 5)
        #expect(bench.server.session.visibleState == .lossy)
    }

    @Test func `a lossy link recovers after 3 s below three quarters of its tolerance, not before`() {
        let bench = SessionBench(lossTolerance: 9)
        bench.connect()
        run(bench, seconds: 2, lost: 10)
        #expect(bench.server.session.visibleState == .lossy)
        run(bench, seconds: 2, lost: 4)
        #expect(bench.server.session.visibleState == .lossy)
        // A relapse starts the time anew.
        run(bench, seconds: 1, lost: 10)
        run(bench, seconds: 2, lost: 4)
        #expect(bench.server.session.visibleState == .lossy)
        run(bench, seconds: 2, lost: 4)
        #expect(bench.server.session.visibleState == .up)
        #expect(bench.server.session.reason == .recovered)
    }

    @Test func `without a tolerance no loss is lossy`() {
        let bench = SessionBench(lossTolerance: 100)
        bench.connect()
        run(bench, seconds: 5, lost: 40)
        #expect(bench.server.session.loss.permille > 500)
        #expect(bench.server.session.visibleState == .up)
    }

    @Test func `a tolerance that is taken away ends the verdict`() {
        let bench = SessionBench(lossTolerance: 9)
        bench.connect()
        run(bench, seconds: 2, lost: 20)
        #expect(bench.server.session.visibleState == .lossy)
        bench.server.session.settings.lossTolerance = 100
        bench.network.run(1100 * millisecond)
        #expect(bench.server.session.visibleState == .up)
    }

    @Test func `a link that comes back is not lossy for what was lost before`() {
        let bench = SessionBench(timeout: 5, lossTolerance: 9)
        bench.connect()
        run(bench, seconds: 2, lost: 20)
        bench.loseAll()
        bench.network.run(10 * second)
        bench.loseNothing()
        bench.network.run(4 * second)
        #expect(bench.areBothUp)
        #expect(bench.server.session.visibleState == .up)
    }

    @Test func `latency above its tolerance is slow, and recovers below three quarters of it`() {
        let bench = SessionBench(latencyTolerance: 60)
        bench.connect()
        bench.network.run(5 * second)
        #expect(bench.client.session.visibleState == .up)
        bench.network.delay = 50 * millisecond
        bench.network.run(20 * second)
        for peer in [bench.client, bench.server] {
            #expect(peer.session.visibleState == .slow)
            #expect(peer.session.reason == .latency)
            #expect(peer.session.visibleState.isUp)
        }
        bench.network.delay = 26 * millisecond
        bench.network.run(60 * second)
        #expect(bench.client.session.visibleState == .slow)
        bench.network.delay = 15 * millisecond
        bench.network.run(60 * second)
        #expect(bench.client.session.visibleState == .up)
        #expect(bench.client.session.reason == .recovered)
    }

    @Test func `loss counts before latency`() {
        let bench = SessionBench(lossTolerance: 9, latencyTolerance: 10)
        bench.connect()
        run(bench, seconds: 3, lost: 0)
        #expect(bench.server.session.visibleState == .slow)
        run(bench, seconds: 2, lost: 20)
        #expect(bench.server.session.visibleState == .lossy)
        run(bench, seconds: 2, lost: 0)
        #expect(bench.server.session.visibleState == .slow)
    }
}
