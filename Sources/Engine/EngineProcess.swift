import CLinux
import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import TunnelCrypto
import TunnelModel

/// The engine: started by the supervisor as root with its channel on descriptor 3, it confines itself before it reads
/// anything from the network, and then only sends, receives and asks.
///
/// The main thread talks to the supervisor, watches the load and keeps the title; workers do the rest.
public struct EngineProcess: ~Copyable {
    private let arguments: EngineArguments
    private let log: Logger

    public init(arguments: EngineArguments, log: Logger) {
        self.arguments = arguments
        self.log = log
    }

    /// Runs until the supervisor says stop, or goes away. Returns the exit code.
    public consuming func run() -> Int32 {
        // A log that nobody reads any more must be an error of a call.
        signal(SIGPIPE, SIG_IGN)
        let channel = Channel(OwnedDescriptor(owning: 3))
        do {
            // Before there are threads.
            var arguments = arguments
            arguments.priority = takePriority()
            guard SessionCipher.start() else { throw EngineFailure.text("libsodium cannot be started") }
            let loop = try MainLoop(channel: channel, arguments: arguments, log: log)
            try confine()
            return try loop.run()
        } catch {
            log.critical("engine cannot run", metadata: ["error": "\(error)"])
            try? channel.send(EngineNotice.cannotStart(reason: "\(error)"))
            return 1
        }
    }

    /// Without the right to it (in a container, say), packets are carried all the same.
    ///
    /// - Returns: what it has now.
    private func takePriority() -> ProcessorPriority {
        do {
            try arguments.priority.take()
            return arguments.priority
        } catch {
            log.notice("\(error); packets may wait for other programs. To change that, allow the service CAP_SYS_NICE")
            guard arguments.priority == .realtime, (try? ProcessorPriority.high.take()) != nil else { return .normal }
            return .high
        }
    }

    private func confine() throws {
        guard let account = Account(user: arguments.user) else {
            throw EngineFailure.text(
                "user \(arguments.user) does not exist; create it: useradd --system --no-create-home \(arguments.user)")
        }
        try Privileges.drop(to: account, chroot: arguments.chroot)
        try Seccomp.install(allowing: Seccomp.dataPlane, refusing: Seccomp.harmlessWhenRefused)
    }
}

public enum EngineFailure: Error, CustomStringConvertible {
    case text(String)
    public var description: String {
        switch self {
        case .text(let text): text
        }
    }
}

public struct EngineArguments: Sendable {
    public var user = "mlvpn"
    public var chroot: String?
    public var priority = ProcessorPriority.normal
    /// The name to show in `ps`, for a process with one tunnel.
    public var title: String?

    public init() {}
}

/// The engine's main thread.
private final class MainLoop {
    private let channel: Channel
    private let arguments: EngineArguments
    private let log: Logger
    private let epoll: Epoll
    private let noticeWake: EventFD
    private let signals: SignalFD

    private var shared: EngineShared?
    private var workers: [Worker] = []
    private var threads: [pthread_t] = []
    private var homes: [Slot: Home] = [:]
    private var shownTitle = ""

    /// Where a tunnel is, and what it cost when last looked at.
    private struct Home {
        var worker: Int
        var name: String
        var links: [LinkSlot]
        var busy: UInt64 = 0
        var load: UInt64 = 0
    }

    private static let channelToken: UInt64 = 1
    private static let noticeToken: UInt64 = 2
    private static let signalToken: UInt64 = 3

    init(channel: Channel, arguments: EngineArguments, log: Logger) throws {
        self.channel = channel
        self.arguments = arguments
        self.log = log
        epoll = try Epoll()
        noticeWake = try EventFD()
        signals = try SignalFD([SIGTERM, SIGINT, SIGQUIT, SIGHUP])
        try epoll.add(channel.raw, .read, token: Self.channelToken)
        try epoll.add(noticeWake.raw, .read, token: Self.noticeToken)
        try epoll.add(signals.raw, .read, token: Self.signalToken)
    }

