import CLinux
import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import TunnelCore
import TunnelCrypto
import TunnelModel

// A definition is applied in place: what did not change goes on undisturbed. Another role or kind of device is another
// session, which the peer is told; another key is one that follows (TunnelRuntime+Successor).

extension TunnelRuntime {
    /// The first definition, and every later one.
    func configure(generation: UInt64, tunnel: CompiledTunnel, linkSlots: [LinkSlot], now: Moment) {
        let cipher = SessionCipher(password: tunnel.definition.password.bytes)
        let identity = Self.identity(of: tunnel.definition, cipher: cipher)
        dropDescriptors(before: tunnel.definition)
        // What outlives sessions that end here: sockets, and where peers are.
        var kept: [LinkName: (socket: Int32, peers: [SocketAddress])] = [:]
        let isSameKind = tunnel.definition.mode == definition.mode && tunnel.definition.device == definition.device
        if identity != resume.pointee.identity, isSameKind {
            changeKey(cipher, identity: identity, now)
            resume.pointee.identity = identity
        } else if identity != resume.pointee.identity {
            forEachLink { link in
                disconnect(link, .reconfigured, now)
                if let name = names[link] { kept[name] = (takeSocket(link), peers[link]) }
                removeLink(link, .reconfigured, now)
            }
            resume.pointee.identity = identity
            restartOrder(now)
        }
        self.generation = generation
        self.cipher = cipher
        // A capture of frames that are of another kind from now on is no file.
        if tunnel.definition.device != definition.device { captures = Captures() }
        reviewCaptures(now)
        if tunnel.definition.reorder != definition.reorder {
            restartOrder(now)
            resequencer?.deinitialize(count: 1)
            resequencer?.deallocate()
            resequencer = Self.makeResequencer(tunnel.definition)
        }
        let formerOffloads = definition.offloads
        definition = tunnel.definition
        isCleartext = definition.cleartextData
        clampsMSS = definition.clampMSS
        mtu = definition.effectiveMTU
        let headerLength = definition.device == .tap ? 14 : 0
        if headerLength != linkHeaderLength {
            dropQueue()
            queue.pointee = FairQueue(linkHeaderLength: headerLength)
        }
        linkHeaderLength = headerLength
        record.pointee.generation = generation

        forEachLink { link in
            let isKept = linkSlots.contains { $0.slot == links[link].slot }
            if !isKept { removeLink(link, .reconfigured, now) }
        }
        for link in definition.links {
            guard let slot = linkSlots.first(where: { $0.link == link.name })?.slot else { continue }
            applyLink(link, slot: slot, identity: Self.identity(of: link.name, in: identity), now)
        }
        for (name, held) in kept {
            guard let link = names.firstIndex(of: name) else {
                if held.socket >= 0 { close(held.socket) }
                continue
            }
            if held.socket >= 0 { attachSocket(link, held.socket, now) }
            setPeers(link, held.peers, now)
        }
        if definition.offloads != formerOffloads {
            forEachLink { link in
                for socket in [links[link].socket, links[link].nextSocket] where socket >= 0 {
                    setOffloads(link, socket)
                }
                publish(link, now)
            }
        }
        applyFilters(tunnel)
        // Weights may have changed though the links that share the traffic have not.
        bond.pointee.forgetChoice()
        updateEligible(now)
        updateDeadline(now)
        forEachLink { shared.post(.linkState(slot: slot, linkSlot: links[$0].slot, state: links[$0].reported)) }
    }

    /// Closes what the next definition has differently: the helper brings new ones.
    private func dropDescriptors(before next: TunnelDefinition) {
        if next.interface != definition.interface || next.device != definition.device
            || next.offloads.device != definition.offloads.device
        {
            closeDevice()
        }
        forEachLink { link in
            let old = definition.links.first { $0.name == names[link] }
            let new = next.links.first { $0.name == names[link] }
            guard let old, let new else { return }
            if old.bind != new.bind { retireSocket(link, old, new, next) }
            if old.remote != new.remote, next.mode == .client { links[link].hasNewRemote = true }
        }
    }

