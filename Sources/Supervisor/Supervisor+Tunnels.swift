import Glibc
import Helper
import LinuxSystem
import Logging
import ProcessChannel
import TunnelModel

// A tunnel's life: its helper is forked when it is first needed, and its end waits for helper and engine.
extension Supervisor {
    /// Moves a tunnel towards what it is to be; called whenever that may have changed.
    func update(_ tunnel: Tunnel) {
        if tunnel.isWanted && !isStopping {
            if tunnel.helper != nil {
                if !tunnel.isHelperStopping { configure(tunnel) }
            } else if !tunnel.awaitsEngine && tunnel.helperTimer == nil {
                startHelper(of: tunnel)
            }
            return
        }
        stopHelper(of: tunnel)
        if tunnel.engineKnows != nil, let engine {
            engine.send(EngineRequest.undefine(slot: tunnel.slot))
            tunnel.engineKnows = nil
            tunnel.awaitsEngine = true
        }
        settle(tunnel)
    }

    /// Once helper and engine have let go of a tunnel that is not wanted, nothing of it stays.
    func settle(_ tunnel: Tunnel) {
        guard tunnel.isAtRest, !isStopping else { return }
        if tunnel.isWanted {
            // After a helper that was stopped everything is made anew, so nothing may be held; one that died is resumed.
            if tunnel.helperKnows == nil { tunnel.releaseAll() }
            return startHelper(of: tunnel)
        }
        tunnel.releaseAll()
        forgetProblems(of: tunnel)
        guard tunnel.isRemoved else { return }
        for slot in tunnel.linkSlots.values { linkSlots.giveBack(slot) }
        tunnelSlots.giveBack(tunnel.slot)
        tunnelsBySlot[tunnel.slot] = nil
        tunnels[tunnel.id] = nil
        log.info("tunnel removed", metadata: ["tunnel": "\(tunnel.definition.name)"])
        control?.send(ControlNotice.removed(id: tunnel.id))
    }

    /// Whoever comes next tells its own.
    private func forgetProblems(of tunnel: Tunnel) {
        for link in tunnel.problems.keys { report(id: tunnel.id, link, nil) }
        tunnel.problems = [:]
    }

    // MARK: Helpers

    private func startHelper(of tunnel: Tunnel) {
        do {
            var pair = try Channel.pair()
            guard let near = pair.takeNear(), let far = pair.takeFar()?.release() else { return }
            defer { close(far) }
            let pid = try forkHelper(channel: far)
            tunnel.helper = try Peer<HelperNotice>(
                pid: pid, channel: near, loop: loop, buffer: channelBuffer,
                receive: { [weak self, weak tunnel] notice, descriptors in
                    if let self, let tunnel { helperSays(notice, &descriptors, tunnel) }
                },
                broken: { [weak self, weak tunnel] error in
                    guard let self, let tunnel, error != .ended else { return }
                    log.error(
                        "a helper's channel broke: \(error)", metadata: ["tunnel": "\(tunnel.definition.name)"])
                })
            children.add(pid) { [weak self, weak tunnel] end in
                guard let self else { return }
                if let tunnel { helperEnded(end, tunnel) }
                checkFinished()
            }
            configure(tunnel)
            for (link, state) in tunnel.states { tellHelper(of: tunnel, link, state) }
        } catch {
            log.error("a helper cannot be started: \(error)", metadata: ["tunnel": "\(tunnel.definition.name)"])
            startHelperLater(of: tunnel)
        }
    }

    var helperSettings: HelperSettings {
        HelperSettings(
            scriptDirectory: settings.scriptDirectory, deviceGroup: deviceGroup, takesExistingDevice: isSingleTunnel,
            title: settings.helperTitle)
    }

    /// The child keeps its end of the channel and the log, closes everything else, and never comes back from here.
    private func forkHelper(channel: Int32) throws -> pid_t {
        let helperSettings = helperSettings
        let helperLog = Logger(label: "helper")
        let kept = [channel, settings.logDescriptor].compactMap { $0 }
        let keepsStandardError = settings.childrenShareStandardError
        return try ChildProcess.fork(keeping: kept) {
            StandardStreams.leave(keepsStandardError: keepsStandardError)
            do {
                return try Helper(channel: OwnedDescriptor(owning: channel), settings: helperSettings, log: helperLog)
                    .run()
            } catch {
                helperLog.error("cannot work: \(error)")
                return 1
            }
        }
    }

    private func configure(_ tunnel: Tunnel) {
        guard let helper = tunnel.helper else { return }
        // Only a helper's first definition comes with what its predecessor left.
        let resume = tunnel.sent.isEmpty ? tunnel.resume : nil
        let forHelper = tunnel.compiled.forHelper
        tunnel.helperKnows = forHelper
        tunnel.sent[tunnel.generation] = tunnel.definition
        helper.send(HelperRequest.configure(generation: tunnel.generation, tunnel: forHelper, resume: resume))
    }

