import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import TunnelModel

// Control's side: where definitions come from, and who is told what became of them. It may come and go; traffic goes on.
extension Supervisor {
    func startControl() {
        guard !isStopping, control == nil else { return }
        do {
            var pair = try Channel.pair()
            guard let near = pair.takeNear(), let far = pair.takeFar() else { return }
            var arguments = ["mlvpn-control", "--user", controlUser]
            if let directory = settings.stateDirectory {
                arguments += ["--state-dir", directory, "--admin-group", settings.adminGroup]
                if let scripts = settings.scriptDirectory { arguments += ["--script-dir", scripts] }
                // A new database would end every tunnel of the one that was there.
                if isControlReady { arguments.append("--existing-database") }
            } else {
                arguments.append("--standalone")
            }
            let pid = try start(
                "mlvpn-control", arguments: arguments + settings.controlArguments, channel: far.raw, titleRoom: 0)
            let peer = try Peer<ControlRequest>(
                pid: pid, channel: near, loop: loop, buffer: channelBuffer,
                receive: { [weak self] request, descriptors in self?.controlSays(request, &descriptors) },
                broken: { [weak self] error in
                    if error != .ended { self?.log.error("control's channel broke: \(error)") }
                })
            children.add(pid) { [weak self] end in
                self?.controlEnded(end)
                self?.checkFinished()
            }
            control = peer
            controlStarts += 1
            log.info("control started", metadata: ["pid": "\(pid)"])
            let map = try MemoryFile.readOnlyCopy(of: stateFile.raw)
            peer.send(ControlNotice.welcome, descriptors: [map.raw, controlSocket.raw, eventWake.raw])
            if isSingleTunnel, let tunnel = tunnels[1] {
                peer.send(ControlNotice.standalone(tunnel: tunnel.compiled.withoutSecret))
            }
            for tunnel in tunnels.values.sorted(by: { $0.slot < $1.slot }) where !tunnel.isRemoved { introduce(tunnel) }
            if engineStarts > 0 { peer.send(ControlNotice.engineStarted(count: engineStarts)) }
        } catch {
            log.error("control cannot be started: \(error)")
            loop.after(controlBackoff.failed()) { [weak self] in self?.startControl() }
        }
    }

    /// Without a database the account need not exist: who only shows counters can be nobody.
    private var controlUser: String {
        settings.stateDirectory != nil || Account(user: settings.controlUser) != nil ? settings.controlUser : "nobody"
    }

    private func introduce(_ tunnel: Tunnel) {
        control?.send(
            ControlNotice.assigned(
                id: tunnel.id, generation: tunnel.generation, slot: tunnel.slot, linkSlots: tunnel.orderedLinkSlots))
        for (link, text) in tunnel.problems {
            control?.send(ControlNotice.problem(id: tunnel.id, link: link, text: text))
        }
    }

    private func controlEnded(_ end: ProcessEnd) {
        guard let peer = control else { return }
        peer.close()
        control = nil
        guard !isStopping else { return }
        if isSingleTunnel, tunnels[1]?.definition.monitoring.isWanted != true { return }
        if !hasToldReady, !isSingleTunnel, controlStarts >= Self.startAttempts {
            return failStart("control cannot be started: it \(end) each of \(controlStarts) times; its log says more")
        }
        log.error("control \(end); starting it again, traffic goes on", metadata: ["pid": "\(peer.pid)"])
        if Clock.now() - peer.started > Self.settledAfter || controlStarts == 1 {
            controlBackoff = Self.processBackoff
            return startControl()
        }
        loop.after(controlBackoff.failed()) { [weak self] in self?.startControl() }
    }

