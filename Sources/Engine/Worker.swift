import CLinux
import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import Synchronization
import TunnelCore
import TunnelModel

/// What the main thread tells a worker.
enum WorkerCommand: Sendable {
    case define(slot: Slot, generation: UInt64, tunnel: CompiledTunnel, linkSlots: [LinkSlot])
    case device(slot: Slot, descriptor: Int32, features: DeviceFeatures)
    case socket(slot: Slot, linkSlot: Slot, descriptor: Int32)
    case peers(slot: Slot, linkSlot: Slot, addresses: [SocketAddress])
    case undefine(slot: Slot)
    /// Hand the tunnel to another worker.
    case move(slot: Slot, to: Worker)
    /// A tunnel is on its way here: what concerns it waits until then.
    case expect(slot: Slot)
    case adopt(slot: Slot, MovingTunnel?)
    case debug(slot: Slot, tokens: DebugTokens)
    /// Without `linkSlot`: the inner packets.
    case capture(slot: Slot, linkSlot: Slot?, descriptor: Int32, limits: CaptureLimits)
    case stop

    /// The tunnel that it concerns, if it may have to wait for it.
    var slot: Slot? {
        switch self {
        case .define(let slot, _, _, _), .device(let slot, _, _), .socket(let slot, _, _), .peers(let slot, _, _),
            .undefine(let slot), .move(let slot, _), .debug(let slot, _), .capture(let slot, _, _, _):
            slot
        case .expect, .adopt, .stop: nil
        }
    }
}

/// A tunnel on its way from one worker to another: neither touches it meanwhile.
struct MovingTunnel: @unchecked Sendable {
    let tunnel: TunnelRuntime
}

/// One thread with its epoll set, its buffers and its tunnels.
///
/// Each tunnel with something to do gets one turn per wake-up, bounded in bytes and packets (level-triggered epoll brings
/// back what is left over), so that a busy one cannot starve a quiet one.
final class Worker: @unchecked Sendable {
    let index: Int
    private let shared: EngineShared
    private let offloads: OffloadSwitches
    private let poller: Poller
    private let wake: EventFD
    private let inbox = Mutex<[WorkerCommand]>([])

    // The thread's own from here on.
    private let buffers: WorkerBuffers
    private var tunnels: [TunnelRuntime?] = []
    private var places: [Slot: Int] = [:]
    private var freePlaces: [Int] = []
    /// What each tunnel was woken for: links as bits, and the device.
    private var ready: [UInt64] = []
    private var readyPlaces: [Int] = []
    private var deadlines: [Int64] = []
    private var earliest: Int64 = .max
    /// When something other than KEEPALIVEs last came.
    private var lastTraffic: Int64 = 0
    /// Commands for tunnels that are on their way here.
    private var expected: [Slot: [WorkerCommand]] = [:]
    private var isStopped = false
    /// At real-time priority.
    private let givesWay: Bool

    private static let deviceBit: UInt64 = 1 << 32

    init(index: Int, shared: EngineShared, offloads: OffloadSwitches, poolBytes: Int, givesWay: Bool)
        throws(SystemError)
    {
        self.index = index
        self.shared = shared
        self.offloads = offloads
        self.givesWay = givesWay
        poller = try Poller()
        wake = try EventFD()
        buffers = WorkerBuffers(poolBytes: poolBytes, spare: shared.spareSlots)
        try poller.epoll.add(wake.raw, .read, token: Poller.wakeToken)
    }

    /// From any thread.
    func send(_ command: WorkerCommand) {
        inbox.withLock { $0.append(command) }
        wake.signal()
    }

    // MARK: The thread

