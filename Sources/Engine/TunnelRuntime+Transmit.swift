import CLinux
import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

// Transmit side of a turn. Sequential within a tunnel: read the device (a super-packet, or one packet after another) →
// split in place → filter or scheduler chooses the link → header and seal straight into the link's run → one send
// (UDP_SEGMENT) per run. The payload is read once, by the cipher.

extension TunnelRuntime {
    /// A turn ends after so many bytes or packets from the device: sooner where other tunnels may have to wait for it.
    private static let budgetBytes = 64 * 1024
    private static let budgetBytesAlone = 128 * 1024
    private static let budgetPackets = 128
    /// Where a read goes: behind the cipher's room, and so that an IP header behind 10 bytes is aligned.
    private static let deviceOffset = SessionCipher.headroom + 6

    /// Reads the device until it is empty or the turn is over.
    ///
    /// - Parameter isAlone: no other tunnel is the worker's.
    func transmit(_ now: Moment, isAlone: Bool) {
        let budgetBytes = isAlone ? Self.budgetBytesAlone : Self.budgetBytes
        let start = buffers.device + Self.deviceOffset
        let headerSize = features.hasVirtioHeader ? VirtioNetHeader.size : 0
        let stamp = now.wireTimestamp
        var bytes = 0
        var packets = 0
        reviewChoice(now)
        bond.pointee.begin(now: now.nanoseconds)
        drainQueue(now)
        while bytes < budgetBytes, packets < Self.budgetPackets {
            let count = read(device, start, WorkerBuffers.deviceSize - Self.deviceOffset - SessionCipher.tailroom)
            if count <= headerSize {
                if count < 0, errno == EBADFD { loseDevice() }
                break
            }
            record.pointee.deviceReads &+= 1
            let packet = UnsafeMutableRawBufferPointer(start: start + headerSize, count: count - headerSize)
            let header = headerSize == 0 ? VirtioNetHeader() : VirtioNetHeader(reading: start)
            packets += split(packet, header, stamp, now)
            bytes += count
        }
        forEachLink { flush($0, now) }
        sendTrains(now)
    }

    /// Sends the segments of one read; how many there were.
    private func split(
        _ packet: UnsafeMutableRawBufferPointer, _ header: VirtioNetHeader, _ stamp: UInt16, _ now: Moment
    ) -> Int {
        var segments: SuperPacket
        do {
            segments = try SuperPacket(header, packet: packet, linkHeaderLength: linkHeaderLength)
        } catch {
            record.pointee.droppedDevice &+= 1
            return 1
        }
        let count = segments.segmentCount
        record.pointee.deviceRxPackets &+= UInt64(count)
        record.pointee.deviceRxBytes &+= UInt64(packet.count)
        let flow = flowHash(UnsafeRawBufferPointer(packet), linkHeaderLength: linkHeaderLength)
        for index in 0..<count { send(segments.segment(index), flow, stamp, now) }
        return count
    }

    private func send(_ packet: UnsafeMutableRawBufferPointer, _ flow: UInt32, _ stamp: UInt16, _ now: Moment) {
        if packet.count > Datagram.maximumPlaintext { return refuse(packet, now) }
        if clampsMSS { clamp(packet) }
        if capturesInner { captureInner(UnsafeRawBufferPointer(packet)) }
        if !filters.isEmpty, sendFiltered(packet, stamp, now) { return }
        sampled &+= 1
        if sampled & 15 == 0 { bond.pointee.sample(flow: flow, bytes: packet.count) }
        let link = bond.pointee.pickSparse(packet.count + Datagram.overhead, flow: flow, now: now.nanoseconds)
        if link >= 0 { return append(packet, link, reorder: false, 0, stamp, now) }
        guard queue.pointee.isEmpty else { return enqueue(packet, flow, now) }
        if !sendScheduled(packet, stamp, now) {
            if bond.pointee.eligible != 0 { enqueue(packet, flow, now) } else { record.pointee.droppedNoLink &+= 1 }
        }
    }

    func clamp(_ packet: UnsafeMutableRawBufferPointer) {
        clampMSS(
            packet, linkHeaderLength: linkHeaderLength, maximumSegment4: UInt16(clamping: mtu - 40),
            maximumSegment6: UInt16(clamping: mtu - 60))
    }

