/// Which sequence numbers of a flow have been seen: a bitmap of 2048, shifted by whole words (RFC 6479).
@frozen
public struct ReplayWindow: BitwiseCopyable, Sendable {
    /// Numbers so far below the highest, and further, are refused: a word less than the bitmap, the highest's being partly
    /// in use.
    public static let reach: UInt64 = 2048 - 64

    @usableFromInline var bits: InlineArray<32, UInt64>
    /// The highest number accepted; meaningless while ``isEmpty``.
    public private(set) var highest: UInt64
    public private(set) var isEmpty: Bool

    public init() {
        bits = InlineArray(repeating: 0)
        highest = 0
        isEmpty = true
    }

    /// Whether `sequence` has not been seen and is not too old to know.
    @inlinable
    public mutating func isFresh(_ sequence: UInt64) -> Bool {
        if isEmpty || sequence > highest { return true }
        if highest - sequence >= Self.reach { return false }
        return bits[Int(sequence >> 6 & 31)] & (1 << (sequence & 63)) == 0
    }

    /// Marks an authenticated `sequence` as seen. False when it is not fresh. What lies below the first is not: it was sent
    /// before we listened, and may have been taken by who listened then.
    public mutating func accept(_ sequence: UInt64) -> Bool {
        if isEmpty {
            isEmpty = false
            highest = sequence
            bits = InlineArray(repeating: .max)
            bits[Int(sequence >> 6 & 31)] = (1 << (sequence & 63)) - 1
        } else if sequence > highest {
            // Words between the old and the new highest are reused: clear them.
            let steps = min(sequence >> 6 - highest >> 6, 32)
            var word = highest >> 6
            for _ in 0..<steps {
                word &+= 1
                bits[Int(word & 31)] = 0
            }
            highest = sequence
        } else if !isFresh(sequence) {
            return false
        }
        bits[Int(sequence >> 6 & 31)] |= 1 << (sequence & 63)
        return true
    }
}
