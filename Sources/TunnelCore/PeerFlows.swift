import TunnelCrypto

/// What is remembered of one flow_id of the peer's: which of its datagrams came already.
public struct PeerFlow: BitwiseCopyable, Sendable {
    public var id: UInt32 = 0
    public var isUsed = false
    /// The peer said DISCONNECT in this flow, and nothing since.
    public var isDisconnected = false
    public var lastHeard: Int64 = 0
    public var window = ReplayWindow()
}

/// A link's last 16 flows (wire-v1.md, What v1 leaves open: Replay).
public struct PeerFlows: BitwiseCopyable, Sendable {
    public static let capacity = 16
    /// A flow that was silent for so long may be followed by another.
    static let takeoverSilence = 3 * second
    public private(set) var current: Int = -1
    public var entries = InlineArray<16, PeerFlow>(repeating: PeerFlow())

    public init() {}

    @inlinable
    public mutating func find(_ id: UInt32) -> Int? {
        if current >= 0, entries[current].id == id { return current }
        for index in 0..<Self.capacity where entries[index].isUsed && entries[index].id == id { return index }
        return nil
    }

    /// Whether a new flow may take the link over: the present one has disconnected or been silent for 3 s.
    public mutating func mayBeTakenOver(now: Int64) -> Bool {
        current < 0 || entries[current].isDisconnected || now - entries[current].lastHeard >= Self.takeoverSilence
    }

    /// Makes a known flow the present one.
    public mutating func select(_ index: Int) { current = index }

    /// Remembers a new flow in the place of the one not heard for longest, and makes it the present one.
    public mutating func adopt(_ id: UInt32, now: Int64) -> Int {
        var oldest = 0
        for index in 0..<Self.capacity {
            if !entries[index].isUsed {
                oldest = index
                break
            }
            if entries[index].lastHeard < entries[oldest].lastHeard { oldest = index }
        }
        entries[oldest] = PeerFlow()
        entries[oldest].id = id
        entries[oldest].isUsed = true
        entries[oldest].lastHeard = now
        current = oldest
        return oldest
    }
}