    func tellHelper(of tunnel: Tunnel, _ link: LinkName, _ state: LinkState) {
        guard let helper = tunnel.helper, !tunnel.isHelperStopping else { return }
        if state.isUp { tunnel.toldUp.insert(link) } else { tunnel.toldUp.remove(link) }
        helper.send(HelperRequest.linkState(link: link, state: state))
    }

    func stopHelper(of tunnel: Tunnel) {
        if let timer = tunnel.helperTimer { loop.cancel(timer) }
        tunnel.helperTimer = nil
        // What a helper that died had told scripts, another takes back.
        if tunnel.helper == nil, tunnel.helperKnows != nil, !tunnel.scripts.isNothing { startHelper(of: tunnel) }
        guard let helper = tunnel.helper, !tunnel.isHelperStopping else { return }
        tunnel.isHelperStopping = true
        helper.send(HelperRequest.stop)
        let name = tunnel.definition.name
        loop.after(Helper.stopLimit + .seconds(2)) { [weak self, weak helper] in
            guard let self, let helper else { return }
            log.warning("a helper does not end and is killed", metadata: ["tunnel": "\(name)", "pid": "\(helper.pid)"])
            helper.kill()
        }
    }

    private func helperEnded(_ end: ProcessEnd, _ tunnel: Tunnel) {
        let wasExpected = tunnel.isHelperStopping
        let ran = tunnel.helper.map { Clock.now() - $0.started } ?? 0
        tunnel.helper?.close()
        tunnel.helper = nil
        tunnel.isHelperStopping = false
        tunnel.sent = [:]
        forgetProblems(of: tunnel)
        if wasExpected {
            // It may have died before it could.
            if !end.isSuccess, !tunnel.scripts.isNothing, !tunnel.wasStopRepeated, !endsAtOnce {
                tunnel.wasStopRepeated = true
                return stopHelper(of: tunnel)
            }
            tunnel.wasStopRepeated = false
            // Its scripts have been told that all is down; whoever comes next begins anew.
            tunnel.helperKnows = nil
            tunnel.toldUp = []
            tunnel.scripts = ToldScripts()
            return settle(tunnel)
        }
        guard !isStopping else { return }
        log.error("a helper \(end); starting it again", metadata: ["tunnel": "\(tunnel.definition.name)"])
        if ran > Self.settledAfter { tunnel.helperBackoff.succeeded() }
        startHelperLater(of: tunnel)
    }

    private func startHelperLater(of tunnel: Tunnel) {
        tunnel.helperTimer = loop.after(tunnel.helperBackoff.failed()) { [weak self, weak tunnel] in
            guard let self, let tunnel else { return }
            tunnel.helperTimer = nil
            update(tunnel)
        }
    }

    private func helperSays(_ notice: HelperNotice, _ descriptors: inout DescriptorList, _ tunnel: Tunnel) {
        if case .signalled(let number) = notice { return childSignalled(number, "a helper") }
        if case .scripts(let told) = notice { tunnel.scripts = told }
        guard !tunnel.isHelperStopping, tunnel.isWanted else { return }
        // The definition goes first, and brings what the engine lacks; then comes what this notice adds.
        switch notice {
        case .device(let generation, let features):
            // What was made for an older definition serves if the newer one would have made the same.
            guard let definition = tunnel.sent[generation], let descriptor = descriptors.take(),
                DeviceIdentity(definition) == DeviceIdentity(tunnel.definition)
            else { return }
            let device = HeldDevice(descriptor, features: features, identity: DeviceIdentity(definition))
            tell(tunnel)
            tunnel.device = device
            tell(tunnel, device)
        case .socket(let generation, let link, let isIPv6):
            guard let bind = tunnel.sent[generation]?.bind(of: link), let descriptor = descriptors.take(),
                bind == tunnel.definition.bind(of: link)
            else { return }
            let socket = HeldSocket(descriptor, bind: bind, isIPv6: isIPv6)
            tell(tunnel)
            tunnel.sockets[link] = socket
            tell(tunnel, link, socket)
        case .resolved(let generation, let link, let addresses):
            guard let remote = tunnel.sent[generation]?.remote(of: link), remote == tunnel.definition.remote(of: link),
                tunnel.linkSlots[link] != nil
            else { return }
            tell(tunnel)
            tunnel.addresses[link] = addresses
            tell(tunnel, link, addresses)
        case .problem(let link, let text):
            tunnel.problems[link] = text
            report(id: tunnel.id, link, text)
        case .configured(let generation):
            tunnel.sent = tunnel.sent.filter { $0.key >= generation }
            if generation == tunnel.generation { tell(tunnel) }
        case .scripts, .signalled: return
        }
    }
}

extension TunnelDefinition {
    fileprivate func bind(of link: LinkName) -> BindAddress? { links.first { $0.name == link }?.bind }
    fileprivate func remote(of link: LinkName) -> HostPort? { links.first { $0.name == link }?.remote }
}