    func run() {
        let events = EpollEvents(capacity: 256)
        var begin = Int64(Clock.now())
        while !isStopped {
            let before = Self.now()
            let timeout = earliest == .max ? -1 : max(0, earliest - before.nanoseconds)
            let count: Int
            do {
                count = try poller.epoll.wait(events, timeout: timeout)
            } catch {
                shared.log.critical("worker stops", metadata: ["worker": "\(index)", "error": "\(error)"])
                exit(1)
            }
            let start = Self.now()
            if start.nanoseconds - before.nanoseconds > Self.pause { begin = start.nanoseconds }
            for number in 0..<count { note(events[number].token) }
            if serveReady() { lastTraffic = start.nanoseconds }
            serveDeadlines()
            account(start)
            if count > 0, start.nanoseconds - lastTraffic > Self.restAfter {
                usleep(UInt32(Self.rest / 1000))
                begin = Int64(Clock.now())
            }
            if givesWay, Int64(Clock.now()) - begin > Self.longestTurn {
                usleep(UInt32(Self.pause / 1000))
                begin = Int64(Clock.now())
            }
        }
    }

    /// Before everything else, a worker that is always busy leaves its processor to the kernel's own threads now and then, for
    /// moments that no packet minds. Otherwise the kernel takes a twentieth of each second for them at once (sched(7)).
    private static let longestTurn: Int64 = 4_000_000
    private static let pause: Int64 = 100_000

    /// A worker whose tunnels rest lets the KEEPALIVEs of many peers gather for so long, as network cards do, rather than
    /// wake up for each. Traffic waits as long at most, and only the first after such a silence.
    private static let rest: Int64 = 200_000
    private static let restAfter: Int64 = 20_000_000

    static func now() -> Moment {
        Moment(nanoseconds: Int64(Clock.now()), wallMilliseconds: Clock.wallMilliseconds())
    }

    private func account(_ start: Moment) {
        let header = shared.state.header
        let busy = Int64(Clock.now()) - start.nanoseconds
        if let total = header.pointer(to: \.busyNanoseconds) { _ = clinux_fetch_add(total, UInt64(max(0, busy))) }
        if let total = header.pointer(to: \.wakeUps) { _ = clinux_fetch_add(total, 1) }
    }

    private func note(_ token: UInt64) {
        if token == Poller.wakeToken { return obey() }
        let place = Int(token >> 8)
        let part = token & 0xff
        guard place < ready.count else { return }
        if ready[place] == 0 { readyPlaces.append(place) }
        ready[place] |= part == Poller.devicePart ? Self.deviceBit : 1 << part
    }

    /// - Returns: whether there was anything but KEEPALIVEs.
    private func serveReady() -> Bool {
        var hasTraffic = false
        for place in readyPlaces {
            let what = ready[place]
            ready[place] = 0
            guard let tunnel = tunnels[place] else { continue }
            var now = Self.now()
            let start = now.nanoseconds
            let links = UInt32(truncatingIfNeeded: what)
            if links != 0 {
                if tunnel.receive(links, now) { hasTraffic = true }
                now.nanoseconds = Int64(Clock.now())
            }
            if what & Self.deviceBit != 0 {
                tunnel.transmit(now, isAlone: places.count == 1)
                hasTraffic = true
            }
            tunnel.updateDeadline(now)
            schedule(place, tunnel)
            let spent = Int64(Clock.now()) - start
            tunnel.record.pointee.busyNanoseconds &+= UInt64(max(0, spent))
        }
        readyPlaces.removeAll(keepingCapacity: true)
        return hasTraffic
    }

    private func schedule(_ place: Int, _ tunnel: TunnelRuntime) {
        deadlines[place] = tunnel.deadline
        earliest = min(earliest, tunnel.deadline)
    }

    private func serveDeadlines() {
        guard earliest != .max, Int64(Clock.now()) >= earliest else { return }
        let now = Self.now()
        for place in deadlines.indices where deadlines[place] <= now.nanoseconds {
            guard let tunnel = tunnels[place] else {
                deadlines[place] = .max
                continue
            }
            tunnel.tick(now)
            deadlines[place] = tunnel.deadline
        }
        earliest = deadlines.min() ?? .max
    }

    // MARK: Commands

    private func obey() {
        wake.drain()
        let commands = inbox.withLock { waiting in
            defer { waiting.removeAll(keepingCapacity: true) }
            return waiting
        }
        let now = Self.now()
        for command in commands { obey(command, now) }
    }

