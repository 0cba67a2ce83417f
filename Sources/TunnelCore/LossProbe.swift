/// Sender's side of finding out what a link loses before it is used: small datagrams, a few at a time, which the peer counts
/// in its reports like all others (``PathReports``). A TCP flow that begins on a lossy link takes long to recover from it.
public struct LossProbe: BitwiseCopyable, Sendable {
    /// When the next are due; .max: none are.
    public private(set) var dueAt = Int64.max
    private var left = Self.count

    /// So many tell a loss of one percent from none.
    private static let count = 300
    private static let atOnce = 10
    private static let distance = 100 * millisecond

    public init() {}

    /// Sends them from now on, unless that was begun before.
    public mutating func begin(_ now: Int64) { if left == Self.count, dueAt == .max { dueAt = now } }

    /// How many are to be sent now.
    public mutating func next(now: Int64) -> Int {
        guard now >= dueAt else { return 0 }
        left -= Self.atOnce
        dueAt = left > 0 ? now + Self.distance : .max
        return Self.atOnce
    }
}
