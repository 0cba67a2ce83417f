/// Round-trip time of a link, smoothed as RFC 6298 section 2 has it. Microseconds.
public struct RoundTrip: BitwiseCopyable, Sendable {
    public private(set) var smoothed: Int64 = 0
    public private(set) var variation: Int64 = 0
    public private(set) var hasSample = false
    /// The least seen in the present and the previous window of 30 s: the path without its queues.
    public private(set) var minimum: Int64 = .max
    private var currentMinimum: Int64 = .max
    private var previousMinimum: Int64 = .max
    private var windowStart: Int64 = 0

    public init() {}

    private static let window = 30 * second

    /// Samples of 5 s and more are no measurement (wire-v1.md, Session).
    public static let ceiling: Int64 = 5_000_000

    public mutating func add(_ sample: Int64, now: Int64) {
        guard sample >= 0, sample < Self.ceiling else { return }
        if hasSample {
            variation += (abs(smoothed - sample) - variation) / 4
            smoothed += (sample - smoothed) / 8
        } else {
            smoothed = sample
            variation = sample / 2
            hasSample = true
        }
        if now - windowStart > Self.window {
            previousMinimum = now - windowStart > 2 * Self.window ? .max : currentMinimum
            currentMinimum = .max
            windowStart = now
        }
        currentMinimum = min(currentMinimum, sample)
        minimum = min(currentMinimum, previousMinimum)
    }
}
