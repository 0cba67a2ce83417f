import CLinux
import Glibc
import LinuxSystem
import ProcessChannel
import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

// Receive side of a turn. Sequential within a tunnel: for each link with something to read, receive (UDP_GRO) into the
// link's buffer → per datagram parse, replay check, open beside it, session → resequencer by data_seq over all links →
// coalescer → one writev per super-packet. Packets are never copied, but those that wait for a gap at the turn's end.

extension TunnelRuntime {
    /// Nanoseconds that a turn receives for, over all links; level-triggered epoll brings back what is left over.
    private static let receiveTime: Int64 = 500_000

    /// Receives from each link of `ready` (bits).
    ///
    /// - Returns: whether there is more to it than one KEEPALIVE on each, as far as is known.
    func receive(_ ready: UInt32, _ now: Moment) -> Bool {
        var coalescer = makeCoalescer()
        var hasTraffic = false
        let ready = ready & usedLinks
        guard ready != 0 else { return true }
        let share = Self.receiveTime / Int64(ready.nonzeroBitCount)
        // Beginning with the first that had no turn last time.
        let later = ready & (.max << firstLink)
        let earlier = ready & ~later
        firstLink = 0
        for part in [later, earlier] {
            var left = part
            while left != 0 {
                let link = left.trailingZeroBitCount
                left &= left - 1
                if Int64(Clock.now()) - now.nanoseconds > 2 * Self.receiveTime {
                    firstLink = UInt32(link)
                    settle(&coalescer, now)
                    return true
                }
                if !receive(link, &coalescer, now, share) { hasTraffic = true }
            }
        }
        settle(&coalescer, now)
        return hasTraffic
    }

    /// Gives up gaps whose time has come.
    func reviewOrder(_ now: Moment) {
        guard let resequencer, resequencer.pointee.held > 0 else { return }
        var coalescer = makeCoalescer()
        settle(&coalescer, now)
    }

    /// The peer began anew, or went away: what waits goes out now.
    func restartOrder(_ now: Moment) {
        guard let resequencer else { return }
        var coalescer = makeCoalescer()
        resequencer.pointee.restart()
        settle(&coalescer, now)
    }

    private func makeCoalescer() -> Coalescer {
        Coalescer(
            vectors: buffers.vectors, virtioHeader: buffers.virtioHeader, linkHeaderLength: linkHeaderLength,
            coalescesTCP: features.tcpSegmentation, coalescesUDP: features.udpSegmentation)
    }

    /// What is in order goes out; what waits is moved out of the receive buffers.
    private func settle(_ coalescer: inout Coalescer, _ now: Moment) {
        if let resequencer {
            drain(resequencer, &coalescer)
            while resequencer.pointee.review(now: now.nanoseconds) { drain(resequencer, &coalescer) }
        }
        flush(&coalescer)
        guard let resequencer else { return }
        if resequencer.pointee.held > 0 {
            let buffers = buffers
            let isReleased = resequencer.pointee.adopt { packet in
                if packet.count == 0 {
                    return InboundPacket(bytes: packet.bytes, count: 0, link: Int(packet.link), isPooled: true)
                }
                guard let slot = buffers.pool.take() else { return nil }
                memcpy(slot, packet.bytes, Int(packet.count))
                return InboundPacket(
                    bytes: slot, count: Int(packet.count), link: Int(packet.link), isPooled: true)
            }
            if isReleased {
                drain(resequencer, &coalescer)
                flush(&coalescer)
            }
        }
        record.pointee.reorderHeld = UInt64(resequencer.pointee.held)
        if record.pointee.reorderTimeouts != resequencer.pointee.timeouts {
            trace(.reorder, "gap given up; \(resequencer.pointee.held) packets wait")
        }
        record.pointee.reorderTimeouts = resequencer.pointee.timeouts
        record.pointee.reorderOverflows = resequencer.pointee.overflows
    }

