import CLinux
import ProcessChannel
import TunnelModel

/// Reads what the engine shows of itself. Nothing in the map is trusted: indices are checked, numbers are only numbers.
struct StateReader: Sendable {
    let state: MappedState

    /// Events written so far.
    var eventCount: UInt64 {
        clinux_load_acquire(Self.field(state.base, MemoryLayout<StateMap.Header>.offset(of: \.eventCount)))
    }

    var header: StateMap.Header { state.header.pointee }

    /// Nil for a slot outside the map, or while the engine has not taken the tunnel up.
    func tunnel(_ slot: Slot) -> StateMap.TunnelRecord? {
        guard let record = state.tunnel(slot)?.pointee, record.generation != 0 else { return nil }
        return record
    }

    /// Nil for a slot outside the map, or while the engine has not taken the link up.
    func link(_ slot: Slot) -> StateMap.LinkRecord? {
        guard let record = state.link(slot)?.pointee, record.generation != 0 else { return nil }
        return record
    }

    struct Events {
        var events: [StateMap.Event] = []
        /// How many have been read now, in all.
        var read: UInt64
        /// How many were overwritten before they could be read.
        var lost: UInt64 = 0
    }

    /// The events after the first `read`.
    func events(after read: UInt64) -> Events {
        let count = eventCount
        // A count that went back is that of another map: begin with it.
        var next = count < read ? 0 : read
        var result = Events(read: count)
        let capacity = UInt64(StateMap.eventCapacity)
        if count - next > capacity {
            result.lost = count - next - capacity
            next = count - capacity
        }
        while next < count {
            next += 1
            let slot = state.event(next)
            let event = slot.pointee
            let number = clinux_load_acquire(
                Self.field(UnsafeMutableRawPointer(slot), MemoryLayout<StateMap.Event>.offset(of: \.number)))
            // Overtaken while it was copied.
            if event.number == next && number == next { result.events.append(event) } else { result.lost += 1 }
        }
        return result
    }

    private static func field(_ base: UnsafeMutableRawPointer, _ offset: Int?) -> UnsafeMutablePointer<UInt64> {
        (base + (offset ?? 0)).assumingMemoryBound(to: UInt64.self)
    }
}

extension StateMap.LinkRecord {
    /// Nil for a number that is no state.
    var linkState: LinkState? { LinkState(rawValue: state) }
}
