import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import TunnelModel

// The engine's side: it is started, given everything, and started again when it ends.
extension Supervisor {
    func startEngine() {
        guard !isStopping, engine == nil else { return }
        do {
            var pair = try Channel.pair()
            guard let near = pair.takeNear(), let far = pair.takeFar() else { return }
            var arguments = ["mlvpn-engine", "--user", settings.engineUser, "--chroot", preparation.engineRoot]
            arguments += ["--priority", settings.enginePriority.rawValue]
            if let title = settings.engineTitle { arguments += ["--title", title] }
            let pid = try start("mlvpn-engine", arguments: arguments, channel: far.raw, titleRoom: 4096)
            let peer = try Peer<EngineNotice>(
                pid: pid, channel: near, loop: loop, buffer: channelBuffer,
                receive: { [weak self] notice, _ in self?.engineSays(notice) },
                broken: { [weak self] error in
                    if error != .ended { self?.log.error("the engine's channel broke: \(error)") }
                })
            children.add(pid) { [weak self] end in
                self?.engineEnded(end)
                self?.checkFinished()
            }
            engine = peer
            engineStarts += 1
            log.info("engine started", metadata: ["pid": "\(pid)"])
            peer.send(
                EngineRequest.start(workers: settings.workerCount, offloads: OffloadSwitches()),
                descriptors: [stateFile.raw, eventWake.raw])
            // What a helper that is stopping has made is given up; the engine is given what its successor makes.
            for tunnel in tunnels.values.sorted(by: { $0.slot < $1.slot })
            where tunnel.isWanted && !tunnel.isHelperStopping { tell(tunnel) }
            control?.send(ControlNotice.engineStarted(count: engineStarts))
        } catch {
            log.error("the engine cannot be started: \(error)")
            loop.after(engineBackoff.failed()) { [weak self] in self?.startEngine() }
        }
    }

    private func engineEnded(_ end: ProcessEnd) {
        guard let peer = engine else { return }
        peer.close()
        engine = nil
        isEngineReady = false
        let hasSettled = Clock.now() - peer.started > Self.settledAfter
        for tunnel in tunnels.values {
            tunnel.engineKnows = nil
            tunnel.awaitsEngine = false
        }
        defer { for tunnel in tunnels.values { settle(tunnel) } }
        guard !isStopping else { return }
        if !hasToldReady, engineStarts >= Self.startAttempts {
            return failStart("the engine cannot be started: it \(end) each of \(engineStarts) times; its log says more")
        }
        if case .killed(SIGSYS) = end {
            log.critical(
                "the engine made a system call that it must not make and was ended; if this comes again, report it",
                metadata: ["pid": "\(peer.pid)", "see": "journalctl -k --grep SECCOMP"])
        } else {
            log.error("the engine \(end); starting it again", metadata: ["pid": "\(peer.pid)"])
        }
        if hasSettled || engineStarts == 1 {
            engineBackoff = Self.processBackoff
            return startEngine()
        }
        loop.after(engineBackoff.failed()) { [weak self] in self?.startEngine() }
    }

    private func engineSays(_ notice: EngineNotice) {
        switch notice {
        case .ready:
            isEngineReady = true
            log.info("engine ready")
            checkReady()
        case .linkState(let slot, let linkSlot, let state):
            // Of a link or tunnel that has just gone: late, not wrong.
            guard let tunnel = tunnelsBySlot[slot], let link = tunnel.link(at: linkSlot) else { return }
            tunnel.states[link] = state
            tellHelper(of: tunnel, link, state)
        case .resolveAgain(let slot, let linkSlot):
            guard let tunnel = tunnelsBySlot[slot], let link = tunnel.link(at: linkSlot) else { return }
            if !tunnel.isHelperStopping { tunnel.helper?.send(HelperRequest.resolve(link: link)) }
        case .undefined(let slot):
            guard let tunnel = tunnelsBySlot[slot], tunnel.awaitsEngine else { return }
            tunnel.awaitsEngine = false
            settle(tunnel)
        case .deviceLost(let slot):
            // Of one that has been replaced meanwhile: late, not wrong.
            guard let tunnel = tunnelsBySlot[slot], let device = tunnel.device,
                TunDevice.isDeleted(device.descriptor.raw)
            else { return }
            tunnel.device = nil
            if !tunnel.isHelperStopping { tunnel.helper?.send(HelperRequest.deviceLost) }
        case .logLost: if !isLogAwaited { findLog() }
        case .signalled(let number): childSignalled(number, "the engine")
        case .cannotStart(let reason): failStart("the engine cannot work: \(reason)")
        }
    }

