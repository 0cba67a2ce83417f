import Testing
import TunnelCore

@Suite("Round-trip time")
struct RoundTripTests {
    @Test(arguments: [-1, Int64.min, 5_000_000, 5_000_001, Int64.max])
    func `what is no measurement changes nothing`(sample: Int64) {
        var roundTrip = RoundTrip()
        roundTrip.add(sample, now: second)
        #expect(!roundTrip.hasSample)
        #expect(roundTrip.minimum == .max)
        roundTrip.add(30_000, now: second)
        roundTrip.add(sample, now: second)
        #expect(roundTrip.smoothed == 30_000)
        #expect(roundTrip.variation == 15_000)
    }

    @Test func `the first sample is taken as it is, and half of it as variation`() {
        var roundTrip = RoundTrip()
        roundTrip.add(4_999_999, now: second)
        #expect(roundTrip.hasSample)
        #expect(roundTrip.smoothed == 4_999_999)
        #expect(roundTrip.variation == 2_499_999)
    }

    @Test func `later samples weigh an eighth and a quarter, the variation by the average before`() {
        var roundTrip = RoundTrip()
        roundTrip.add(80_000, now: second)
        roundTrip.add(160_000, now: 2 * second)
        // RFC 6298 (2.3): RTTVAR = 3/4 · 40 + 1/4 · |80 - 160|; SRTT = 7/8 · 80 + 1/8 · 160.
        #expect(roundTrip.variation == 50_000)
        #expect(roundTrip.smoothed == 90_000)
    }

    @Test func `follows RFC 6298 in floating point`() {
        var random = SeededRandom(seed: 5)
        var roundTrip = RoundTrip()
        var smoothed = 0.0
        var variation = 0.0
        for step in 0..<2000 {
            let sample = Double(random.number(0...4_999_999))
            if step == 0 {
                smoothed = sample
                variation = sample / 2
            } else {
                variation = 0.75 * variation + 0.25 * abs(smoothed - sample)
                smoothed = 0.875 * smoothed + 0.125 * sample
            }
            roundTrip.add(Int64(sample), now: Int64(step) * second)
            #expect(abs(Double(roundTrip.smoothed) - smoothed) < 16)
            #expect(abs(Double(roundTrip.variation) - variation) < 32)
        }
    }

    @Test func `the minimum is that of the last 30 to 60 seconds`() {
        var roundTrip = RoundTrip()
        roundTrip.add(10_000, now: 100 * second)
        roundTrip.add(50_000, now: 131 * second)
        #expect(roundTrip.minimum == 10_000)
        roundTrip.add(50_000, now: 162 * second)
        #expect(roundTrip.minimum == 50_000)
    }

    @Test func `a minimum of before a long silence is forgotten`() {
        var roundTrip = RoundTrip()
        roundTrip.add(10_000, now: 100 * second)
        roundTrip.add(50_000, now: 400 * second)
        #expect(roundTrip.minimum == 50_000)
    }
}