    /// Sends a packet that a filter with a link that is up claims, the first such filter in order: on its first link, or
    /// where the peer drops copies on all of them. Never queued, never reordered.
    private func sendFiltered(_ packet: UnsafeMutableRawBufferPointer, _ stamp: UInt16, _ now: Moment) -> Bool {
        let able = upLinks & ~suspects
        for filter in filters where filter.links & able != 0 {
            guard filter.program.matches(UnsafeRawBufferPointer(packet)) else { continue }
            let copied = filter.links & upLinks
            let links = filter.links & able
            if copied & (copied - 1) != 0, copied & ~copyLinks == 0 {
                let sequence = resume.pointee.nextCopySequence
                resume.pointee.nextCopySequence = max(1, sequence &+ 1)
                bond.pointee.charge(copied, packet.count + Datagram.overhead)
                appendCopies(packet, copied, reorder: false, sequence, stamp, now)
            } else if let link = filter.order.first(where: { links & 1 << UInt32($0) != 0 }) {
                guard !bond.pointee.exceedsLimit(link) else {
                    record.pointee.droppedQueue &+= 1
                    return true
                }
                bond.pointee.charge(1 << UInt32(link), packet.count + Datagram.overhead)
                append(packet, link, reorder: false, 0, stamp, now)
            }
            trace(.filters, "a packet of \(packet.count) bytes goes where a filter says")
            return true
        }
        return false
    }

    /// Sends a packet as the scheduler says; false when no link may take it now.
    func sendScheduled(_ packet: UnsafeMutableRawBufferPointer, _ stamp: UInt16, _ now: Moment) -> Bool {
        if isRedundant {
            let open = bond.pointee.openLinks
            guard open != 0 else { return false }
            bond.pointee.charge(open, packet.count + Datagram.overhead)
            appendCopies(packet, open, reorder: true, takeDataSequence(), stamp, now)
        } else {
            let link = bond.pointee.pick(packet.count + Datagram.overhead)
            guard link >= 0 else { return false }
            let copies = bond.pointee.copyLinks & ~(1 << UInt32(link))
            if copies == 0 {
                let isOrdered = bond.pointee.ordersAtPeer
                append(packet, link, reorder: isOrdered, isOrdered ? takeDataSequence() : 0, stamp, now)
            } else {
                bond.pointee.charge(copies, packet.count + Datagram.overhead)
                appendCopies(packet, copies | 1 << UInt32(link), reorder: true, takeDataSequence(), stamp, now)
            }
        }
        return true
    }

    func takeDataSequence() -> UInt64 {
        let sequence = resume.pointee.nextDataSequence
        resume.pointee.nextDataSequence = sequence &+ 1
        return sequence
    }

    /// The same packet on several links; the receiver keeps the first that comes.
    func appendCopies(
        _ packet: UnsafeMutableRawBufferPointer, _ mask: UInt32, reorder: Bool, _ dataSequence: UInt64,
        _ stamp: UInt16, _ now: Moment
    ) {
        var left = mask
        while left != 0 {
            append(packet, left.trailingZeroBitCount, reorder: reorder, dataSequence, stamp, now)
            left &= left - 1
        }
    }

    func append(
        _ packet: UnsafeMutableRawBufferPointer, _ link: Int, reorder: Bool, _ dataSequence: UInt64, _ stamp: UInt16,
        _ now: Moment
    ) {
        guard let plaintext = packet.baseAddress else { return }
        let state = links + link
        let isClear = isCleartext
        let bodyLength = isClear ? packet.count : packet.count + Datagram.macSize
        let size = DatagramHeader.size + bodyLength
        if !state.pointee.run.takes(size) { flush(link, now) }
        let place = state.pointee.run.append(size)
        let header = state.pointee.session.pointee.nextHeader(
            .data, bodyLength: bodyLength, reorder: reorder, dataSequence: dataSequence, stamp: stamp,
            now: now.nanoseconds)
        if isClear {
            memcpy(place + DatagramHeader.size, plaintext, packet.count)
        } else {
            // Around the packet: what was sent already, or the free part of its slot; around its place: this header, and
            // datagrams to come.
            state.pointee.cipher.sealRoomy(
                plaintext, count: packet.count, to: place + DatagramHeader.size, flowID: header.flowID,
                sequence: header.sequence)
        }
        header.write(to: place)
    }

