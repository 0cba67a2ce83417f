import ProcessChannel

/// Hands out indices of the state map. One that was given back is used again as late as possible, so that whoever still
/// looks at it sees an old record rather than a stranger's.
struct SlotPool {
    private let capacity: UInt32
    private var unused: UInt32 = 0
    private var returned: [Slot] = []
    private var firstReturned = 0

    init(capacity: Int) { self.capacity = UInt32(capacity) }

    /// Nil when all are taken.
    mutating func take() -> Slot? {
        if unused < capacity {
            defer { unused += 1 }
            return unused
        }
        guard firstReturned < returned.count else { return nil }
        defer {
            firstReturned += 1
            if firstReturned == returned.count {
                returned = []
                firstReturned = 0
            }
        }
        return returned[firstReturned]
    }

    mutating func giveBack(_ slot: Slot) { returned.append(slot) }
}
