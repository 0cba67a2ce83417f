/// What a tunnel has to send and its links cannot take yet: FQ-CoDel (RFC 8290).
///
/// Flows take turns by bytes (deficit round robin), so that none can take another's share. A flow that has sent nothing for
/// a while goes first, so that names, handshakes, speech and keystrokes pass a bulk transfer's queue. Within each flow CoDel
/// keeps the time short that packets wait, by dropping from the head, or by marking what is ECN-capable.
///
/// Use: ``enqueue(_:flow:now:)`` and ``dequeue(now:)``, and after either ``takeDropped()`` until nil: every packet comes back
/// exactly once, by one or the other. ``dequeue(now:)`` is nil only when the queue is empty. Memory is allocated by the first
/// packet and grows with the number that wait; ``releaseMemory()`` gives it back.
public struct FairQueue: ~Copyable {
    /// Bytes of a full Ethernet frame, without its check sequence.
    public static let fullFrame = 1514
    public static let defaultTarget = 5 * millisecond
    public static let defaultInterval = 100 * millisecond

    /// Time that packets may wait without end before some are dropped, nanoseconds. Settable at any time.
    public var target: Int64 { didSet { target = Self.bounded(target) } }
    /// Time in which senders can be expected to react, a long round trip's, nanoseconds. Settable at any time.
    public var interval: Int64 { didSet { interval = Self.bounded(interval) } }
    /// Bytes that a flow may send in its turn, see ``tune(bytesPerSecond:)``.
    public private(set) var quantum = Self.fullFrame

    /// Packets that wait.
    public private(set) var count = 0
    /// Bytes that wait.
    public private(set) var bytes = 0
    /// Packets dropped by CoDel, since they waited too long.
    public private(set) var drops: UInt64 = 0
    /// Packets that CoDel marked "Congestion Experienced" instead.
    public private(set) var marks: UInt64 = 0
    /// Packets dropped for room.
    public private(set) var overflows: UInt64 = 0

    private let limitPackets: Int
    private let limitBytes: Int
    private let flowCount: Int
    private let linkHeaderLength: Int
    private var flows = UnsafeMutableBufferPointer<Flow>(start: nil, count: 0)
    /// Flows that have not yet used up their first quantum, and the others that have, or had, something to send.
    private var newFlows = Chain()
    private var oldFlows = Chain()
    private var packets = PacketStore()
    private var dropped = Chain()

    /// 48 bytes: in this order there is no gap but one byte's.
    private struct Flow: ChainElement {
        var codel = CoDel()
        /// In one of the two lists; a flow that has packets is.
        var isListed = false
        var packets = Chain()
        /// Bytes that wait.
        var backlog: Int32 = 0
        /// Bytes that it may still send in its turn.
        var deficit: Int32 = 0
        var next = Chain.none
    }

    /// Packets dropped at once from a flow when there is no room: to find it takes longer than to drop one.
    static let batch = 64

    /// - Parameters:
    ///   - limitPackets: packets that may wait.
    ///   - limitBytes: bytes that may wait, up to 1 GiB.
    ///   - flows: flows that can be told apart, up to 65536; flows whose hashes meet share one's part.
    ///   - target: nanoseconds, see ``target``.
    ///   - interval: nanoseconds, see ``interval``.
    ///   - linkHeaderLength: 0, packets start with their IP header (TUN); 14, with an Ethernet header (TAP).
    public init(
        limitPackets: Int = 1024, limitBytes: Int = 2 << 20, flows: Int = 1024, target: Int64 = defaultTarget,
        interval: Int64 = defaultInterval, linkHeaderLength: Int = 0
    ) {
        self.limitPackets = max(1, limitPackets)
        self.limitBytes = min(1 << 30, max(0, limitBytes))
        flowCount = min(65536, max(1, flows))
        self.target = Self.bounded(target)
        self.interval = Self.bounded(interval)
        self.linkHeaderLength = linkHeaderLength
    }

    deinit { flows.deallocate() }

    public var isEmpty: Bool { count == 0 }

    /// Sets ``target``, ``interval`` and ``quantum`` for what the links carry together.
    ///
    /// On a slow link a packet alone takes longer than 5 ms: the target is two packets' time (RFC 8290, 5.2.2, wants one at
    /// least), and the interval grows by as much as the target did. A small quantum lets a flow of small packets, such as
    /// speech, have several turns for each packet of a bulk transfer: 300 bytes up to 10 Mbit/s, growing to a full frame at
    /// 50 Mbit/s, where turns are short anyway.
    ///
    /// `lag`: nanoseconds by which some links are nearer than others. Senders need so much more on its way to fill all, and
    /// it may wait here.
    public mutating func tune(bytesPerSecond: Int64, lag: Int64 = 0) {
        let rate = max(1, bytesPerSecond)
        target = max(Self.defaultTarget, 2 * Int64(Self.fullFrame) * second / rate) + lag
        interval = Self.defaultInterval + target - Self.defaultTarget
        quantum = Int(min(Int64(Self.fullFrame), max(300, rate / 4096)))
    }

    /// Adds a packet. When there is no room, packets of the flow with the most bytes are dropped from its head, the oldest
    /// first: with them their sender's loss is noticed soonest. A packet larger than the limit is dropped, too.
    ///
    /// - Parameters:
    ///   - flow: the flow's hash; its upper bits tell flows apart.
    ///   - now: nanoseconds, not before that of an earlier call.
    public mutating func enqueue(_ packet: QueuedPacket, flow: UInt32, now: Int64) {
        if flows.count == 0 { allocateFlows() }
        let index = Int((UInt64(flow) * UInt64(flowCount)) >> 32)
        var stamped = packet
        stamped.enqueuedAt = now
        packets.append(stamped, to: &flows[index].packets)
        flows[index].backlog += packet.count
        count += 1
        bytes += Int(packet.count)
        if !flows[index].isListed {
            flows[index].isListed = true
            flows[index].deficit = Int32(quantum)
            flows.append(Int32(truncatingIfNeeded: index), to: &newFlows)
        }
        while count > limitPackets || bytes > limitBytes { shed() }
    }

