import TunnelWire

/// Receiver's side of a link's measurement: counts what comes, for the reports that its peer paces by.
public struct LinkMeter: BitwiseCopyable, Sendable {
    private var highest: UInt64 = 0
    private var packets: UInt64 = 0
    private var bytes: UInt64 = 0
    private var lastArrival: Int64 = 0
    private var delay: UInt16 = 0
    private var minimumDelay: UInt16 = 0
    private var hasMinimum = false
    private var owesReport = false
    private var lastReport: Int64 = 0

    /// Reports follow each other at this distance while traffic flows.
    public static let interval = 20 * millisecond

    public init() {}

    /// An authenticated datagram of `size` bytes came in the present flow; `delay` is our millisecond clock less its
    /// timestamp. `wantsReport`: it is not itself a report, or two peers would report each other's reports for ever.
    public mutating func note(sequence: UInt64, size: Int, delay: UInt16, wantsReport: Bool, now: Int64) {
        if wantsReport { owesReport = true }
        packets &+= 1
        bytes &+= UInt64(size)
        highest = max(highest, sequence)
        lastArrival = now
        self.delay = delay
        if !hasMinimum || Int16(bitPattern: delay &- minimumDelay) < 0 {
            minimumDelay = delay
            hasMinimum = true
        }
    }

    /// When a report is due for what came since the last; .max: nothing came.
    public var deadline: Int64 { owesReport ? lastReport + Self.interval : .max }

    /// The report that is sent now.
    public mutating func takeReport(now: Int64) -> ReceiverReport {
        lastReport = now
        owesReport = false
        hasMinimum = false
        return ReceiverReport(
            highestSequence: highest, packets: packets, bytes: bytes,
            time: UInt32(truncatingIfNeeded: lastArrival / 1000), delay: delay, minimumDelay: minimumDelay)
    }
}
