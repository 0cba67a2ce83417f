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
    private let flows = Mutex<Set<UInt32>>([])
    let spareSlots = SpareSlots()

    init(state: MappedState, log: Logger, noticeWake: Int32, controlWake: Int32) {
        self.state = state
        self.log = log
        self.noticeWake = noticeWake
        self.controlWake = controlWake
    }

    // MARK: Flow ids

    /// A flow_id that nothing in this process uses.
    func takeFlowID() -> UInt32 {
        flows.withLock { taken in
            var generator = SystemRandomNumberGenerator()
            var id = generator.next() as UInt32
            while !taken.insert(id).inserted { id = generator.next() }
            return id
        }
    }

    func noteFlowID(_ id: UInt32) { flows.withLock { _ = $0.insert(id) } }
    func releaseFlowID(_ id: UInt32) { flows.withLock { _ = $0.remove(id) } }
    func isOwnFlow(_ id: UInt32) -> Bool { flows.withLock { $0.contains(id) } }

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
