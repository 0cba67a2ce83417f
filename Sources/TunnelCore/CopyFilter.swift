/// Tells the second copy of a packet from the first by its data_seq, for peers that send on several links at once
/// (wire-v1.md, What v1 leaves open: Extensions).
///
/// data_seq is not authenticated: a number far ahead only moves the window, and what is older than the window counts as
/// new, so that the worst a forger gets is a copy delivered twice. Memory is fixed: 2 KiB.
public struct CopyFilter: ~Copyable {
    /// Packets that the slowest copy may come after the fastest one.
    public static let width: UInt64 = 16384

    private let words: UnsafeMutablePointer<UInt64>
    private var highest: UInt64 = 0
    private var isStarted = false

    public init() {
        words = .allocate(capacity: Int(Self.width / 64))
        words.initialize(repeating: 0, count: Int(Self.width / 64))
    }

    deinit { words.deallocate() }

    /// Whether this number came before; it has come now.
    public mutating func isCopy(_ sequence: UInt64) -> Bool {
        guard isStarted, sequence <= highest else {
            advance(to: sequence)
            return false
        }
        guard highest - sequence < Self.width else { return false }
        let word = words + index(sequence)
        let bit: UInt64 = 1 << (sequence & 63)
        defer { word.pointee |= bit }
        return word.pointee & bit != 0
    }

    /// The peer counts anew.
    public mutating func restart() { isStarted = false }

    private func index(_ sequence: UInt64) -> Int { Int(truncatingIfNeeded: sequence & (Self.width - 1)) >> 6 }

    private mutating func advance(to sequence: UInt64) {
        if !isStarted || sequence - highest >= Self.width {
            words.update(repeating: 0, count: Int(Self.width / 64))
        } else {
            // Bit by bit to a word's end, then whole words: the numbers passed over have not come.
            var next = highest &+ 1
            var left = sequence - highest
            while left > 0 {
                let word = words + index(next)
                let isWhole = next & 63 == 0 && left >= 64
                word.pointee &= isWhole ? 0 : ~(1 << (next & 63))
                next &+= isWhole ? 64 : 1
                left -= isWhole ? 64 : 1
            }
        }
        isStarted = true
        highest = sequence
        words[index(sequence)] |= 1 << (sequence & 63)
    }
}