    private func applyFilters(_ tunnel: CompiledTunnel) {
        filters = []
        for (filter, code) in zip(definition.filters, tunnel.filterPrograms) {
            let places = filter.links.compactMap { names.firstIndex(of: $0) }
            do {
                filters.append(
                    TunnelFilter(
                        program: try BPFProgram(code), links: places.reduce(0) { $0 | 1 << UInt32($1) }, order: places))
            } catch {
                log.error(
                    "filter is not run: its program is invalid",
                    metadata: ["tunnel": "\(definition.name)", "filter": "\(filter.expression)", "error": "\(error)"])
            }
        }
    }

    private func applyLink(_ link: LinkDefinition, slot: Slot, identity: UInt64, _ now: Moment) {
        let settings = LinkSession.Settings(
            isServer: definition.mode == .server, isTAP: definition.device == .tap,
            isCleartext: definition.cleartextData,
            timeoutSeconds: definition.timeout(of: link), lossTolerance: definition.lossTolerance(of: link),
            latencyTolerance: definition.latencyTolerance(of: link))
        let place: Int
        if let known = names.firstIndex(of: link.name) {
            place = known
            links[place].session.pointee.settings = settings
            links[place].other?.pointee.session.settings = settings
        } else {
            guard let new = addLink(slot: slot, identity: identity, settings: settings, now) else {
                log.error("link has no place in the state map", metadata: ["link": "\(link.name)", "slot": "\(slot)"])
                return
            }
            place = new
            names[place] = link.name
        }
        links[place].record.pointee.generation = generation
        links[place].isFallback = link.fallback
        var weight: UInt64 = 0
        if case .bytesPerSecond(let rate) = link.bandwidth { weight = rate }
        bond.pointee.configure(place, weight: weight, limit: Double(link.limit ?? 0))
    }

    /// The place of a new link, its session fresh or taken up from the engine before this one.
    private func addLink(
        slot: Slot, identity: UInt64, settings: LinkSession.Settings, _ now: Moment
    ) -> Int? {
        let place = (~usedLinks).trailingZeroBitCount
        guard place < Self.maximumLinks, let record = shared.state.link(slot),
            let memory = shared.state.linkResume(slot)
        else { return nil }
        let resume = memory.assumingMemoryBound(to: LinkResume.self)
        let isResumed = resume.pointee.layout == LinkResume.layout && resume.pointee.identity == identity
        if isResumed {
            resume.pointee.session.settings = settings
            resume.pointee.session.resume(now: now.nanoseconds)
            shared.noteFlowID(resume.pointee.session.flowID, isServer: settings.isServer)
        } else {
            let session = LinkSession(
                settings: settings, flowID: shared.takeFlowID(isServer: settings.isServer),
                sequence: UInt64(max(0, now.wallMilliseconds)) * 1000, now: now.nanoseconds)
            resume.pointee = LinkResume(
                layout: LinkResume.layout, identity: identity, session: session, local: clinux_address())
            record.pointee = StateMap.LinkRecord()
            record.pointee.since = now.wallMilliseconds
        }
        guard let session = resume.pointer(to: \.session) else { return nil }
        (links + place).initialize(
            to: LinkRuntime(
                slot: slot, record: record, resume: resume, session: session, cipher: cipher,
                run: SendRun(base: buffers.send(place))))
        usedLinks |= 1 << UInt32(place)
        bond.pointee.reset(place)
        links[place].epoch = session.pointee.epoch
        links[place].wasStarted = isResumed
        if isResumed { restartCopies(place) }
        // Down until told otherwise; a session that is resumed reports itself at the first tick.
        links[place].reported = isResumed ? session.pointee.visibleState : .down
        return place
    }

    /// Ends a link's session, tells the peer and everybody else, and frees its place.
    func removeLink(_ link: Int, _ reason: LinkReason, _ now: Moment) {
        dropOther(link)
        disconnect(link, reason, now)
        closeSocket(link)
        shared.releaseFlowID(links[link].session.pointee.flowID)
        // The next session in this place is another one.
        if let memory = shared.state.linkResume(links[link].slot) {
            memory.assumingMemoryBound(to: LinkResume.self).pointee.layout = 0
        }
        links[link].record.pointee.generation = 0
        captures.stop(link: link)
        reviewCaptures(now)
        usedLinks &= ~(1 << UInt32(link))
        bond.pointee.remove(link)
        names[link] = nil
        peers[link] = []
    }

