/// A cap on what a link is given: a bucket of tokens that may be overdrawn by one run of datagrams.
public struct RateLimit: BitwiseCopyable, Sendable {
    /// Bytes per second that may not be exceeded; 0: no cap.
    public var bytesPerSecond: Double = 0
    private var tokens: Double = 0
    private var filledAt: Int64 = 0

    /// What went past the cap (filters do not wait) is not held against the rest for longer, in seconds at the cap's rate.
    private static let mostDebt = 0.1

    public init() {}

    public var isSet: Bool { bytesPerSecond > 0 }

    public mutating func refill(now: Int64) {
        guard isSet else { return }
        let elapsed = min(max(0, now - filledAt), second)
        filledAt = now
        tokens = min(tokens + bytesPerSecond * Double(elapsed) / 1e9, max(3000, bytesPerSecond * 0.002))
    }

    /// Whether something may be sent now, of any size.
    public var isOpen: Bool { !isSet || tokens > 0 }

    public mutating func sent(_ bytes: Int) {
        if isSet { tokens = max(tokens - Double(bytes), -debt) }
    }

    /// Whether the cap is exceeded by as much as is let pass: what cannot wait is not to be sent.
    public var isExceeded: Bool { isSet && tokens <= -debt }

    private var debt: Double { max(65_536, min(bytesPerSecond, 1e12) * Self.mostDebt) }

    /// When it will be open.
    public func nextOpening(now: Int64) -> Int64 {
        // A fraction of a millisecond more, so that a wake-up sends a burst and not a packet.
        isOpen ? now : now + Int64((1 - tokens) / max(bytesPerSecond, 1000) * 1e9) + millisecond / 2
    }
}