    /// A packet that no datagram holds: its sender is told, at most 100 times a second.
    private func refuse(_ packet: UnsafeMutableRawBufferPointer, _ now: Moment) {
        record.pointee.droppedTooBig &+= 1
        guard linkHeaderLength == 0, now.nanoseconds - lastTooBig >= 10 * millisecond, device >= 0 else { return }
        lastTooBig = now.nanoseconds
        let answer = UnsafeMutableRawBufferPointer(start: buffers.scratch + 64, count: maximumTooBigLength)
        let count = makeTooBig(UnsafeRawBufferPointer(packet), mtu: mtu, into: answer)
        guard count > 0, let base = answer.baseAddress else { return }
        let headerSize = features.hasVirtioHeader ? VirtioNetHeader.size : 0
        memset(base - headerSize, 0, headerSize)
        _ = write(device, base - headerSize, headerSize + count)
    }

    // MARK: Sending runs

    private static let segmentationPause = 30 * second

    func flush(_ link: Int, _ now: Moment) {
        let state = links + link
        guard !state.pointee.run.isEmpty else { return }
        let run = state.pointee.run
        state.pointee.run.reset()
        let record = state.pointee.record
        if now.nanoseconds >= state.pointee.segmentationReturn {
            state.pointee.usesSegmentation = true
            state.pointee.segmentationReturn = .max
        }
        if run.datagrams == 1 || state.pointee.usesSegmentation {
            let result = transfer(
                state, run.base, run.used, segmentSize: run.datagrams > 1 ? UInt16(run.segmentSize) : 0)
            if result == -Int(EIO) || result == -Int(EINVAL) || result == -Int(EMSGSIZE), run.datagrams > 1 {
                // The device or its MTU does not allow segmentation: one by one for a while.
                state.pointee.usesSegmentation = false
                state.pointee.segmentationReturn = now.nanoseconds + Self.segmentationPause
                sendOneByOne(link, run)
            } else {
                count(link, run.datagrams, run.used, result)
            }
        } else {
            sendOneByOne(link, run)
        }
        record.pointee.txBatches &+= 1
        state.pointee.health.sent(now: now.nanoseconds)
    }

    private func sendOneByOne(_ link: Int, _ run: SendRun) {
        var offset = 0
        while offset < run.used {
            let size = min(run.segmentSize, run.used - offset)
            count(link, 1, size, transfer(links + link, run.base + offset, size, segmentSize: 0))
            offset += size
        }
    }

    /// Notes what became of datagrams; `result` below 0: an error's code with its sign changed.
    private func count(_ link: Int, _ datagrams: Int, _ bytes: Int, _ result: Int) {
        let record = links[link].record
        if result < 0 {
            record.pointee.droppedSend &+= UInt64(datagrams)
            reportSendError(link, -result)
        } else {
            record.pointee.txPackets &+= UInt64(datagrams)
            record.pointee.txBytes &+= UInt64(bytes)
        }
    }

    private func transfer(
        _ state: UnsafeMutablePointer<LinkRuntime>, _ bytes: UnsafeMutableRawPointer, _ count: Int, segmentSize: UInt16
    ) -> Int {
        var to = state.pointee.session.pointee.peer
        return transfer(state, bytes, count, to: &to, segmentSize: segmentSize)
    }

    /// Bytes sent, or -errno.
    private func transfer(
        _ state: UnsafeMutablePointer<LinkRuntime>, _ bytes: UnsafeMutableRawPointer, _ count: Int,
        to: inout SocketAddress, segmentSize: UInt16
    ) -> Int {
        if capturing != 0, let link = link(ofSlot: state.pointee.slot) {
            captureSent(
                link, UnsafeRawBufferPointer(start: bytes, count: count),
                size: segmentSize == 0 ? count : Int(segmentSize), to: to)
        }
        var part = iovec(iov_base: bytes, iov_len: count)
        let socket = state.pointee.socket
        guard let local = state.pointee.resume.pointer(to: \.local) else { return -Int(EINVAL) }
        let result = to.withSystemAddress { clinux_udp_send(socket, $0, local, &part, 1, segmentSize) }
        guard result < 0, local.pointee.version != 0 else { return result }
        // An address that this host has no more: the kernel chooses another.
        guard [-EINVAL, -ENETUNREACH, -EADDRNOTAVAIL].contains(Int32(result)) else { return result }
        let retried = to.withSystemAddress { clinux_udp_send(socket, $0, nil, &part, 1, segmentSize) }
        if retried >= 0 { local.pointee = clinux_address() }
        return retried
    }

