/// Fixed slots for packets that must outlive the buffer they were received into. Owned by one worker.
///
/// Grows by slabs up to its limit and keeps what it has; bounded for the whole worker, so that no tunnel's disorder can
/// take another's memory beyond it.
struct PacketPool: ~Copyable {
    /// Holds the largest inner packet.
    static let slotSize = 1536
    private static let slabSlots = 64

    private var free: [UnsafeMutableRawPointer] = []
    private var slabs: [UnsafeMutableRawPointer] = []
    private let maximumSlabs: Int

    init(maximumBytes: Int) {
        maximumSlabs = max(1, maximumBytes / (Self.slotSize * Self.slabSlots))
    }

    deinit { for slab in slabs { slab.deallocate() } }

    /// A slot of ``slotSize`` bytes, or nil at the limit.
    mutating func take() -> UnsafeMutableRawPointer? {
        if let slot = free.popLast() { return slot }
        guard slabs.count < maximumSlabs else { return nil }
        let slab = UnsafeMutableRawPointer.allocate(byteCount: Self.slotSize * Self.slabSlots, alignment: 64)
        slabs.append(slab)
        for index in 1..<Self.slabSlots { free.append(slab + index * Self.slotSize) }
        return slab
    }

    mutating func give(_ slot: UnsafeMutableRawPointer) { free.append(slot) }
}
