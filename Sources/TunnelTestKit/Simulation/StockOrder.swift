import TunnelCore

/// Stock MLVPN's reorder buffer, as far as it matters to a sender: gaps last until the window overflows or nothing
/// arrives for a while (wire-v1.md, Tunnel).
struct StockOrder {
    private let size: UInt64
    private var expected: UInt64 = 1
    private var held: Set<UInt64> = []
    private(set) var deadline = Int64.max

    private let patience: Int64

    /// `slowest`: one-way delay of the slowest line. Stock waits for 2.2 times a round trip and four times its variation.
    init(size: Int, slowest: Int64) {
        self.size = UInt64(max(0, size))
        patience = (2 * slowest + 10 * millisecond) * 22 / 10
    }

    /// What is delivered when `sequence` arrives, in this order.
    mutating func insert(_ sequence: UInt64, now: Int64) -> [UInt64] {
        guard size > 0, sequence >= expected else { return [sequence] }
        held.insert(sequence)
        var released: [UInt64] = []
        if sequence - expected >= size { released = release(below: sequence - size + 1) }
        while held.remove(expected) != nil {
            released.append(expected)
            expected += 1
        }
        deadline = held.isEmpty ? .max : now + patience
        return released
    }

    /// Nothing came for a while: all that is held.
    mutating func expire() -> [UInt64] {
        deadline = .max
        return release(below: (held.max() ?? expected) + 1)
    }

    private mutating func release(below end: UInt64) -> [UInt64] {
        let released = held.filter { $0 < end }.sorted()
        held.subtract(released)
        expected = end
        return released
    }
}