    /// The packet whose turn it is, or nil when none waits.
    public mutating func dequeue(now: Int64) -> QueuedPacket? {
        while let index = flowInTurn() {
            while let packet = packets.first(of: flows[index].packets) {
                let backlog = Int(flows[index].backlog - packet.count)
                let mustDrop = flows[index].codel.mustDrop(
                    sojourn: now - packet.enqueuedAt, backlog: backlog, mtu: Self.fullFrame, now: now, target: target,
                    interval: interval)
                if mustDrop && !mark(packet) {
                    drops &+= 1
                    dropFirst(of: index)
                    continue
                }
                flows[index].deficit -= packet.count
                subtract(packet, from: index)
                return packets.removeFirst(from: &flows[index].packets)
            }
        }
        return nil
    }

    /// Bytes of the packet that ``dequeue(now:)`` would return, or nil when none waits.
    ///
    /// Holds until the next ``enqueue(_:flow:now:)``, which may bring a flow that goes first, and but for CoDel, which may
    /// drop the packet for a later one of its flow.
    public mutating func peekCount() -> Int? {
        guard let index = flowInTurn(), let packet = packets.first(of: flows[index].packets) else { return nil }
        return Int(packet.count)
    }

    /// A packet that was dropped, the first one first; the caller frees it.
    public mutating func takeDropped() -> QueuedPacket? { packets.removeFirst(from: &dropped) }

    /// Drops half of the bytes of the flow that has the most, from its head: at least one packet and at most 64.
    ///
    /// The queue does so itself at its limits; this is for a caller that runs out of room for packets before.
    public mutating func shed() {
        guard let index = fattestFlow() else { return }
        let goal = flows[index].backlog / 2
        var left = Self.batch
        repeat {
            overflows &+= 1
            dropFirst(of: index)
            left -= 1
        } while left > 0 && flows[index].backlog > goal
    }

    /// Gives all memory back, for a tunnel that fell idle; what CoDel learned of the flows is forgotten. Does nothing while
    /// packets wait or dropped ones are not taken.
    public mutating func releaseMemory() {
        guard isEmpty, dropped.isEmpty else { return }
        flows.deallocate()
        flows = UnsafeMutableBufferPointer(start: nil, count: 0)
        newFlows = Chain()
        oldFlows = Chain()
        packets.releaseMemory()
    }

    /// Memory that is allocated now.
    public var allocatedBytes: Int { flows.count * MemoryLayout<Flow>.stride + packets.allocatedBytes }

    private mutating func allocateFlows() {
        flows = .allocate(capacity: flowCount)
        flows.initialize(repeating: Flow())
    }

    /// The flow that sends next: it has a packet and may still send in this turn (RFC 8290, 4.2).
    private mutating func flowInTurn() -> Int? {
        while true {
            let isNew = !newFlows.isEmpty
            let listed = isNew ? newFlows.first : oldFlows.first
            guard listed != Chain.none else { return nil }
            let index = Int(listed)
            if flows[index].deficit <= 0 {
                flows[index].deficit += Int32(quantum)
            } else if flows[index].packets.isEmpty {
                flows[index].codel.queueWasEmpty()
                // A new flow waits for its turn among the old ones, or it would go first again with its next packet and
                // starve them.
                flows[index].isListed = isNew
            } else {
                return index
            }
            _ = isNew ? flows.removeFirst(from: &newFlows) : flows.removeFirst(from: &oldFlows)
            if flows[index].isListed { flows.append(listed, to: &oldFlows) }
        }
    }

    /// The flow with the most bytes that wait; only listed flows have any.
    private func fattestFlow() -> Int? {
        let fattestNew = fattestFlow(in: newFlows)
        let fattestOld = fattestFlow(in: oldFlows)
        guard let new = fattestNew, let old = fattestOld else { return fattestNew ?? fattestOld }
        return flows[new].backlog > flows[old].backlog ? new : old
    }

    private func fattestFlow(in chain: Chain) -> Int? {
        var fattest: Int?
        var most: Int32 = -1
        var listed = chain.first
        while listed != Chain.none {
            let index = Int(listed)
            if !flows[index].packets.isEmpty && flows[index].backlog > most {
                fattest = index
                most = flows[index].backlog
            }
            listed = flows[index].next
        }
        return fattest
    }

    private mutating func dropFirst(of index: Int) {
        guard let packet = packets.first(of: flows[index].packets) else { return }
        subtract(packet, from: index)
        packets.moveFirst(from: &flows[index].packets, to: &dropped)
    }

    private mutating func subtract(_ packet: QueuedPacket, from index: Int) {
        flows[index].backlog -= packet.count
        count -= 1
        bytes -= Int(packet.count)
    }

    private mutating func mark(_ packet: QueuedPacket) -> Bool {
        let bytes = UnsafeMutableRawBufferPointer(start: packet.bytes, count: Int(packet.count))
        guard markCongestion(bytes, linkHeaderLength: linkHeaderLength) else { return false }
        marks &+= 1
        return true
    }

    /// No time here is so long that sums with an instant overflow.
    private static func bounded(_ time: Int64) -> Int64 { min(max(0, time), 3600 * second) }
}
