/// How many flows share a tunnel, as far as it matters: those that carry much of it. From samples of its packets.
public struct FlowCount: BitwiseCopyable, Sendable {
    private var buckets = InlineArray<64, Double>(repeating: 0)
    private var fadedAt: Int64 = 0

    private static let fading = 100 * millisecond

    public init() {}

    /// The flow's hash: its upper bits tell flows apart.
    public mutating func note(_ flow: UInt32, bytes: Int) { buckets[Int(flow >> 26)] += Double(bytes) }

    /// As many equal flows as would be spread as these are; 1 at least. What was noted fades within a second.
    public mutating func count(now: Int64) -> Double {
        var sum: Double = 0
        var squares: Double = 0
        let isDue = now - fadedAt >= Self.fading
        for index in buckets.indices {
            sum += buckets[index]
            squares += buckets[index] * buckets[index]
            if isDue { buckets[index] *= 0.8 }
        }
        if isDue { fadedAt = now }
        return squares > 0 ? max(1, sum * sum / squares) : 1
    }
}
