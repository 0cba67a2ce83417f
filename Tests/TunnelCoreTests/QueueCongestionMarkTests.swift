import Testing
import TunnelCore

@Suite("Queue: ECN")
struct QueueCongestionMarkTests {
    @Test func `what is no intact IP packet is left alone`() {
        var random = OffloadRandom(seed: 1)
        for _ in 0..<2000 {
            var bytes = random.bytes(random.number(0...80))
            // Neither version.
            if !bytes.isEmpty { bytes[0] = [0x15, 0x00, 0xff, 0x75][random.number(0...3)] }
            let before = bytes
            #expect(!mark(&bytes, linkHeaderLength: 0))
            #expect(bytes == before)
        }
        // An ARP frame.
        var frame = random.bytes(12) + [0x08, 0x06] + [0x45] + [UInt8](repeating: 0x03, count: 45)
        let before = frame
        #expect(!mark(&frame, linkHeaderLength: 14))
        #expect(frame == before)
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `truncated and damaged packets never lead outside, and are marked whole or not at all`(seed: UInt64) {
        var random = OffloadRandom(seed: seed)
        for _ in 0..<300 {
            var packet = random.packet(tap: random.chance(2))
            packet.payload = random.bytes(random.number(0...40))
            var bytes = packet.bytes()
            for _ in 0..<random.number(0...3) {
                bytes[random.number(0...bytes.count - 1)] = UInt8.random(in: 0...255, using: &random)
            }
            if random.chance(2) { bytes.removeLast(random.number(0...bytes.count)) }
            let memory = GuardedMemory(capacity: max(1, bytes.count))
            for side in GuardedMemory.Side.allCases {
                for linkHeaderLength in [0, 14] {
                    let placed = memory.place(bytes, against: side)
                    let isMarked = markCongestion(placed, linkHeaderLength: linkHeaderLength)
                    #expect(memory.isIntact)
                    let changed = zip(bytes, placed).filter { $0 != $1 }.count
                    #expect(isMarked ? changed <= 3 : changed == 0)
                }
            }
        }
    }

    @Test func `a packet whose sender does not understand it is not marked`() {
        var random = OffloadRandom(seed: 2)
        for _ in 0..<200 {
            var packet = random.packet(tap: random.chance(2))
            packet.trafficClass &= 0xfc
            var bytes = packet.bytes()
            #expect(!mark(&bytes, linkHeaderLength: packet.link.isEmpty ? 0 : 14))
            #expect(bytes == packet.bytes())
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt8])
    func `ECT(1), ECT(0) and CE become CE, with the checksum that a sum from scratch gives`(ecn: UInt8) {
        var random = OffloadRandom(seed: UInt64(ecn))
        for _ in 0..<1000 {
            var packet = random.packet(tap: random.chance(2))
            packet.payload = random.bytes(random.number(0...100))
            packet.trafficClass = packet.trafficClass & 0xfc | ecn
            var bytes = packet.bytes()
            #expect(mark(&bytes, linkHeaderLength: packet.link.isEmpty ? 0 : 14))
            packet.trafficClass |= 3
            #expect(bytes == packet.bytes())
        }
    }

    @Test func `a wrong checksum does not become right`() {
        var random = OffloadRandom(seed: 4)
        for _ in 0..<200 {
            var packet = random.packet(tap: false)
            packet.isIPv6 = false
            packet.source = random.bytes(4)
            packet.destination = random.bytes(4)
            packet.extensionHeaders = []
            packet.trafficClass = 2
            var bytes = packet.bytes()
            bytes[10] ^= UInt8(random.number(1...255))
            #expect(mark(&bytes, linkHeaderLength: 0))
            #expect(slowChecksum(Array(bytes[..<(20 + packet.ipOptions.count)])) != 0)
        }
    }

    @Test(arguments: [0, 14], [false, true])
    func `the queue marks instead of dropping, on the same schedule`(linkHeaderLength: Int, isIPv6: Bool) {
        let plain = Overload(ecn: 0, linkHeaderLength: linkHeaderLength, isIPv6: isIPv6)
        plain.run()
        let capable = Overload(ecn: 2, linkHeaderLength: linkHeaderLength, isIPv6: isIPv6)
        capable.run()
        #expect(plain.drops.count > 50 && plain.markTimes.isEmpty)
        #expect(capable.drops.isEmpty)
        #expect(capable.markTimes == plain.drops)
        #expect(capable.bench.queue.marks == UInt64(capable.markTimes.count))
        #expect(capable.bench.queue.drops == 0 && plain.bench.queue.marks == 0)
    }

    @Test func `packets dropped for room are not marked`() {
        let overload = Overload(ecn: 2, linkHeaderLength: 0, isIPv6: false)
        for _ in 0..<40_000 { overload.enqueue(now: 0) }
        #expect(overload.bench.queue.overflows > 0)
        #expect(overload.bench.queue.marks == 0)
        while let packet = overload.bench.queue.takeDropped() { #expect(!overload.isMarked(packet)) }
    }

    private func mark(_ bytes: inout [UInt8], linkHeaderLength: Int) -> Bool {
        bytes.withUnsafeMutableBytes { markCongestion($0, linkHeaderLength: linkHeaderLength) }
    }
}

/// Two packets come and one goes each millisecond, for 6 s.
private final class Overload {
    let bench: QueueBench
    private(set) var drops: [Int64] = []
    private(set) var markTimes: [Int64] = []
    private let packet: [UInt8]
    private let classOffset: Int
    private let classMask: UInt8
    private let slots: UnsafeMutableRawPointer
    private var used = 0
    private static let slotCount = 40_000

    init(ecn: UInt8, linkHeaderLength: Int, isIPv6: Bool) {
        var model = ModelPacket()
        model.link = linkHeaderLength == 0 ? [] : [UInt8](repeating: 2, count: 12)
        model.isIPv6 = isIPv6
        if isIPv6 {
            model.source = [UInt8](1...16)
            model.destination = [UInt8](17...32)
        }
        model.trafficClass = 0xb8 | ecn
        model.payload = [UInt8](repeating: 7, count: 32)
        packet = model.bytes()
        classOffset = linkHeaderLength + 1
        classMask = isIPv6 ? 0x30 : 0x03
        slots = .allocate(byteCount: Self.slotCount * 100, alignment: 8)
        bench = QueueBench(limitPackets: 20_000, limitBytes: 1 << 30, linkHeaderLength: linkHeaderLength)
    }

    deinit { slots.deallocate() }

    func enqueue(now: Int64) {
        precondition(used < Self.slotCount)
        let slot = slots + used * 100
        used += 1
        slot.copyMemory(from: packet, byteCount: packet.count)
        bench.enqueue(QueuedPacket(bytes: slot, count: packet.count), flow: 1, now: now)
    }

    func run() {
        for step in 1...6000 as ClosedRange<Int64> {
            let now = step * millisecond
            enqueue(now: now)
            enqueue(now: now)
            if let sent = bench.dequeue(now: now), isMarked(sent) { markTimes.append(now) }
            drops += bench.takeDropped().map { _ in now }
        }
    }

    func isMarked(_ packet: QueuedPacket) -> Bool {
        packet.bytes.load(fromByteOffset: classOffset, as: UInt8.self) & classMask == classMask
    }
}