    private func obey(_ command: WorkerCommand, _ now: Moment) {
        if let slot = command.slot, expected[slot] != nil {
            expected[slot]?.append(command)
            return
        }
        switch command {
        case .define(let slot, let generation, let tunnel, let linkSlots):
            define(slot, generation, tunnel, linkSlots, now)
        case .device(let slot, let descriptor, let features):
            with(slot, orClose: descriptor) { $0.attachDevice(descriptor, features) }
        case .socket(let slot, let linkSlot, let descriptor):
            with(slot, orClose: descriptor) { tunnel in
                guard let link = tunnel.link(ofSlot: linkSlot) else {
                    close(descriptor)
                    return
                }
                tunnel.attachSocket(link, descriptor, now)
            }
        case .peers(let slot, let linkSlot, let addresses):
            with(slot) { tunnel in
                if let link = tunnel.link(ofSlot: linkSlot) { tunnel.setPeers(link, addresses, now) }
            }
        case .undefine(let slot):
            with(slot) { $0.stop(.reconfigured, now) }
            remove(slot)?.retire(now)
            shared.post(.undefined(slot: slot))
        case .move(let slot, let worker):
            with(slot) { $0.leave(now) }
            worker.send(.adopt(slot: slot, remove(slot).map { MovingTunnel(tunnel: $0) }))
        case .expect(let slot): expected[slot] = []
        case .adopt(let slot, let moving):
            if let tunnel = moving?.tunnel {
                place(tunnel)
                tunnel.tick(now)
                if let place = places[slot] { schedule(place, tunnel) }
            }
            for waiting in expected.removeValue(forKey: slot) ?? [] { obey(waiting, now) }
        case .debug(let slot, let tokens): with(slot) { $0.tokens = tokens }
        case .capture(let slot, let linkSlot, let descriptor, let limits):
            with(slot, orClose: descriptor) { tunnel in
                let link = linkSlot.flatMap { tunnel.link(ofSlot: $0) }
                if linkSlot != nil, link == nil {
                    close(descriptor)
                } else {
                    tunnel.startCapture(link: link, descriptor: descriptor, limits: limits, now)
                }
            }
        case .stop:
            for tunnel in tunnels { tunnel?.stop(.shutdown, now) }
            isStopped = true
        }
    }

    private func define(
        _ slot: Slot, _ generation: UInt64, _ tunnel: CompiledTunnel, _ linkSlots: [LinkSlot], _ now: Moment
    ) {
        if places[slot] != nil {
            with(slot) { $0.configure(generation: generation, tunnel: tunnel, linkSlots: linkSlots, now: now) }
        } else {
            let new = TunnelRuntime(
                slot: slot, generation: generation, tunnel: tunnel, linkSlots: linkSlots, shared: shared,
                offloads: offloads, buffers: buffers, now: now)
            guard let new else {
                shared.log.error("tunnel has no place in the state map", metadata: ["slot": "\(slot)"])
                return
            }
            place(new)
            with(slot) { $0.tick(now) }
        }
    }

    private func with(_ slot: Slot, orClose descriptor: Int32 = -1, _ body: (TunnelRuntime) -> Void) {
        guard let place = places[slot], let tunnel = tunnels[place] else {
            if descriptor >= 0 { close(descriptor) }
            return
        }
        body(tunnel)
        schedule(place, tunnel)
    }

    private func place(_ tunnel: TunnelRuntime) {
        let place: Int
        if let free = freePlaces.popLast() {
            place = free
            tunnels[place] = tunnel
        } else {
            place = tunnels.count
            tunnels.append(tunnel)
            ready.append(0)
            deadlines.append(.max)
        }
        places[tunnel.slot] = place
        tunnel.record.pointee.worker = UInt32(index)
        tunnel.join(poller, at: place, buffers)
        schedule(place, tunnel)
    }

    private func remove(_ slot: Slot) -> TunnelRuntime? {
        guard let place = places.removeValue(forKey: slot), let tunnel = tunnels[place] else { return nil }
        tunnels[place] = nil
        deadlines[place] = .max
        freePlaces.append(place)
        return tunnel
    }
}
