/// A first-in, first-out list of elements of one array, linked by their indices: nothing is allocated to queue something.
struct Chain: BitwiseCopyable {
    static let none: Int32 = -1

    var first = Chain.none
    var last = Chain.none

    var isEmpty: Bool { first == Self.none }
}

protocol ChainElement: BitwiseCopyable {
    /// Index of the next element of the same chain, or ``Chain/none``.
    var next: Int32 { get set }
}

extension UnsafeMutableBufferPointer where Element: ChainElement {
    /// The element must be in no chain.
    func append(_ index: Int32, to chain: inout Chain) {
        self[Int(index)].next = Chain.none
        if chain.isEmpty {
            chain.first = index
        } else {
            self[Int(chain.last)].next = index
        }
        chain.last = index
    }

    func removeFirst(from chain: inout Chain) -> Int32? {
        guard !chain.isEmpty else { return nil }
        let index = chain.first
        chain.first = self[Int(index)].next
        if chain.isEmpty { chain.last = Chain.none }
        return index
    }
}
