/// A packet that waits. What it points to belongs to the caller, before, while and after it is queued.
public struct QueuedPacket: BitwiseCopyable {
    /// The inner packet: IP (TUN) or Ethernet (TAP), not yet encrypted; its ECN field may be changed here.
    public var bytes: UnsafeMutableRawPointer
    public var count: Int32
    /// The caller's own: handed back as it came.
    public var tag: UInt32
    /// Set by the queue, nanoseconds.
    public internal(set) var enqueuedAt: Int64 = 0

    /// - Parameter count: bytes, not negative.
    public init(bytes: UnsafeMutableRawPointer, count: Int, tag: UInt32 = 0) {
        precondition(count >= 0, "a packet of \(count) bytes")
        self.bytes = bytes
        self.count = Int32(count)
        self.tag = tag
    }
}

/// The packets of all chains of one queue, in one array that doubles on need.
struct PacketStore: ~Copyable {
    private var nodes = UnsafeMutableBufferPointer<Node>(start: nil, count: 0)
    /// Nodes from here on were never used: their memory is not touched before it is needed.
    private var fresh: Int32 = 0
    /// Nodes that were used before, the last one first.
    private var free = Chain.none

    private struct Node: ChainElement {
        var packet: QueuedPacket
        var next: Int32
    }

    deinit { nodes.deallocate() }

    var allocatedBytes: Int { nodes.count * MemoryLayout<Node>.stride }

    func first(of chain: Chain) -> QueuedPacket? { chain.isEmpty ? nil : nodes[Int(chain.first)].packet }

    mutating func append(_ packet: QueuedPacket, to chain: inout Chain) {
        let index: Int32
        if free != Chain.none {
            index = free
            free = nodes[Int(index)].next
            nodes[Int(index)].packet = packet
        } else {
            if Int(fresh) == nodes.count { grow() }
            index = fresh
            fresh += 1
            nodes.initializeElement(at: Int(index), to: Node(packet: packet, next: Chain.none))
        }
        nodes.append(index, to: &chain)
    }

    mutating func removeFirst(from chain: inout Chain) -> QueuedPacket? {
        guard let index = nodes.removeFirst(from: &chain) else { return nil }
        nodes[Int(index)].next = free
        free = index
        return nodes[Int(index)].packet
    }

    func moveFirst(from source: inout Chain, to destination: inout Chain) {
        guard let index = nodes.removeFirst(from: &source) else { return }
        nodes.append(index, to: &destination)
    }

    /// Only while every chain is empty.
    mutating func releaseMemory() {
        nodes.deallocate()
        nodes = UnsafeMutableBufferPointer(start: nil, count: 0)
        fresh = 0
        free = Chain.none
    }

    private mutating func grow() {
        let wider = UnsafeMutableBufferPointer<Node>.allocate(capacity: max(64, nodes.count * 2))
        _ = wider.moveInitialize(fromContentsOf: nodes)
        nodes.deallocate()
        nodes = wider
    }
}
