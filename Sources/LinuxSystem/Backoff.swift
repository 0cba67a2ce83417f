/// How long to wait before the next attempt: a first delay, doubled for each failure up to a limit.
public struct Backoff: Equatable, Sendable {
    private let first: UInt64
    private let limit: UInt64
    private var next: UInt64

    /// Nanoseconds.
    public init(first: UInt64, limit: UInt64) {
        self.first = first
        self.limit = limit
        next = first
    }

    /// The delay before the attempt that follows a failure.
    public mutating func failed() -> UInt64 {
        defer { next = min(limit, next * 2) }
        return min(next, limit)
    }

    public mutating func succeeded() { next = first }
}
