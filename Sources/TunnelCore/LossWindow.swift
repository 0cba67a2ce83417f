/// Gaps among a link's last 64 sequence numbers (wire-v1.md, Session).
public struct LossWindow: BitwiseCopyable, Sendable {
    private var bits: UInt64 = .max
    private var highest: UInt64 = 0
    private var isEmpty = true

    public init() {}

    /// A jump of more than 64, and the first number, mean "no loss".
    public mutating func note(_ sequence: UInt64) {
        if isEmpty || sequence > highest && sequence - highest > 64 {
            bits = .max
            highest = sequence
            isEmpty = false
        } else if sequence > highest {
            // Shifting by 64 gives 0.
            bits = bits << (sequence - highest) | 1
            highest = sequence
        } else if highest - sequence < 64 {
            bits |= 1 << (highest - sequence)
        }
    }

    public mutating func reset() { self = LossWindow() }

    /// 0 to 1000.
    public var permille: Int { (64 - bits.nonzeroBitCount) * 1000 / 64 }
}