    private func controlSays(_ request: ControlRequest, _ descriptors: inout DescriptorList) {
        guard !isStopping else { return }
        switch request {
        case .apply(let id, let generation, let compiled): define(id: id, generation: generation, compiled)
        case .remove(let id):
            guard let tunnel = tunnels[id] else {
                control?.send(ControlNotice.removed(id: id))
                return
            }
            remove(tunnel)
        case .ready(let kept):
            let kept = Set(kept)
            for tunnel in tunnels.values
            where tunnel.definedBy != controlStarts && !tunnel.isRemoved && !kept.contains(tunnel.id) {
                remove(tunnel)
            }
            isControlReady = true
            log.info("control ready", metadata: ["tunnels": "\(tunnels.count)"])
            checkReady()
        case .cannotStart(let reason):
            // A single tunnel does without its monitoring sockets.
            if !isSingleTunnel { failStart(reason) }
        case .signalled(let number): childSignalled(number, "control")
        case .debug(let id, let tokens):
            guard let tunnel = tunnels[id] else { return }
            tunnel.debugTokens = DebugTokens(rawValue: tokens)
            if tunnel.engineKnows != nil {
                engine?.send(EngineRequest.debug(slot: tunnel.slot, tokens: tokens))
            }
        case .capture(let id, let link, let limits):
            // Not passed on, it is closed, which is the end of the capture.
            guard let output = descriptors.take(), let tunnel = tunnels[id], tunnel.engineKnows != nil else { return }
            let linkSlot = link.flatMap { tunnel.linkSlots[$0] }
            if link != nil && linkSlot == nil { return }
            engine?.send(
                EngineRequest.capture(slot: tunnel.slot, linkSlot: linkSlot, limits: limits), descriptors: [output.raw])
        }
    }

    // MARK: Definitions

    /// A tunnel as it is to be from now on.
    func define(id: Int64, generation: UInt64, _ compiled: CompiledTunnel) {
        // One that no message could hold would end every channel that it is to go through.
        if let problem = compiled.sizeProblem { return report(id: id, nil, problem.description) }
        guard let tunnel = tunnels[id] ?? makeTunnel(id: id, generation: generation, compiled) else {
            report(id: id, nil, "all \(StateMap.tunnelCapacity) places for tunnels are taken; remove one")
            return
        }
        tunnel.isRemoved = false
        tunnel.definedBy = controlStarts
        let isUnchanged = tunnel.compiled == compiled && tunnel.generation == generation
        tunnel.compiled = compiled
        tunnel.generation = generation
        assignLinkSlots(tunnel)
        control?.send(
            ControlNotice.assigned(
                id: id, generation: generation, slot: tunnel.slot, linkSlots: tunnel.orderedLinkSlots))
        if isUnchanged && (tunnel.helper != nil || !tunnel.isWanted) { return }
        tunnel.dropStale()
        update(tunnel)
    }

    private func makeTunnel(id: Int64, generation: UInt64, _ compiled: CompiledTunnel) -> Tunnel? {
        guard let slot = tunnelSlots.take(), let record = state.tunnel(slot) else { return nil }
        // A record that is not zero is one to resume from.
        UnsafeMutableRawPointer(record).initializeMemory(as: UInt8.self, repeating: 0, count: StateMap.tunnelStride)
        let tunnel = Tunnel(id: id, slot: slot, generation: generation, compiled: compiled)
        tunnels[id] = tunnel
        tunnelsBySlot[slot] = tunnel
        return tunnel
    }

    private func assignLinkSlots(_ tunnel: Tunnel) {
        let names = tunnel.definition.links.map(\.name)
        for (name, slot) in tunnel.linkSlots where !names.contains(name) {
            tunnel.linkSlots[name] = nil
            linkSlots.giveBack(slot)
        }
        for name in names where tunnel.linkSlots[name] == nil {
            guard let slot = linkSlots.take(), let record = state.link(slot) else {
                report(id: tunnel.id, name, "all \(StateMap.linkCapacity) places for links are taken; remove one")
                continue
            }
            UnsafeMutableRawPointer(record).initializeMemory(as: UInt8.self, repeating: 0, count: StateMap.linkStride)
            tunnel.linkSlots[name] = slot
        }
    }

    func remove(_ tunnel: Tunnel) {
        tunnel.isRemoved = true
        update(tunnel)
    }

    /// Tells control of a problem, or that it is over.
    func report(id: Int64, _ link: LinkName?, _ text: String?) {
        control?.send(ControlNotice.problem(id: id, link: link, text: text))
    }
}