    func disconnect(_ link: Int, _ reason: LinkReason, _ now: Moment) {
        flush(link, now)
        links[link].session.pointee.disconnect(reason, now: now.nanoseconds)
        sendControls(link, now)
        noticeState(link, now)
    }

    /// DISCONNECT on every link that is up.
    func stop(_ reason: LinkReason, _ now: Moment) {
        forEachLink { disconnect($0, reason, now) }
    }

    // MARK: Descriptors

    func link(ofSlot slot: Slot) -> Int? {
        var found: Int?
        forEachLink { if links[$0].slot == slot { found = $0 } }
        return found
    }

    func attachDevice(_ descriptor: Int32, _ features: DeviceFeatures) {
        closeDevice()
        device = descriptor
        self.features = features
        record.pointee.offloads =
            (features.tcpSegmentation ? 1 : 0) | (features.udpSegmentation ? 2 : 0) | (features.hasVirtioHeader ? 4 : 0)
        watch(descriptor, Poller.devicePart)
    }

    func attachSocket(_ link: Int, _ descriptor: Int32, _ now: Moment) {
        flush(link, now)
        setOffloads(link, descriptor)
        closeNextSocket(link)
        if links[link].socket >= 0, definition.mode == .server, links[link].session.pointee.isUp {
            links[link].nextSocket = descriptor
            links[link].nextSocketTakesOver = now.nanoseconds + links[link].session.pointee.settings.timeout
            return watch(descriptor, UInt64(link))
        }
        closeSocket(link)
        links[link].socket = descriptor
        watch(descriptor, UInt64(link))
        startClient(link)
        tick(now)
    }

    private func setOffloads(_ link: Int, _ descriptor: Int32) {
        links[link].usesSegmentation = definition.offloads.udpSegment && engineOffloads.udpSegment
        links[link].segmentationReturn = .max
        let wantsGRO = definition.offloads.udpGRO && engineOffloads.udpGRO
        links[link].usesGRO = clinux_udp_set_gro(descriptor, wantsGRO ? 1 : 0) == 0 && wantsGRO
    }

    /// A link's socket has another address from now on. The old one serves until the new one is there, and a server's until
    /// its peer has found that; but one port cannot be bound twice, and what is held may be of an earlier definition.
    private func retireSocket(
        _ link: Int, _ old: LinkDefinition, _ new: LinkDefinition, _ next: TunnelDefinition
    ) {
        // Nor by two links that change places.
        let isWanted = next.links.contains {
            $0.name != new.name && $0.bind.port == old.bind.port && old.bind.port != nil
                && ($0.bind.host == old.bind.host || $0.bind.host == nil || old.bind.host == nil)
        }
        if isWanted { return closeSocket(link) }
        guard let port = new.bind.port else { return }
        if boundPort(links[link].nextSocket) == port { closeNextSocket(link) }
        if boundPort(links[link].socket) == port { closeSocket(link) }
    }

    private func boundPort(_ socket: Int32) -> UInt16? {
        var address = clinux_address()
        guard socket >= 0, clinux_udp_local_address(socket, &address) == 0 else { return nil }
        return address.port
    }

    /// The peer sends to the new address, or has had the time.
    func moveToNextSocket(_ link: Int, _ now: Moment) {
        guard links[link].nextSocket >= 0 else { return }
        flush(link, now)
        let next = links[link].nextSocket
        links[link].nextSocket = -1
        links[link].nextSocketTakesOver = .max
        let local = links[link].resume.pointee.local
        closeSocket(link)
        links[link].socket = next
        links[link].resume.pointee.local = local
    }

    private func closeNextSocket(_ link: Int) {
        guard links[link].nextSocket >= 0 else { return }
        unwatch(links[link].nextSocket)
        close(links[link].nextSocket)
        links[link].nextSocket = -1
        links[link].nextSocketTakesOver = .max
    }

