import Glibc
import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

/// A packet's whole way, from a device's read at one end to a device's write at the other, over two links: split,
/// schedule, seal; parse, replay check, open, session, reorder, coalesce. Everything but the system calls.
final class PipelineStage: Stage {
    let name = "whole way, 2 links"
    let packets = SplitStage.segments
    private let cipher = SessionCipher(password: Array("benchmark".utf8))
    private var pairs = [SessionPair(link: 0), SessionPair(link: 1)]
    private var scheduler = BurstScheduler()
    private var resequencer = Resequencer(limit: 4096, links: 32)
    private var dataSequence: UInt64 = 0
    private var now: Int64 = 1000 * second
    private var delivered = 0

    private let template = UnsafeMutableRawPointer.allocate(byteCount: 65536, alignment: 64)
    private let device = Roomy.allocate(65536)
    /// A link's datagrams, one behind the other.
    private let runs = Roomy.allocate(2 * runSize)
    /// What is opened, at the same offsets.
    private let plaintexts = Roomy.allocate(2 * runSize)
    private var used = [0, 0]
    private let vectors = UnsafeMutableBufferPointer<iovec>.allocate(capacity: Coalescer.vectorCapacity)
    private let virtioHeader = UnsafeMutableRawPointer.allocate(byteCount: 16, alignment: 16)
    private let header: VirtioNetHeader
    private let count: Int

    private static let runSize = 128 * 1024
    private static let datagramSize = Packets.mtu + Datagram.overhead

    init() {
        (header, count) = Packets.writeSuperPacket(template, segments: SplitStage.segments)
        scheduler.configure(weights: [(link: 0, weight: 1 << 20), (link: 1, weight: 1 << 20)], eligible: 3)
    }

    deinit {
        template.deallocate()
        Roomy.deallocate(device)
        Roomy.deallocate(runs)
        Roomy.deallocate(plaintexts)
        vectors.deallocate()
        virtioHeader.deallocate()
    }

    func prepare() { memcpy(device, template, count) }

    func run() {
        now += 200_000
        send()
        receive()
    }

    private func send() {
        used[0] = 0
        used[1] = 0
        scheduler.observe(now: now)
        do {
            var parts = try SuperPacket(
                header, packet: UnsafeMutableRawBufferPointer(start: device, count: count), linkHeaderLength: 0)
            for index in 0..<parts.segmentCount {
                let segment = parts.segment(index)
                guard let plaintext = segment.baseAddress else { continue }
                let link = scheduler.pick(segment.count + Datagram.overhead)
                let place = runs + link * Self.runSize + used[link]
                used[link] += segment.count + Datagram.overhead
                let header = pairs[link].server.nextHeader(
                    .data, bodyLength: segment.count + Datagram.macSize, reorder: true, dataSequence: dataSequence,
                    stamp: 7, now: now)
                dataSequence &+= 1
                cipher.sealRoomy(
                    plaintext, count: segment.count, to: place + DatagramHeader.size, flowID: header.flowID,
                    sequence: header.sequence)
                header.write(to: place)
            }
        } catch {
            preconditionFailure("the super-packet was refused: \(error)")
        }
    }

    private func receive() {
        let before = delivered
        var coalescer = Coalescer(
            vectors: vectors, virtioHeader: virtioHeader, linkHeaderLength: 0, coalescesTCP: true, coalescesUDP: true)
        for link in 0..<2 {
            var offset = 0
            while offset < used[link] {
                take(runs + link * Self.runSize + offset, link, &coalescer)
                offset += Self.datagramSize
            }
        }
        while resequencer.review(now: now) { drain(&coalescer) }
        if !coalescer.isEmpty { _ = coalescer.finish() }
        precondition(delivered - before == packets, "\(delivered - before) of \(packets) packets arrived")
    }

    private func take(_ bytes: UnsafeMutableRawPointer, _ link: Int, _ coalescer: inout Coalescer) {
        let plaintext = plaintexts + (bytes + Datagram.overhead - runs)
        guard
            let (header, type) = try? Datagram.parse(UnsafeRawBufferPointer(start: bytes, count: Self.datagramSize)),
            pairs[link].client.isWorthOpening(header, type, now: now),
            cipher.openRoomy(
                bytes + DatagramHeader.size, count: Int(header.length), to: plaintext, flowID: header.flowID,
                sequence: header.sequence)
        else { return }
        let body = UnsafeRawBufferPointer(start: plaintext, count: Packets.mtu)
        let reception = pairs[link].client.receive(
            header, type, body: body, from: pairs[link].serverAddress, now: now, isOwnFlow: { _ in false })
        guard reception == .data else { return }
        let packet = InboundPacket(bytes: plaintext, count: Packets.mtu, link: link)
        _ = resequencer.insert(packet, sequence: header.dataSequence, now: now)
        drain(&coalescer)
    }

    private func drain(_ coalescer: inout Coalescer) {
        while let packet = resequencer.next() {
            let bytes = UnsafeMutableRawBufferPointer(start: packet.bytes, count: Int(packet.count))
            if coalescer.append(bytes) == .flushFirst {
                _ = coalescer.finish()
                _ = coalescer.append(bytes)
            }
            delivered += 1
        }
    }
}
