import Glibc
import TunnelCore
import TunnelModel
import TunnelWire

/// The resequencer, with one link in order, or with two whose runs overlap.
final class ReorderStage: Stage {
    let name: String
    let packets = 4500
    private let links: Int
    private var resequencer = Resequencer(limit: 4096, links: 32)
    private var next: UInt64 = 0
    private var now: Int64 = 1000 * second
    private var delivered = 0
    private let byte = UnsafeMutableRawPointer.allocate(byteCount: 1, alignment: 1)

    init(links: Int) {
        self.links = links
        name = links == 1 ? "reorder, 1 link" : "reorder, \(links) links"
    }

    deinit { byte.deallocate() }

    func run() {
        let before = delivered
        // Runs of 45, as segmentation offload makes them; with two links the second comes first.
        var sequence = 0
        while sequence < packets {
            let run = sequence / 45
            let base = links == 1 ? sequence : (run ^ 1) * 45
            for index in 0..<45 {
                let packet = InboundPacket(bytes: byte, count: 1, link: links == 1 ? 0 : run & 1)
                let verdict = resequencer.insert(packet, sequence: next &+ UInt64(base + index), now: now)
                if verdict == .deliver { delivered += 1 }
                while resequencer.next() != nil { delivered += 1 }
            }
            now += 100_000
            while resequencer.review(now: now) { while resequencer.next() != nil { delivered += 1 } }
            sequence += 45
        }
        next &+= UInt64(packets)
        precondition(delivered - before == packets, "\(delivered - before) of \(packets) packets came out")
    }
}

/// Which link a packet takes: two links, one of them with a cap.
final class ScheduleStage: Stage {
    let name = "schedule, 2 links"
    let packets = 8192
    private var bond = LinkBond()
    private var now: Int64 = 1000 * second
    private var picked = (0, 0)

    init() {
        for link in 0...1 {
            bond.configure(link, weight: 12_500_000, limit: link == 1 ? 1e12 : 0)
            bond.observe(link, .init(roundTrip: 20_000, incomingLossPermille: 0, reports: true, takesCopies: true))
        }
        _ = bond.choose(among: 3, now: now)
    }

    func run() {
        for index in 0..<packets {
            if index & 63 == 0 {
                now += 500_000
                bond.begin(now: now)
            }
            if bond.pick(1444) == 0 { picked.0 += 1 } else { picked.1 += 1 }
        }
        precondition(picked.0 > 0 && picked.1 > 0, "the links' shares are wrong")
    }
}

/// Into the fair queue and out of it, with 64 packets of 4 flows waiting.
final class QueueStage: Stage {
    let name = "fair queue"
    let packets = 4096
    private var queue = FairQueue()
    private var now: Int64 = 1000 * second
    private let bytes = UnsafeMutableRawPointer.allocate(byteCount: 1500, alignment: 64)

    init() {
        Packets.writeSegment(bytes, payload: Packets.segmentSize, sequence: 1, identification: 1)
        for index in 0..<64 { put(index) }
    }

    deinit { bytes.deallocate() }

    private func put(_ index: Int) {
        queue.enqueue(QueuedPacket(bytes: bytes, count: 1400), flow: UInt32(truncatingIfNeeded: index & 3), now: now)
    }

    func run() {
        for index in 0..<packets {
            now += 10_000
            put(index)
            precondition(queue.dequeue(now: now) != nil, "the queue is empty")
            while queue.takeDropped() != nil {}
        }
    }
}

/// Headers written, parsed and taken by the session at the other end; the payload is not looked at.
final class SessionStage: Stage {
    let name = "session, both ends"
    let packets = 4096
    private var pair = SessionPair(link: 0)
    private let datagram = UnsafeMutableRawPointer.allocate(byteCount: 1500, alignment: 64)
    private var taken = 0

    init() { Packets.writeSegment(datagram + 44, payload: 1300, sequence: 1, identification: 1) }

    deinit { datagram.deallocate() }

    func run() {
        let before = taken
        for index in 0..<packets {
            pair.now += 10_000
            let header = pair.server.nextHeader(
                .data, bodyLength: 1352 + Datagram.macSize, reorder: true, dataSequence: UInt64(index), stamp: 7,
                now: pair.now)
            header.write(to: datagram)
            let bytes = UnsafeRawBufferPointer(start: datagram, count: 1352 + Datagram.overhead)
            guard let (read, type) = try? Datagram.parse(bytes),
                pair.client.isWorthOpening(read, type, now: pair.now)
            else { continue }
            let reception = pair.client.receive(
                read, type, body: UnsafeRawBufferPointer(rebasing: bytes[44...]), from: pair.serverAddress,
                now: pair.now, isOwnFlow: { _ in false })
            if reception == .data { taken += 1 }
        }
        precondition(taken - before == packets, "\(taken - before) of \(packets) datagrams were taken")
    }
}