    func run() throws -> Int32 {
        let events = EpollEvents(capacity: 8)
        var lastLook: Int64 = 0
        while true {
            let count = try epoll.wait(events, timeout: 1_000_000_000)
            for index in 0..<count {
                switch events[index].token {
                case Self.channelToken:
                    if events[index].isWritable { try flush() }
                    if let code = try receive() { return code }
                case Self.noticeToken: try forwardNotices()
                default:
                    while let signal = signals.next() {
                        try channel.send(EngineNotice.signalled(number: signal.number))
                    }
                }
            }
            try watchChannel()
            let now = Int64(Clock.now())
            if now - lastLook >= 1_000_000_000 {
                lastLook = now
                shared?.state.header.pointee.heartbeat = Clock.wallMilliseconds()
                balance()
                if Log.takeLoss() { try channel.send(EngineNotice.logLost) }
            }
        }
    }

    // MARK: The supervisor

    /// An exit code when the end has come.
    private func receive() throws -> Int32? {
        do {
            while let received = try channel.receive(EngineRequest.self) {
                let message = received.message
                if message == .stop {
                    stopWorkers()
                    return 0
                }
                try obey(message, received)
            }
            return nil
        } catch ChannelError.ended {
            // Without a supervisor nobody holds the descriptors: the tunnels end with us.
            stopWorkers()
            return 0
        }
    }

    private func obey(_ request: EngineRequest, _ received: consuming Received<EngineRequest>) throws {
        var descriptors = received.takeDescriptors()
        switch request {
        case .start(let count, let offloads): try start(workers: Int(count), offloads, &descriptors)
        case .define(let slot, let generation, let tunnel, let linkSlots):
            let worker = homes[slot]?.worker ?? leastBusy()
            let busy = homes[slot]?.busy ?? shared?.state.tunnel(slot)?.pointee.busyNanoseconds ?? 0
            homes[slot] = Home(worker: worker, name: tunnel.definition.name.text, links: linkSlots, busy: busy)
            workers[worker].send(
                .define(slot: slot, generation: generation, tunnel: tunnel, linkSlots: linkSlots))
        case .device(let slot, let features):
            guard let descriptor = descriptors.take()?.release() else { return }
            send(slot, .device(slot: slot, descriptor: descriptor, features: features), orClose: descriptor)
        case .socket(let slot, let linkSlot, _):
            guard let descriptor = descriptors.take()?.release() else { return }
            send(slot, .socket(slot: slot, linkSlot: linkSlot, descriptor: descriptor), orClose: descriptor)
        case .peerAddresses(let slot, let linkSlot, let addresses):
            send(slot, .peers(slot: slot, linkSlot: linkSlot, addresses: addresses))
        case .undefine(let slot):
            send(slot, .undefine(slot: slot))
            homes[slot] = nil
        case .debug(let slot, let tokens): send(slot, .debug(slot: slot, tokens: DebugTokens(rawValue: tokens)))
        case .capture(let slot, let linkSlot, let limits):
            guard let descriptor = descriptors.take()?.release() else { return }
            send(
                slot, .capture(slot: slot, linkSlot: linkSlot, descriptor: descriptor, limits: limits),
                orClose: descriptor)
        case .stop: break
        }
        updateTitle()
    }

    private func send(_ slot: Slot, _ command: WorkerCommand, orClose descriptor: Int32 = -1) {
        guard let home = homes[slot] else {
            log.error("request for a tunnel that is not defined", metadata: ["slot": "\(slot)"])
            if descriptor >= 0 { close(descriptor) }
            return
        }
        workers[home.worker].send(command)
    }

    private func start(workers count: Int, _ offloads: OffloadSwitches, _ descriptors: inout DescriptorList) throws {
        guard shared == nil, let map = descriptors.take(), let wake = descriptors.take() else {
            throw EngineFailure.text("the supervisor's first message is not as expected")
        }
        let base = try MemoryFile.map(map.raw, size: StateMap.size, writable: true)
        let state = MappedState(base: base)
        let count = min(max(1, count), 64)
        state.header.pointee.magic = StateMap.magic
        state.header.pointee.engineStarts &+= 1
        state.header.pointee.workers = UInt32(count)
        let shared = EngineShared(
            state: state, log: log, noticeWake: noticeWake.raw, controlWake: wake.release())
        self.shared = shared
        for index in 0..<count {
            workers.append(
                try Worker(
                    index: index, shared: shared, offloads: offloads,
                    poolBytes: max(Self.poolBytes / count, Self.leastPool),
                    givesWay: arguments.priority == .realtime))
        }
        for worker in workers { try startThread(worker) }
        try channel.send(EngineNotice.ready)
        updateTitle()
    }

