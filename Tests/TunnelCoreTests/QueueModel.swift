import TunnelCore

/// FQ-CoDel the slow and obvious way: arrays of objects, and RFC 8289's pseudo-code as it stands there.
struct ModelQueue {
    struct Packet: Equatable {
        var tag: UInt32
        var count: Int
        var enqueuedAt: Int64
    }

    final class Flow {
        var packets: [Packet] = []
        var credit = 0
        var firstAboveTime: Int64 = 0
        var dropNext: Int64 = 0
        var count: UInt32 = 0
        var lastCount: UInt32 = 0
        var isDropping = false
        var bytes: Int {
            var sum = 0
            for packet in packets { sum += packet.count }
            return sum
        }
    }

    let limitPackets: Int
    let limitBytes: Int
    var target = 5 * millisecond
    var interval = 100 * millisecond
    var quantum = 1514
    private var dropped: [UInt32] = []
    /// How often the dropping state was entered, and how often at more than one drop per interval.
    private(set) var entries = 0
    private(set) var resumptions = 0
    private var flows: [Int: Flow] = [:]
    private var new: [Flow] = []
    private var old: [Flow] = []

    init(limitPackets: Int, limitBytes: Int) {
        self.limitPackets = limitPackets
        self.limitBytes = limitBytes
    }

    var count: Int { flows.values.reduce(0) { $0 + $1.packets.count } }
    var bytes: Int { flows.values.reduce(0) { $0 + $1.bytes } }

    mutating func enqueue(_ packet: Packet, flow number: Int) {
        let flow = flows[number] ?? Flow()
        flows[number] = flow
        flow.packets.append(packet)
        if !(new + old).contains(where: { $0 === flow }) {
            flow.credit = quantum
            new.append(flow)
        }
        while count > limitPackets || bytes > limitBytes {
            var fattest: Flow?
            for flow in old + new where !flow.packets.isEmpty && flow.bytes > (fattest?.bytes ?? -1) { fattest = flow }
            let half = fattest!.bytes / 2
            for _ in 0..<64 {
                dropped.append(fattest!.packets.removeFirst().tag)
                if fattest!.bytes <= half { break }
            }
        }
    }

    mutating func dequeue(now: Int64) -> Packet? {
        while true {
            let isNew = !new.isEmpty
            guard let flow = isNew ? new.first : old.first else { return nil }
            if flow.credit <= 0 {
                flow.credit += quantum
                if isNew { new.removeFirst() } else { old.removeFirst() }
                old.append(flow)
            } else if let packet = codel(flow, now) {
                flow.credit -= packet.count
                return packet
            } else if isNew {
                new.removeFirst()
                old.append(flow)
            } else {
                old.removeFirst()
            }
        }
    }

    mutating func takeDropped() -> [UInt32] {
        defer { dropped = [] }
        return dropped
    }

    /// RFC 8289, 5.5.
    private mutating func codel(_ flow: Flow, _ now: Int64) -> Packet? {
        var (packet, okToDrop) = dodequeue(flow, now)
        if flow.isDropping {
            if !okToDrop { flow.isDropping = false }
            while flow.isDropping && now >= flow.dropNext {
                dropped.append(packet!.tag)
                flow.count += 1
                (packet, okToDrop) = dodequeue(flow, now)
                if okToDrop {
                    flow.dropNext = controlLaw(flow.dropNext, flow.count)
                } else {
                    flow.isDropping = false
                }
            }
        } else if okToDrop {
            dropped.append(packet!.tag)
            (packet, okToDrop) = dodequeue(flow, now)
            flow.isDropping = true
            let delta = flow.count - flow.lastCount
            flow.count = 1
            if delta > 1 && now - flow.dropNext < 16 * interval { flow.count = delta }
            flow.dropNext = controlLaw(now, flow.count)
            flow.lastCount = flow.count
            entries += 1
            if flow.count > 1 { resumptions += 1 }
        }
        return packet
    }

    /// RFC 8289, 5.6.
    private func dodequeue(_ flow: Flow, _ now: Int64) -> (Packet?, okToDrop: Bool) {
        guard !flow.packets.isEmpty else {
            flow.firstAboveTime = 0
            return (nil, false)
        }
        let packet = flow.packets.removeFirst()
        if now - packet.enqueuedAt < target || flow.bytes <= 1514 {
            flow.firstAboveTime = 0
        } else if flow.firstAboveTime == 0 {
            flow.firstAboveTime = now + interval
        } else if now >= flow.firstAboveTime {
            return (packet, true)
        }
        return (packet, false)
    }

    private func controlLaw(_ time: Int64, _ count: UInt32) -> Int64 {
        time + Int64(Double(interval) / Double(count).squareRoot())
    }
}

/// A queue, memory that its packets point to, and tags in the order of arrival.
final class QueueBench {
    static let flows = 1024
    var queue: FairQueue
    private let memory: UnsafeMutableRawBufferPointer
    private var arrivals: UInt32 = 0

    init(limitPackets: Int = 1024, limitBytes: Int = 2 << 20, linkHeaderLength: Int = 0) {
        queue = FairQueue(
            limitPackets: limitPackets, limitBytes: limitBytes, flows: Self.flows, linkHeaderLength: linkHeaderLength)
        memory = .allocate(byteCount: 1 << 17, alignment: 8)
        memory.initializeMemory(as: UInt8.self, repeating: 0)
    }

    deinit { memory.deallocate() }

    /// A packet of zeroes, which is no IP packet and cannot be marked.
    @discardableResult
    func enqueue(_ count: Int, flow: Int, now: Int64) -> UInt32 {
        enqueue(QueuedPacket(bytes: memory.baseAddress!, count: count, tag: arrivals), flow: flow, now: now)
    }

    @discardableResult
    func enqueue(_ packet: QueuedPacket, flow: Int, now: Int64) -> UInt32 {
        defer { arrivals += 1 }
        var packet = packet
        packet.tag = arrivals
        queue.enqueue(packet, flow: Self.hash(flow), now: now)
        return arrivals
    }

    func dequeue(now: Int64) -> QueuedPacket? { queue.dequeue(now: now) }

    func peekCount() -> Int? { queue.peekCount() }

    var isEmpty: Bool { queue.isEmpty }

    func takeDropped() -> [UInt32] {
        var tags: [UInt32] = []
        while let packet = queue.takeDropped() { tags.append(packet.tag) }
        return tags
    }

    /// A hash for each of ``flows`` numbers such that no two flows meet.
    static func hash(_ flow: Int) -> UInt32 {
        precondition((0..<flows).contains(flow))
        return UInt32(flow) << 22 | 0x2a_aaaa
    }
}
