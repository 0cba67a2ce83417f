/// Flows that send so little that they need not wait for a bond's other traffic to be put in order: names, handshakes,
/// keystrokes, speech.
///
/// What such a flow sends goes the way on which it arrives first, and is handed out when it comes: nothing of its own is
/// late, since nothing of it goes another way (data_seq and the reorder flag: wire-v1.md, Tunnel). A flow that sends more is
/// put in order with the rest, and for so long after that all of it has come.
///
/// Flows share an entry where their hashes meet: then they count as one.
struct SparseFlows: ~Copyable {
    /// Bytes that a flow sends at once, and in a second, at most.
    static let burst: Int64 = 4500
    static let bytesPerSecond: Int64 = 32_000
    /// What it has sent counts as so many bytes at most: a second's.
    private static let most: Int64 = 32_000
    /// Packets of a flow closer than this go the same way, milliseconds.
    private static let closest: Int64 = 8

    private static let flowBits: UInt32 = 9

    private struct Flow: BitwiseCopyable {
        /// Milliseconds, modulo 2^32.
        var last: UInt32 = 0
        /// Bytes, less by what it may send since.
        var used: UInt16 = 0
        var isOrdered = false
        var link: UInt8 = 0
    }

    /// Allocated by the first packet: most tunnels of a concentrator are idle.
    private var flows: UnsafeMutablePointer<Flow>?

    init() {}

    deinit { flows?.deallocate() }

    /// Counts a packet of `bytes` of a flow, whose hash's upper bits tell it apart. Nil: it is to be put in order. Else the
    /// link that the flow's last packet took, if that is so short ago that this one is to take it, too; -1 if not.
    mutating func admit(_ flow: UInt32, bytes: Int, now: Int64) -> Int? {
        let entry = entry(of: flow)
        let time = UInt32(truncatingIfNeeded: now / millisecond)
        let elapsed = Int64(time &- entry.pointee.last)
        let used = max(0, Int64(entry.pointee.used) - elapsed * Self.bytesPerSecond / 1000)
        entry.pointee.last = time
        if entry.pointee.isOrdered, used > 0 {
            entry.pointee.used = UInt16(min(Self.most, used + Int64(bytes)))
            return nil
        }
        guard used + Int64(bytes) <= Self.burst else {
            order(flow)
            return nil
        }
        entry.pointee.used = UInt16(used + Int64(bytes))
        entry.pointee.isOrdered = false
        return elapsed < Self.closest ? Int(entry.pointee.link) : -1
    }

    /// A packet that was admitted takes this link.
    mutating func note(_ flow: UInt32, link: Int) { entry(of: flow).pointee.link = UInt8(truncatingIfNeeded: link) }

    /// What the flow sends is put in order, until it sends less for about a second.
    mutating func order(_ flow: UInt32) {
        let entry = entry(of: flow)
        entry.pointee.isOrdered = true
        entry.pointee.used = UInt16(Self.most)
    }

    private mutating func entry(of flow: UInt32) -> UnsafeMutablePointer<Flow> {
        let place = Int(flow >> (32 - Self.flowBits))
        if let flows { return flows + place }
        let new = UnsafeMutablePointer<Flow>.allocate(capacity: 1 << Self.flowBits)
        new.initialize(repeating: Flow(), count: 1 << Self.flowBits)
        flows = new
        return new + place
    }
}
