import Glibc
import Helper
import LinuxSystem
import Logging
import ProcessChannel
import TunnelModel

/// The root process: it starts, watches and restarts the others, passes definitions and descriptors on, and keeps what
/// must outlive them. Single-threaded, so that it can fork helpers; it reads nothing from the network.
///
/// - A definition goes control → supervisor → helper → engine. The engine is given it once the helper has answered, and
///   every descriptor as it arrives; a new engine is given all of it again.
/// - Children end only through their exit (``Children``): whatever goes wrong with one, it is killed, and its exit handler
///   decides what follows.
public final class Supervisor {
    let settings: SupervisorSettings
    let log: Logger
    let loop: EventLoop
    let children: Children
    /// Of every channel.
    let channelBuffer = Channel.Buffer()
    let signals: SignalFD
    let service: ServiceManager
    let preparation: Preparation
    /// Every device of this instance is in it, so that all can be deleted at once.
    let deviceGroup: UInt32
    let stateFile: OwnedDescriptor
    let state: MappedState
    let eventWake: EventFD
    let controlSocket: OwnedDescriptor
    private let source: TunnelSource
    private var locks: [InstanceLock] = []

    var tunnels: [Int64: Tunnel] = [:]
    var tunnelsBySlot: [Slot: Tunnel] = [:]
    var tunnelSlots = SlotPool(capacity: StateMap.tunnelCapacity)
    var linkSlots = SlotPool(capacity: StateMap.linkCapacity)

    var engine: Peer<EngineNotice>?
    var engineStarts: UInt32 = 0
    var engineBackoff = Supervisor.processBackoff
    var isEngineReady = false
    var isLogAwaited = false

    var control: Peer<ControlRequest>?
    var controlStarts = 0
    var controlBackoff = Supervisor.processBackoff
    var isControlReady = false

    private(set) var hasToldReady = false
    private var startFailure: StartFailure?
    /// Called once, when everything runs.
    public var whenReady: () -> Void = {}
    private(set) var isStopping = false
    private(set) var endsAtOnce = false
    private var isFinished = false
    /// When we were first sent a signal to end.
    private var firstEnd: UInt64?
    private var lastReload: UInt64?
    private var reloadTimer: EventLoop.TimerID?
    /// Signals that come so close together are one: timeout(1) sends its own to the process and to its group.
    private static let sameSignal = UInt64.milliseconds(500)

    /// After a first restart that does not wait.
    static let processBackoff = Backoff(first: .milliseconds(50), limit: .seconds(10))
    /// A process that ran this long has recovered from what ended its predecessor.
    static let settledAfter = UInt64.seconds(60)
    /// A process that has ended so often before everything ran will not do better.
    static let startAttempts = 5

    public init(settings: SupervisorSettings, source: TunnelSource, log: Logger) throws {
        self.settings = settings
        self.source = source
        self.log = log
        service = ServiceManager()
        let hasDatabase = settings.stateDirectory != nil
        preparation = try Preparation(settings, needsControl: hasDatabase)
        if let directory = settings.stateDirectory {
            let account = try Preparation.account(settings.controlUser, role: "control")
            guard account.userID != preparation.engineAccount.userID else {
                throw StartFailure("control_user and user are both \(account.name); control needs a user of its own")
            }
            let group = try Preparation.group(settings.adminGroup)
            try Directories.makePrivate(directory, for: account)
            locks.append(try InstanceLock(path: directory + "/mlvpnd.lock", purpose: "state directory \(directory)"))
            let run = settings.runDirectory
            locks.append(try InstanceLock(path: run + "/mlvpnd.pid", purpose: "run directory \(run)"))
            controlSocket = try ControlSocket.listen(path: run + "/control.sock", group: group)
        } else {
            controlSocket = try ControlSocket.unreachable()
        }
        deviceGroup = try Self.unusedGroup()
        stateFile = try MemoryFile.create(name: "mlvpn-state", size: StateMap.size)
        state = MappedState(base: try MemoryFile.map(stateFile.raw, size: StateMap.size, writable: true))
        state.header.initialize(to: StateMap.Header())
        eventWake = try EventFD()
        loop = try EventLoop()
        children = Children(loop: loop)
        signals = try SignalFD([SIGHUP, SIGTERM, SIGINT, SIGQUIT])
    }

    /// Another instance may have our very pid, in a container that shares this network. Low numbers may be an
    /// administrator's own.
    private static func unusedGroup() throws -> UInt32 {
        var netlink = try Netlink()
        let taken = try netlink.groups()
        var group: UInt32
        repeat { group = .random(in: 0x1000_0000...0x7fff_ffff) } while taken.contains(group)
        return group
    }

    /// Runs until a signal ends it. Returns the exit code; throws why the start cannot succeed.
    public func run() throws -> Int32 {
        _ = try loop.watch(signals.raw) { [weak self] _ in self?.signalled() }
        // A peer that is gone must be an error of a call, not the end of everything.
        signal(SIGPIPE, SIG_IGN)
        service.status("starting")
        // A file that cannot be used ends it here, before anything else runs.
        if case .control = source { Helper.rehearse(settings: helperSettings, log: log) }
        if case .file(let load) = source { try defineFromFile(load) }
        startEngine()
        if case .control = source { startControl() }
        try loop.run()
        deleteDevices()
        if settings.stateDirectory != nil {
            unlink(settings.runDirectory + "/control.sock")
        }
        if let startFailure { throw startFailure }
        log.notice("stopped")
        return 0
    }

