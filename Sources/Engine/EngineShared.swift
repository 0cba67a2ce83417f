import CLinux
import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import Synchronization
import TunnelModel

/// What all workers share. Nothing here is touched per packet.
final class EngineShared: Sendable {
    let state: MappedState
    let log: Logger
    /// For the supervisor, taken by the main thread; the descriptor wakes it.
    private let notices = Mutex<[EngineNotice]>([])
    private let noticeWake: Int32
    /// An eventfd of control's, written at events.
    private let controlWake: Int32
    private let events = Mutex<Void>(())
    /// With each, whether it is a server's.
    private let flows = Mutex<[UInt32: Bool]>([:])
    let spareSlots = SpareSlots()

    init(state: MappedState, log: Logger, noticeWake: Int32, controlWake: Int32) {
        self.state = state
        self.log = log
        self.noticeWake = noticeWake
        self.controlWake = controlWake
    }

    // MARK: Flow ids

    /// A flow_id that nothing in this process uses.
    func takeFlowID(isServer: Bool) -> UInt32 {
        flows.withLock { taken in
            var generator = SystemRandomNumberGenerator()
            var id = generator.next() as UInt32
            while taken[id] != nil { id = generator.next() }
            taken[id] = isServer
            return id
        }
    }

    func noteFlowID(_ id: UInt32, isServer: Bool) { flows.withLock { $0[id] = isServer } }
    func releaseFlowID(_ id: UInt32) { flows.withLock { _ = $0.removeValue(forKey: id) } }

    /// Whether a datagram that came to a server, or to a client, is one of our own that somebody sent back. A server and a
    /// client of one process may well be each other's peers.
    func isReflected(_ id: UInt32, toServer: Bool) -> Bool { flows.withLock { $0[id] == toServer } }

    // MARK: Notices and events

    func post(_ notice: EngineNotice) {
        notices.withLock { $0.append(notice) }
        wake(noticeWake)
    }

    func takeNotices() -> [EngineNotice] {
        notices.withLock { waiting in
            defer { waiting.removeAll(keepingCapacity: true) }
            return waiting
        }
    }

    /// Puts a change of state into the ring that control reads.
    func record(_ event: StateMap.Event) {
        events.withLock { _ in
            let header = state.header
            var event = event
            event.number = header.pointee.eventCount &+ 1
            state.event(event.number).pointee = event
            if let count = header.pointer(to: \.eventCount) { clinux_store_release(count, event.number) }
        }
        wake(controlWake)
    }

    private func wake(_ descriptor: Int32) {
        guard descriptor >= 0 else { return }
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }
}
