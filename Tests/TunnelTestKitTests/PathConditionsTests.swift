import Testing
import TunnelTestKit

@Suite struct PathConditionsTests {
    @Test(arguments: [
        "rate", "rate=", "rate=fast", "rate=-1mbit", "rate=1e9mbit", "delay=10m", "delay=2h", "loss=101%",
        "loss=-1", "loss=nan", "burst=5%", "burst=1:2:3:4:5", "burst=a:b", "queue=10x", "queue=-5", "mtu=1.5",
        "blackhole=yes", "speed=5", "=5", "rate=5mbit delay",
    ])
    func malformedSettingsAreRefused(text: String) {
        #expect(throws: EmulationTextError.self) { try PathConditions(text) }
    }

    @Test func everyKeyIsRead() throws {
        let conditions = try PathConditions(
            """
            rate=50mbit overhead=20 queue=64000 delay=10ms jitter=250us loss=5% burst=1%:20%:90%:0.5% duplicate=2
            reorder=0.1% reorder-delay=1.5s mtu=1400 blackhole=on
            """)
        var expected = PathConditions()
        expected.rate = 50_000_000
        expected.overhead = 20
        expected.queue = .bytes(64000)
        expected.delay = 10_000_000
        expected.jitter = 250_000
        expected.loss = 0.05
        expected.burstLoss = BurstLoss(enter: 0.01, leave: 0.2, lossWhileBad: 0.9, lossWhileGood: 0.005)
        expected.duplicate = 0.02
        expected.reorder = 0.001
        expected.reorderDelay = 1_500_000_000
        expected.mtu = 1400
        expected.blackhole = true
        #expect(conditions == expected)
    }

    @Test func queuesAreBytesPacketsOrTime() throws {
        #expect(try PathConditions("queue=50p").queue == .packets(50))
        #expect(try PathConditions("queue=20ms").queue == .duration(20_000_000))
        #expect(try PathConditions("burst=1:50,burst=off").burstLoss == nil)
    }

    @Test(arguments: [
        ("x both rate=1mbit", 1), ("5 both rate=1mbit\n4 both rate=2mbit", 2), ("0 sideways rate=1mbit", 1),
        ("0 both rate=1mbit\n\n# comment\n7 ab rate=x", 4), ("0 loop", 1), ("5 loop\n6 both loss=1", 2), ("5", 1),
    ])
    func malformedTimelinesNameTheLine(text: String, line: Int) {
        let error = #expect(throws: EmulationTextError.self) { try EmulationTimeline(text) }
        guard case .badLine(let number, _) = error else {
            Issue.record("no line number in \(String(describing: error))")
            return
        }
        #expect(number == line)
    }

    @Test func timelineGivesChangesInOrderAndRepeats() throws {
        let timeline = try EmulationTimeline(
            """
            # alternate
            0    both rate=20mbit
            5000 ab   rate=10mbit loss=1%   # worse
            10000 loop
            """)
        var cursor = EmulationTimeline.Cursor()
        let ms: UInt64 = 1_000_000
        #expect(timeline.take(&cursor, elapsed: 0) == PathChange(.both, [.rate(20_000_000)]))
        #expect(timeline.take(&cursor, elapsed: 4999 * ms) == nil)
        #expect(timeline.nextTime(cursor) == 5000 * ms)
        #expect(timeline.take(&cursor, elapsed: 5000 * ms) == PathChange(.ab, [.rate(10_000_000), .loss(0.01)]))
        #expect(timeline.nextTime(cursor) == 10000 * ms)
        #expect(timeline.take(&cursor, elapsed: 9999 * ms) == nil)
        #expect(timeline.take(&cursor, elapsed: 10000 * ms)?.settings == [.rate(20_000_000)])
        #expect(timeline.nextTime(cursor) == 15000 * ms)
    }

    @Test func timelineWithoutLoopEnds() throws {
        let timeline = try EmulationTimeline("3 ba blackhole=on")
        var cursor = EmulationTimeline.Cursor()
        #expect(timeline.take(&cursor, elapsed: 10_000_000)?.direction == .ba)
        #expect(timeline.nextTime(cursor) == nil)
        #expect(timeline.take(&cursor, elapsed: .max) == nil)
    }
}