    func setPeers(_ link: Int, _ addresses: [SocketAddress], _ now: Moment) {
        peers[link] = addresses
        guard let first = addresses.first else { return }
        let current = links[link].session.pointee.peer
        if links[link].other?.pointee.isNext == true {
            links[link].other?.pointee.session.configure(peer: addresses.contains(current) ? current : first)
        }
        // Otherwise a server that is not among them has moved by itself, and is still the same.
        if links[link].hasNewRemote, !addresses.contains(current) {
            links[link].session.pointee.move(to: first, now: now.nanoseconds)
        }
        links[link].hasNewRemote = false
        if !links[link].session.pointee.isUp || (definition.mode == .client && !addresses.contains(current)) {
            links[link].session.pointee.configure(peer: addresses.contains(current) ? current : first)
        }
        startClient(link)
        tick(now)
    }

    private func startClient(_ link: Int) {
        guard !links[link].wasStarted, links[link].socket >= 0, !peers[link].isEmpty else { return }
        links[link].wasStarted = true
        links[link].session.pointee.announceStart()
    }

    /// Gives the link's socket away, unwatched; -1 without one.
    private func takeSocket(_ link: Int) -> Int32 {
        closeNextSocket(link)
        let socket = links[link].socket
        unwatch(socket)
        links[link].socket = -1
        return socket
    }

    private func closeSocket(_ link: Int) {
        closeNextSocket(link)
        guard links[link].socket >= 0 else { return }
        unwatch(links[link].socket)
        close(links[link].socket)
        links[link].socket = -1
        links[link].resume.pointee.local = clinux_address()
    }

    /// Someone else has deleted the device: its descriptor is always ready, and good for nothing.
    func loseDevice() {
        closeDevice()
        shared.post(.deviceLost(slot: slot))
    }

    private func closeDevice() {
        unwatch(device)
        if device >= 0 { close(device) }
        device = -1
    }

    // MARK: Workers

    /// Takes its place with a worker.
    func join(_ poller: Poller, at place: Int, _ buffers: WorkerBuffers) {
        self.poller = poller
        self.place = place
        self.buffers = buffers
        forEachLink { link in
            links[link].run = SendRun(base: buffers.send(link))
            watch(links[link].socket, UInt64(link))
            watch(links[link].nextSocket, UInt64(link))
        }
        watch(device, Poller.devicePart)
    }

    /// Leaves its worker: nothing of it stays in that one's buffers. Packets that wait keep their slots, which the next
    /// worker's pool takes in: a pool's memory lives as long as the process.
    func leave(_ now: Moment) {
        forEachLink { link in
            flush(link, now)
            unwatch(links[link].socket)
            unwatch(links[link].nextSocket)
        }
        unwatch(device)
        poller = nil
    }

    /// The end: descriptors closed, places in the state map given back.
    func retire(_ now: Moment) {
        dropQueue()
        restartOrder(now)
        forEachLink { link in
            dropOther(link)
            closeSocket(link)
            shared.releaseFlowID(links[link].session.pointee.flowID)
            if let memory = shared.state.linkResume(links[link].slot) {
                memory.assumingMemoryBound(to: LinkResume.self).pointee.layout = 0
            }
            links[link].record.pointee.generation = 0
        }
        closeDevice()
        resume.pointee.layout = 0
        record.pointee.generation = 0
    }

    private func watch(_ descriptor: Int32, _ part: UInt64) {
        guard descriptor >= 0, let poller else { return }
        do {
            try poller.epoll.add(descriptor, .read, token: Poller.token(index: place, part: part))
        } catch {
            log.error("descriptor is not served", metadata: ["tunnel": "\(definition.name)", "error": "\(error)"])
        }
    }

    private func unwatch(_ descriptor: Int32) {
        guard descriptor >= 0, let poller else { return }
        do {
            try poller.epoll.remove(descriptor)
        } catch {
            log.error("descriptor stays watched", metadata: ["tunnel": "\(definition.name)", "error": "\(error)"])
        }
    }
}
