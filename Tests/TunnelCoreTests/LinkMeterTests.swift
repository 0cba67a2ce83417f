import Testing
import TunnelCore
import TunnelWire

struct LinkMeterTests {
    @Test func aReportTellsWhatCame() {
        var meter = LinkMeter()
        #expect(meter.deadline == .max)
        let start = 5 * second
        for (number, delay) in [UInt16(40), 25, 60].enumerated() {
            meter.note(
                sequence: 10 + UInt64(number), size: 1000, delay: delay, wantsReport: true,
                now: start + Int64(number) * millisecond)
        }
        // One that overtook another.
        meter.note(sequence: 9, size: 500, delay: 30, wantsReport: true, now: start + 3 * millisecond)
        #expect(meter.deadline <= start + 3 * millisecond)
        let report = meter.takeReport(now: start + 3 * millisecond)
        #expect(report.highestSequence == 12 && report.packets == 4 && report.bytes == 3500)
        #expect(report.delay == 30 && report.minimumDelay == 25)
        #expect(report.time == UInt32((start + 3 * millisecond) / 1000))
        // Nothing is owed until something comes; then at a distance. The least delay is that since the last report.
        #expect(meter.deadline == .max)
        meter.note(sequence: 13, size: 100, delay: 50, wantsReport: true, now: start + 4 * millisecond)
        #expect(meter.deadline == start + 3 * millisecond + LinkMeter.interval)
        let next = meter.takeReport(now: start + 23 * millisecond)
        #expect(next.packets == 5 && next.minimumDelay == 50)
    }

    @Test func reportsAloneAreNotReported() {
        var meter = LinkMeter()
        for number in 1...10 {
            meter.note(
                sequence: UInt64(number), size: 60, delay: 1, wantsReport: false, now: Int64(number) * second)
        }
        #expect(meter.deadline == .max)
    }

    @Test func theLeastDelayIsRightWhereTheClocksDifferenceWraps() {
        var meter = LinkMeter()
        for delay in [UInt16(3), 65_534, 1] {
            meter.note(sequence: 1, size: 60, delay: delay, wantsReport: true, now: second)
        }
        let report = meter.takeReport(now: second)
        #expect(report.minimumDelay == 65_534)
    }
}

struct FlowCountTests {
    /// Flows told apart by the upper six bits.
    private func flow(_ number: UInt32) -> UInt32 { number << 26 }

    @Test func equalFlowsAreCounted() {
        for flows in [1, 2, 8] as [UInt32] {
            var count = FlowCount()
            for _ in 0..<50 { for number in 0..<flows { count.note(flow(number), bytes: 1400) } }
            let found = count.count(now: second)
            #expect(abs(found - Double(flows)) < 0.01, "\(found) of \(flows)")
        }
    }

    @Test func whatCarriesLittleHardlyCounts() {
        var count = FlowCount()
        for _ in 0..<1000 { count.note(flow(1), bytes: 1400) }
        for number in 2..<20 { count.note(flow(UInt32(number)), bytes: 100) }
        let found = count.count(now: second)
        #expect(found >= 1 && found < 1.1, "\(found)")
    }

    @Test func aFlowThatEndsIsForgotten() {
        var count = FlowCount()
        let none = count.count(now: 0)
        #expect(none == 1)
        for _ in 0..<100 { count.note(flow(1), bytes: 1400) }
        var found = 0.0
        for tick in 1...30 as ClosedRange<Int64> {
            for _ in 0..<100 { count.note(flow(2), bytes: 1400) }
            found = count.count(now: tick * 100 * millisecond)
        }
        #expect(found < 1.1, "\(found)")
    }
}