    private func drain(_ resequencer: UnsafeMutablePointer<Resequencer>, _ coalescer: inout Coalescer) {
        while let packet = resequencer.pointee.next() { deliver(packet, &coalescer) }
    }

    // MARK: One link

    /// A KEEPALIVE's datagram is shorter, unless it is of a packet train.
    private static let plainKeepaliveLimit = 256

    /// Receives for `share` nanoseconds, and once at least: datagrams may be made to cost time, and other tunnels wait.
    ///
    /// - Returns: whether one KEEPALIVE came and nothing else.
    private func receive(_ link: Int, _ coalescer: inout Coalescer, _ turn: Moment, _ share: Int64) -> Bool {
        let state = links + link
        var now = turn
        var start: Int64 = 0
        let buffer = buffers.receive(link)
        var used = 0
        var receives = 0
        var isKeepalive = false
        var socket = state.pointee.socket
        // Room for a whole coalesced run is needed for each receive.
        while used + WorkerBuffers.receiveUnit <= WorkerBuffers.receiveSize, receives < 48 {
            var from = SocketAddress.none
            var local = clinux_address()
            var segment: UInt16 = 0
            let space = WorkerBuffers.receiveSize - used
            let count = from.withSystemAddress {
                clinux_udp_receive(socket, buffer + used, space, $0, &local, &segment)
            }
            if count < 0 {
                guard state.pointee.nextSocket >= 0, socket != state.pointee.nextSocket else { break }
                socket = state.pointee.nextSocket
                continue
            }
            // What came since the turn began would seem to have come before it was sent, and that delay would stay the
            // link's floor.
            now.nanoseconds = Int64(Clock.now())
            receives += 1
            if start == 0 { start = now.nanoseconds }
            state.pointee.record.pointee.rxBatches &+= 1
            state.pointee.record.pointee.rxBytes &+= UInt64(count)
            let size = segment == 0 ? count : Int(segment)
            var offset = 0
            while offset < count {
                let length = min(size, count - offset)
                if capturing != 0 {
                    let datagram = UnsafeRawBufferPointer(start: buffer + used + offset, count: length)
                    captureReceived(link, datagram, from: from, local: local)
                }
                take(state, link, buffer + used + offset, length, from, local, &coalescer, now)
                offset += max(1, length)
            }
            let isGenuine = state.pointee.session.pointee.lastHeard == now.nanoseconds
            if isGenuine, socket == state.pointee.nextSocket { moveToNextSocket(link, now) }
            // One KEEPALIVE is most of what comes to an idle link, and epoll tells if there is more.
            if isGenuine, receives == 1, state.pointee.nextSocket < 0, size == count, count < Self.plainKeepaliveLimit,
                DatagramHeader(reading: buffer + used).type == .keepalive
            {
                isKeepalive = true
                break
            }
            used += (count + 63) & ~63
            if now.nanoseconds - start > share { break }
        }
        if capturing != 0 { reviewCaptures(now) }
        measure(link, now)
        reviewOther(link, now)
        if now.nanoseconds >= state.pointee.session.pointee.reportDeadline {
            state.pointee.session.pointee.tick(now: now.nanoseconds)
        }
        sendControls(link, now)
        if state.pointee.session.pointee.visibleState != state.pointee.reported
            || state.pointee.session.pointee.epoch != state.pointee.epoch
        {
            noticeState(link, now)
        }
        return isKeepalive
    }

