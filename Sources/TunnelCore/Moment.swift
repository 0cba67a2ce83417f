/// An instant as the caller's clocks tell it: the core reads no clock.
public struct Moment: BitwiseCopyable, Sendable {
    /// Monotonic, counting sleep too (CLOCK_BOOTTIME): nothing but differences counts.
    public var nanoseconds: Int64
    /// Milliseconds since 1970, for people; it may step.
    public var wallMilliseconds: Int64

    @inlinable
    public init(nanoseconds: Int64, wallMilliseconds: Int64) {
        self.nanoseconds = nanoseconds
        self.wallMilliseconds = wallMilliseconds
    }

    /// The 16-bit millisecond clock of the wire, which never shows 65535 (wire-v1.md, Datagram).
    @inlinable
    public var wireTimestamp: UInt16 {
        let stamp = UInt16(truncatingIfNeeded: nanoseconds / 1_000_000)
        return stamp == 0xffff ? 0 : stamp
    }

    /// The wall clock's time of an earlier instant of the monotonic one.
    public func wallTime(of earlier: Int64) -> Int64 {
        wallMilliseconds - max(0, nanoseconds - earlier) / 1_000_000
    }
}

public let second: Int64 = 1_000_000_000
public let millisecond: Int64 = 1_000_000
