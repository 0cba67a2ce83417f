import Testing

@testable import Control

@Suite struct ClockCheckTests {
    private static let noon: Int64 = 1_710_072_000_000
    private static let minute: Int64 = 60_000

    /// Every minute, so many times; the last answer.
    private func look(_ check: inout ClockCheck, _ minutes: Range<Int64>, ahead: Int64 = 0) -> Bool {
        var answer = false
        for minute in minutes {
            answer = check.isBelievable(
                wall: Self.noon + minute * Self.minute + ahead, system: 5000 + minute * Self.minute)
        }
        return answer
    }

    @Test func aClockIsBelievedOnceItHasGoneEvenlyForAnHour() {
        var check = ClockCheck()
        #expect(!look(&check, 0..<60))
        #expect(look(&check, 60..<62))
    }

    @Test(arguments: [14 * 365 * 86_400_000, -2 * 86_400_000] as [Int64])
    func aClockThatLeapsIsNotBelievedForAnHour(leap: Int64) {
        var check = ClockCheck()
        #expect(look(&check, 0..<100))
        #expect(!look(&check, 100..<101, ahead: leap))
        #expect(!look(&check, 101..<161))
        #expect(look(&check, 161..<162))
    }

    @Test func aClockThatIsCorrectedByMinutesIsBelieved() {
        var check = ClockCheck()
        #expect(look(&check, 0..<100))
        #expect(look(&check, 100..<101, ahead: 3_600_000))
    }
}