    var isSingleTunnel: Bool { if case .file = source { true } else { false } }

    // MARK: Signals

    private func signalled() {
        while let signal = signals.next() {
            obey(signal: signal.number, from: "pid \(signal.sender)")
            guard signal.number != SIGHUP else { continue }
            let now = Clock.now()
            // The second one means it.
            if let first = firstEnd, now - first >= Self.sameSignal { killAll() }
            firstEnd = firstEnd ?? now
        }
    }

    /// An operator's signal, to us or to one of our processes. A terminal sends it to all of them, each of which passes it
    /// on: while we stop, that is no news.
    func obey(signal number: Int32, from sender: String) {
        if number == SIGHUP { return reload(sender) }
        guard !isStopping else { return }
        log.notice("\(signalName(number)): stopping", metadata: ["from": "\(sender)"])
        stop()
    }

    /// `pkill -HUP` reaches all of our processes, each of which passes it on: once more after the last one is enough.
    private func reload(_ sender: String) {
        guard !isStopping, reloadTimer == nil else { return }
        let now = Clock.now()
        if let lastReload, now - lastReload < Self.sameSignal {
            reloadTimer = loop.after(Self.sameSignal) { [weak self] in
                self?.reloadTimer = nil
                self?.lastReload = nil
                self?.reload(sender)
            }
            return
        }
        lastReload = now
        log.notice("SIGHUP: reloading", metadata: ["from": "\(sender)"])
        service.reloading()
        switch source {
        case .control: control?.send(ControlNotice.reload)
        case .file(let load):
            do {
                try defineFromFile(load)
                log.notice("reloaded")
            } catch {
                log.error("not reloaded, what runs goes on")
                for line in "\(error)".split(separator: "\n") { log.error("\(line)") }
            }
        }
        if hasToldReady { service.ready(summary) }
    }

    private func defineFromFile(_ load: () throws -> CompiledTunnel) throws {
        let compiled = try load()
        define(id: 1, generation: (tunnels[1]?.generation ?? 0) + 1, compiled)
        tunnels[1]?.debugTokens = settings.debugTokens
        let wantsControl = compiled.definition.monitoring.isWanted
        if wantsControl, control == nil {
            startControl()
        } else if wantsControl {
            control?.send(ControlNotice.standalone(tunnel: compiled.withoutSecret))
        } else if let control {
            control.send(ControlNotice.stopping)
        }
    }

    // MARK: Readiness

    func checkReady() {
        guard !hasToldReady, !isStopping, isEngineReady, isSingleTunnel || isControlReady else { return }
        hasToldReady = true
        log.notice("ready", metadata: ["tunnels": "\(tunnels.count)", "pid": "\(getpid())"])
        service.ready(summary)
        whenReady()
    }

    private var summary: String { "\(tunnels.count) tunnels" }

    /// Of a process without which nothing works: while nothing works yet, whoever has started us is told.
    func failStart(_ reason: String) {
        guard !hasToldReady, !isStopping else { return }
        startFailure = StartFailure(reason)
        stop()
    }

    // MARK: The end

    private func stop() {
        guard !isStopping else { return }
        isStopping = true
        service.stopping()
        control?.send(ControlNotice.stopping)
        engine?.send(EngineRequest.stop)
        limit(.milliseconds(1500), "the engine") { $0.engine.map { [$0.pid] } ?? [] }
        limit(.seconds(5), "control") { $0.control.map { [$0.pid] } ?? [] }
        for tunnel in tunnels.values { stopHelper(of: tunnel) }
        checkFinished()
    }

    /// Kills those of our processes that are still there after `time`.
    private func limit(_ time: UInt64, _ name: String, _ pids: @escaping (Supervisor) -> [pid_t]) {
        loop.after(time) { [weak self] in
            guard let self else { return }
            for pid in pids(self) {
                log.warning("\(name) does not end and is killed", metadata: ["pid": "\(pid)"])
                kill(pid, SIGKILL)
            }
        }
    }

    private func killAll() {
        endsAtOnce = true
        log.warning("stopping at once")
        engine?.kill()
        control?.kill()
        for tunnel in tunnels.values { tunnel.helper?.kill() }
    }

    func checkFinished() {
        guard isStopping, !isFinished, engine == nil, control == nil, tunnels.values.allSatisfy({ $0.helper == nil })
        else { return }
        isFinished = true
        loop.stop()
    }

    /// All at once: closing them one by one takes 16 ms each.
    private func deleteDevices() {
        guard tunnels.values.contains(where: { $0.device != nil }) else { return }
        do {
            var netlink = try Netlink()
            try netlink.deleteGroup(deviceGroup)
        } catch {
            log.warning("devices are left to the kernel to delete: \(error)")
        }
    }
}

extension CompiledTunnel {
    /// For who has no use for the password.
    var withoutSecret: CompiledTunnel {
        var copy = self
        if let mask = try? Password(Array("-".utf8)) { copy.definition.password = mask }
        return copy
    }

    /// For who has no use for filters either.
    var forHelper: CompiledTunnel {
        var copy = withoutSecret
        copy.definition.filters = []
        copy.filterPrograms = []
        return copy
    }
}
