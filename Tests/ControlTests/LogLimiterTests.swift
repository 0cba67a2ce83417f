import Testing

@testable import Control

@Suite struct LogLimiterTests {
    @Test func aFloodIsCutAndCounted() {
        let limiter = LogLimiter(perMinute: 3)
        let start: UInt64 = 100_000_000_000
        let admitted = (0..<100).map { limiter.admit(now: start + $0) }
        #expect(admitted.prefix(3).elementsEqual([0, 0, 0]))
        #expect(admitted.dropFirst(3).allSatisfy { $0 == nil })
        // A minute later one is written again, and tells of the others.
        #expect(limiter.admit(now: start + 60_000_000_000) == 97)
        #expect(limiter.admit(now: start + 60_000_000_001) == 0)
    }
}