    /// One datagram.
    private func take(
        _ state: UnsafeMutablePointer<LinkRuntime>, _ link: Int, _ bytes: UnsafeMutableRawPointer, _ count: Int,
        _ from: SocketAddress, _ local: clinux_address, _ coalescer: inout Coalescer, _ now: Moment
    ) {
        let record = state.pointee.record
        record.pointee.rxPackets &+= 1
        let header: DatagramHeader
        let type: DatagramType
        do {
            (header, type) = try Datagram.parse(UnsafeRawBufferPointer(start: bytes, count: count))
        } catch {
            record.pointee.droppedMalformed &+= 1
            return
        }
        let isHandshake = type == .auth || type == .authOK
        var isOther = isForOther(state, flow: header.flowID, isHandshake: isHandshake)
        var (session, cipher) = sealedSession(state, isOther: isOther)
        var body = bytes + DatagramHeader.size
        var bodyCount = count - DatagramHeader.size
        let reception: LinkSession.Reception
        if type == .data, isCleartext {
            reception = state.pointee.session.pointee.receiveCleartext(
                UnsafeRawBufferPointer(start: body, count: bodyCount), from: from)
        } else {
            guard session.pointee.isWorthOpening(header, type, now: now.nanoseconds) else {
                if session.pointee.knows(header.flowID) {
                    record.pointee.droppedReplay &+= 1
                } else {
                    record.pointee.droppedState &+= 1
                }
                return
            }
            let plaintext = buffers.plaintext(link) + (body + Datagram.macSize - buffers.receive(link))
            var isOpen = cipher.openRoomy(
                body, count: bodyCount, to: plaintext, flowID: header.flowID, sequence: header.sequence)
            // Stock goes on with its flow_id and numbers when it is given another password.
            if !isOpen, let other = state.pointee.other {
                isOther.toggle()
                (session, cipher) = sealedSession(state, isOther: isOther)
                // The password before begins nothing any more.
                let isFormer = isOther != other.pointee.isNext
                isOpen =
                    !(isFormer && isHandshake && !session.pointee.knows(header.flowID))
                    && session.pointee.isWorthOpening(header, type, now: now.nanoseconds)
                    && cipher.openRoomy(
                        body, count: bodyCount, to: plaintext, flowID: header.flowID, sequence: header.sequence)
            }
            guard isOpen else {
                record.pointee.droppedAuthentication &+= 1
                trace(.protocol, "datagram from \(from) is not sealed with this password", link: link)
                return
            }
            body = plaintext
            bodyCount -= Datagram.macSize
            let (shared, isServer) = (shared, definition.mode == .server)
            reception = session.pointee.receive(
                header, type, body: UnsafeRawBufferPointer(start: body, count: bodyCount), from: from,
                now: now.nanoseconds, isOwnFlow: { shared.isReflected($0, toServer: isServer) })
            if case .dropped = reception {
            } else if session.pointee.peer == from {
                state.pointee.resume.pointee.local = local
            }
        }
        if isOther {
            reviewOther(link, now)
        } else if session.pointee.epoch != state.pointee.epoch {
            // Another session, or an older one that is back: its first packets may be in this very batch.
            beginEpoch(state)
            resequencer?.pointee.restart()
            restartCopies(link)
            doubtPeer(but: link, now)
        }
        switch reception {
        case .data:
            if let copies, isCopy(header, copies, link) {
                self.record.pointee.duplicates &+= 1
                return
            }
            let packet = InboundPacket(bytes: body, count: bodyCount, link: link)
            order(packet, header, &coalescer, now)
        case .control:
            if session.pointee.takeRest() { resequencer?.pointee.forget(link: link) }
            if type == .keepalive, !isOther, bodyCount > 0 {
                takeTrain(UnsafeRawBufferPointer(start: body, count: bodyCount), link, now)
            }
        case .dropped(let reason):
            if reason == .replayed {
                record.pointee.droppedReplay &+= 1
            } else {
                record.pointee.droppedState &+= 1
            }
            trace(.protocol, "datagram of type \(type) from \(from) dropped: \(reason)", link: link)
        }
    }

    /// Whether a packet came already over another link.
    private func isCopy(_ header: DatagramHeader, _ copies: UnsafeMutablePointer<PeerCopies>, _ link: Int) -> Bool {
        guard links[link].session.pointee.capabilities.contains(.redundantCopies) else { return false }
        if header.reorder { return copies.pointee.ordered.isCopy(header.dataSequence) }
        return header.dataSequence != 0 && copies.pointee.unordered.isCopy(header.dataSequence)
    }

