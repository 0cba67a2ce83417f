import Synchronization

/// Fixed slots for packets that must outlive the buffer they were received into. Owned by one worker.
///
/// Grows by slabs up to its limit and keeps what it has; bounded for the whole worker, so that no tunnel's disorder can
/// take another's memory beyond it.
///
/// Tunnels take slots with them to other workers, so a pool may come to have more than its share, and another less: what
/// is too much here goes through ``SpareSlots``.
struct PacketPool: ~Copyable {
    /// Holds the largest inner packet with what the cipher needs around it.
    static let slotSize = 1536
    private static let slabSlots = 64

    private var free: [UnsafeMutableRawPointer] = []
    private var slabs: [UnsafeMutableRawPointer] = []
    private let maximumSlabs: Int
    private let spare: SpareSlots

    init(maximumBytes: Int, spare: SpareSlots) {
        self.spare = spare
        maximumSlabs = max(1, maximumBytes / (Self.slotSize * Self.slabSlots))
    }

    deinit { for slab in slabs { slab.deallocate() } }

    /// A slot of ``slotSize`` bytes, or nil at the limit.
    mutating func take() -> UnsafeMutableRawPointer? {
        if let slot = free.popLast() { return slot }
        guard slabs.count < maximumSlabs else {
            spare.take(Self.slabSlots, to: &free)
            return free.popLast()
        }
        let slab = UnsafeMutableRawPointer.allocate(byteCount: Self.slotSize * Self.slabSlots, alignment: 64)
        slabs.append(slab)
        for index in 1..<Self.slabSlots { free.append(slab + index * Self.slotSize) }
        return slab
    }

    mutating func give(_ slot: UnsafeMutableRawPointer) {
        free.append(slot)
        if free.count > maximumSlabs * Self.slabSlots { spare.give(Self.slabSlots, from: &free) }
    }
}

/// Slots that one worker's pool has too many of, for those that have too few.
final class SpareSlots: Sendable {
    /// As numbers: pointers are not sent between threads.
    private let slots = Mutex<[UInt]>([])

    func give(_ count: Int, from free: inout [UnsafeMutableRawPointer]) {
        let given = free.suffix(count).map { UInt(bitPattern: $0) }
        free.removeLast(given.count)
        slots.withLock { $0.append(contentsOf: given) }
    }

    func take(_ count: Int, to free: inout [UnsafeMutableRawPointer]) {
        let taken = slots.withLock { slots in
            defer { slots.removeLast(min(count, slots.count)) }
            return Array(slots.suffix(count))
        }
        free.append(contentsOf: taken.compactMap { UnsafeMutableRawPointer(bitPattern: $0) })
    }
}