    /// Until there is a log daemon again: the engine, which sees no file, cannot look for it.
    private func findLog() {
        guard let descriptor = settings.logDescriptor else { return }
        isLogAwaited = !Log.reconnect(descriptor)
        if isLogAwaited { loop.after(.seconds(1)) { [weak self] in self?.findLog() } }
    }

    /// A signal that reached one of our processes: systemd and terminals send to all, so the end of one process of a
    /// daemon is its own affair; a single tunnel's processes are one program to its user.
    func childSignalled(_ number: Int32, _ name: String) {
        if number == SIGHUP || isSingleTunnel { obey(signal: number, from: name) }
    }

    /// Gives the engine the definition in force, and what it has not been given of the rest.
    func tell(_ tunnel: Tunnel) {
        guard let engine, tunnel.isWanted, tunnel.engineKnows != tunnel.generation else { return }
        let isNew = tunnel.engineKnows == nil
        tunnel.engineKnows = tunnel.generation
        engine.send(
            EngineRequest.define(
                slot: tunnel.slot, generation: tunnel.generation, tunnel: tunnel.compiled,
                linkSlots: tunnel.orderedLinkSlots))
        guard isNew else { return }
        if !tunnel.debugTokens.isEmpty {
            engine.send(EngineRequest.debug(slot: tunnel.slot, tokens: tunnel.debugTokens.rawValue))
        }
        if let device = tunnel.device { tell(tunnel, device) }
        for (link, socket) in tunnel.sockets { tell(tunnel, link, socket) }
        for (link, addresses) in tunnel.addresses { tell(tunnel, link, addresses) }
    }

    func tell(_ tunnel: Tunnel, _ device: HeldDevice) {
        guard tunnel.engineKnows != nil else { return }
        engine?.send(
            EngineRequest.device(slot: tunnel.slot, features: device.features), descriptors: [device.descriptor.raw])
    }

    func tell(_ tunnel: Tunnel, _ link: LinkName, _ socket: HeldSocket) {
        guard tunnel.engineKnows != nil, let slot = tunnel.linkSlots[link] else { return }
        engine?.send(
            EngineRequest.socket(slot: tunnel.slot, linkSlot: slot, isIPv6: socket.isIPv6),
            descriptors: [socket.descriptor.raw])
    }

    func tell(_ tunnel: Tunnel, _ link: LinkName, _ addresses: [SocketAddress]) {
        guard tunnel.engineKnows != nil, let slot = tunnel.linkSlots[link] else { return }
        engine?.send(EngineRequest.peerAddresses(slot: tunnel.slot, linkSlot: slot, addresses: addresses))
    }

    /// Executes one of our programs with its channel on descriptor 3.
    func start(
        _ program: String, arguments: [String], channel: Int32, titleRoom: Int
    ) throws(SystemError) -> pid_t {
        var environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        // Where the log goes, what time it is there, and where a build directory's libraries are.
        for name in ["JOURNAL_STREAM", "TZ", "LD_LIBRARY_PATH", "SWIFT_BACKTRACE"] {
            if let value = getenv(name) { environment.append("\(name)=\(String(cString: value))") }
        }
        if titleRoom > 0 { environment.append(ProcessTitle.padding(titleRoom)) }
        var launch = ChildProcess.Launch(
            path: preparation.executables + "/" + program, arguments: arguments + settings.log.arguments,
            environment: environment)
        launch.channel = channel
        if !settings.childrenShareStandardError {
            launch.standardOutput = -1
            launch.standardError = -1
        }
        // One socket for all: whoever finds a log daemon that was started anew finds it for the others.
        if let descriptor = settings.logDescriptor { launch.standardError = descriptor }
        return try ChildProcess.start(launch)
    }
}