    /// A peer that may send copies counts anew.
    func restartCopies(_ link: Int) {
        guard links[link].session.pointee.capabilities.contains(.redundantCopies) else { return }
        if let copies {
            copies.pointee.ordered.restart()
            copies.pointee.unordered.restart()
        } else {
            let new = UnsafeMutablePointer<PeerCopies>.allocate(capacity: 1)
            new.initialize(to: PeerCopies())
            copies = new
        }
    }

    /// A peer that began anew: what was known of how it answers holds no longer.
    func beginEpoch(_ state: UnsafeMutablePointer<LinkRuntime>) {
        state.pointee.epoch = state.pointee.session.pointee.epoch
        bond.pointee.reset(state - links)
        state.pointee.health = LinkHealth()
    }

    private func order(
        _ packet: InboundPacket, _ header: DatagramHeader, _ coalescer: inout Coalescer, _ now: Moment
    ) {
        guard let resequencer, header.reorder else { return deliver(packet, &coalescer) }
        var packet = packet
        if resequencer.pointee.isAhead(header.dataSequence), mayOvertake(packet) {
            deliver(packet, &coalescer)
            // Its number has come.
            packet.count = 0
        }
        var verdict = resequencer.pointee.insert(packet, sequence: header.dataSequence, now: now.nanoseconds)
        if verdict == .full {
            drain(resequencer, &coalescer)
            verdict = resequencer.pointee.insert(packet, sequence: header.dataSequence, now: now.nanoseconds)
        }
        if verdict == .held { drain(resequencer, &coalescer) } else { deliver(packet, &coalescer) }
    }

    /// A stock peer sends acknowledgements over its slow links, too: a download would wait for the slowest.
    private func mayOvertake(_ packet: InboundPacket) -> Bool {
        !links[Int(packet.link)].session.pointee.capabilities.contains(.receiverReports)
            && isAcknowledgement(
                UnsafeRawBufferPointer(start: packet.bytes, count: Int(packet.count)),
                linkHeaderLength: linkHeaderLength)
    }

    // MARK: The device

    private func deliver(_ packet: InboundPacket, _ coalescer: inout Coalescer) {
        // Delivered before its turn.
        guard packet.count > 0 else { return }
        let bytes = UnsafeMutableRawBufferPointer(start: packet.bytes, count: Int(packet.count))
        // Both ways: a stock peer does not do its half.
        if clampsMSS { clamp(bytes) }
        if capturesInner { captureInner(UnsafeRawBufferPointer(bytes)) }
        if packet.isPooled { buffers.pendingFree.append(packet.bytes) }
        record.pointee.deviceTxPackets &+= 1
        record.pointee.deviceTxBytes &+= UInt64(packet.count)
        if coalescer.append(bytes) == .flushFirst {
            write(coalescer.finish())
            _ = coalescer.append(bytes)
        }
    }

    private func flush(_ coalescer: inout Coalescer) {
        if !coalescer.isEmpty { write(coalescer.finish()) }
        guard !buffers.pendingFree.isEmpty else { return }
        for slot in buffers.pendingFree { buffers.pool.give(slot) }
        buffers.pendingFree.removeAll(keepingCapacity: true)
    }

    /// Without a virtio header on the device, the packets behind it are written as they are: there is one.
    private func write(_ vectors: UnsafeBufferPointer<iovec>) {
        guard device >= 0 else {
            record.pointee.droppedDevice &+= UInt64(vectors.count - 1)
            return
        }
        let parts = features.hasVirtioHeader ? vectors : UnsafeBufferPointer(rebasing: vectors.dropFirst())
        record.pointee.deviceWrites &+= 1
        if writev(device, parts.baseAddress, Int32(parts.count)) < 0 {
            record.pointee.droppedDevice &+= UInt64(vectors.count - 1)
            trace(.tuntap, "device refuses a write: \(String(cString: strerror(errno)))")
        }
    }
}