    /// Packets that wait for a gap, over all tunnels.
    private static let poolBytes = 64 << 20
    /// Of one worker, however many there are: several tunnels that fill their queues leave some for others. It is not taken
    /// before it is used.
    private static let leastPool = 32 << 20

    private func startThread(_ worker: Worker) throws {
        var thread = pthread_t()
        let context = Unmanaged.passRetained(worker).toOpaque()
        let result = pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                Unmanaged<Worker>.fromOpaque(context).takeRetainedValue().run()
                return nil
            }, context)
        guard result == 0 else { throw SystemError(result, "start a worker thread") }
        threads.append(thread)
    }

    private func stopWorkers() {
        for worker in workers { worker.send(.stop) }
        for thread in threads { pthread_join(thread, nil) }
    }

    private func forwardNotices() throws {
        noticeWake.drain()
        guard let shared else { return }
        for notice in shared.takeNotices() { try channel.send(notice) }
        updateTitle()
    }

    private func flush() throws { try channel.flush() }

    private func watchChannel() throws {
        try epoll.modify(
            channel.raw, channel.wantsWrite ? [.read, .write] : .read, token: Self.channelToken)
    }

    // MARK: Load

    private func leastBusy() -> Int {
        var tunnels = [Int](repeating: 0, count: workers.count)
        for home in homes.values { tunnels[home.worker] += 1 }
        return tunnels.indices.min { tunnels[$0] < tunnels[$1] } ?? 0
    }

    /// Moves one tunnel a second from the busiest worker to the idlest, if that evens them out by a fifth at least.
    private func balance() {
        guard workers.count > 1, let shared else { return }
        var loads = [UInt64](repeating: 0, count: workers.count)
        for (slot, home) in homes {
            guard let record = shared.state.tunnel(slot) else { continue }
            let busy = record.pointee.busyNanoseconds
            // A record that another tunnel had before begins anew.
            let load = busy >= home.busy ? busy - home.busy : 0
            homes[slot]?.load = load
            homes[slot]?.busy = busy
            loads[home.worker] += load
        }
        guard let most = loads.indices.max(by: { loads[$0] < loads[$1] }),
            let least = loads.indices.min(by: { loads[$0] < loads[$1] })
        else { return }
        let gap = loads[most] - loads[least]
        // A worker that is a quarter busy serves all its tunnels at once.
        guard loads[most] > 250_000_000, gap > loads[most] / 5 else { return }
        // The best move is the tunnel with half the gap; one with all of it would only swap the roles.
        let candidates = homes.filter { $0.value.worker == most && $0.value.load > gap / 10 && $0.value.load < gap }
        let best = candidates.min {
            abs(Int64($0.value.load) - Int64(gap / 2)) < abs(Int64($1.value.load) - Int64(gap / 2))
        }
        guard let best else { return }
        homes[best.key]?.worker = least
        workers[least].send(.expect(slot: best.key))
        workers[most].send(.move(slot: best.key, to: workers[least]))
        log.info(
            "tunnel moves to another worker",
            metadata: ["tunnel": "\(best.value.name)", "from": "\(most)", "to": "\(least)"])
    }

    // MARK: Title

    /// `mlvpn: NAME !3g @adsl` for one tunnel, `mlvpn: engine (N tunnels)` for many.
    private func updateTitle() {
        var title = "mlvpn: engine (\(homes.count) tunnels)"
        if let name = arguments.title {
            title = "mlvpn: \(name)"
            if let shared, let home = homes.values.first {
                for link in home.links {
                    let raw = shared.state.link(link.slot)?.pointee.state ?? 0
                    title += " \((LinkState(rawValue: raw) ?? .down).sign)\(link.link)"
                }
            }
        }
        guard title != shownTitle else { return }
        shownTitle = title
        ProcessTitle.set(title)
    }
}