    private func reportSendError(_ link: Int, _ code: Int) {
        trace(.net, "send fails: \(String(cString: strerror(Int32(code))))", link: link)
        // A full buffer is load, and a refused port a peer that is away: both are seen elsewhere.
        guard code != Int(EAGAIN), code != Int(ECONNREFUSED), code != Int(ENOBUFS) else { return }
        let now = Int64(Clock.now())
        guard now - lastSendError >= 10 * second else { return }
        lastSendError = now
        log.warning(
            "link cannot send",
            metadata: [
                "tunnel": "\(definition.name)", "link": "\(names[link]?.text ?? "")",
                "peer": "\(links[link].session.pointee.peer)", "error": "\(String(cString: strerror(Int32(code))))",
            ])
    }

    // MARK: Control messages

    /// Sends what the link's session owes.
    func sendControls(_ link: Int, _ now: Moment) {
        let state = links + link
        guard state.pointee.socket >= 0 else { return }
        while let control = state.pointee.session.pointee.nextControl(now: now.nanoseconds) {
            sendControl(state, state.pointee.session, state.pointee.cipher, control, now)
        }
    }

    func sendControl(
        _ state: UnsafeMutablePointer<LinkRuntime>, _ session: UnsafeMutablePointer<LinkSession>,
        _ cipher: SessionCipher, _ control: LinkSession.Control, _ now: Moment
    ) {
        let count = writeBody(of: control, session, to: controlBody, now)
        trace(.protocol, "sends \(control.type) to \(control.destination)", link: link(ofSlot: state.pointee.slot))
        if control.type == .keepalive, !control.carriesReport { state.pointee.health.sent(now: now.nanoseconds) }
        sendControl(state, session, cipher, control.type, bodyCount: count, to: control.destination, now)
    }

    /// Where the body of a control message is written.
    var controlBody: UnsafeMutableRawPointer { buffers.scratch + 512 }

    /// Sends a control message whose body is in ``controlBody``.
    func sendControl(
        _ state: UnsafeMutablePointer<LinkRuntime>, _ session: UnsafeMutablePointer<LinkSession>,
        _ cipher: SessionCipher, _ type: DatagramType, bodyCount: Int, to destination: SocketAddress, _ now: Moment
    ) {
        let datagram = buffers.scratch
        sealControl(session, cipher, type, bodyCount: bodyCount, to: datagram, now)
        var to = destination
        let size = Datagram.overhead + bodyCount
        if transfer(state, datagram, size, to: &to, segmentSize: 0) >= 0 {
            state.pointee.record.pointee.txPackets &+= 1
            state.pointee.record.pointee.txBytes &+= UInt64(size)
        } else {
            state.pointee.record.pointee.droppedSend &+= 1
        }
    }

    /// Writes the datagram of a control message whose body is in ``controlBody``.
    func sealControl(
        _ session: UnsafeMutablePointer<LinkSession>, _ cipher: SessionCipher, _ type: DatagramType, bodyCount: Int,
        to datagram: UnsafeMutableRawPointer, _ now: Moment
    ) {
        let header = session.pointee.nextHeader(
            type, bodyLength: bodyCount + Datagram.macSize, reorder: false, dataSequence: 0,
            stamp: now.wireTimestamp, now: now.nanoseconds)
        header.write(to: datagram)
        cipher.seal(
            controlBody, count: bodyCount, to: datagram + DatagramHeader.size, flowID: header.flowID,
            sequence: header.sequence)
    }

    /// The body's length. A server answers in our own dialect only who spoke it; stock ignores what it does not know.
    private func writeBody(
        of control: LinkSession.Control, _ session: UnsafeMutablePointer<LinkSession>,
        to bytes: UnsafeMutableRawPointer, _ now: Moment
    ) -> Int {
        switch control.type {
        case .auth, .authOK:
            let word = control.type == .auth ? ControlBody.auth : ControlBody.authOK
            bytes.storeBytes(of: word.littleEndian, as: UInt16.self)
            Self.capabilities.write(to: bytes + 2)
            return 2 + Capabilities.encodedSize
        case .keepalive:
            var count = 0
            if control.carriesReport {
                session.pointee.meter.takeReport(now: now.nanoseconds).write(to: bytes)
                count += ReceiverReport.encodedSize
            }
            if control.carriesRest {
                RestNotice.write(to: bytes + count)
                count += RestNotice.encodedSize
            }
            return count
        case .disconnect, .data: return 0
        }
    }

    private static let capabilities: Capabilities = [.receiverReports, .redundantCopies, .packetTrains]
}
