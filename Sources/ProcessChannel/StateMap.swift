import TunnelModel

/// Shared memory that outlives the engine: what it must resume from, and what others may read of it.
///
/// A memfd that the supervisor makes and never reads. The engine writes it; control maps it read-only and trusts nothing
/// in it: every index is checked, every number is only a number. Layout: ``Header``, an event ring, tunnel records, link
/// records; each record has a public part (``TunnelRecord``, ``LinkRecord``) and an opaque part in which the engine keeps
/// its own state, so that its successor goes on where it stopped. Pages never touched cost nothing.
public enum StateMap {
    public static let magic: UInt64 = 0x4d4c_5650_4e53_4d31
    public static let tunnelCapacity = 8192
    public static let linkCapacity = 32768
    public static let eventCapacity = 16384

    /// Bytes of one tunnel's record; the engine's part follows ``TunnelRecord``.
    public static let tunnelStride = 1024
    public static let tunnelResumeOffset = 512
    /// Bytes of one link's record; the engine's part follows ``LinkRecord``.
    public static let linkStride = 8192
    public static let linkResumeOffset = 512

    public static let eventOffset = 4096
    public static let tunnelOffset = eventOffset + eventCapacity * 64
    public static let linkOffset = tunnelOffset + tunnelCapacity * tunnelStride
    public static let size = linkOffset + linkCapacity * linkStride

    public struct Header: BitwiseCopyable, Sendable {
        public var magic: UInt64 = StateMap.magic
        /// Of the engine that wrote last; 0 before the first.
        public var engineStarts: UInt64 = 0
        /// Events written so far; the ring holds the last ``eventCapacity``.
        public var eventCount: UInt64 = 0
        /// Wall clock of the engine's last sign of life, ms since 1970.
        public var heartbeat: Int64 = 0
        public var workers: UInt32 = 0
        public var padding: UInt32 = 0
        /// Nanoseconds that workers were busy, all together.
        public var busyNanoseconds: UInt64 = 0
        public var wakeUps: UInt64 = 0
        public init() {}
    }

    /// What a tunnel shows. Times are ms since 1970, 0 for never.
    public struct TunnelRecord: BitwiseCopyable, Sendable {
        /// Of the definition in force; 0: no tunnel here.
        public var generation: UInt64 = 0
        public var since: Int64 = 0
        public var deviceRxPackets: UInt64 = 0
        public var deviceRxBytes: UInt64 = 0
        public var deviceTxPackets: UInt64 = 0
        public var deviceTxBytes: UInt64 = 0
        public var reorderHeld: UInt64 = 0
        public var reorderTimeouts: UInt64 = 0
        public var reorderOverflows: UInt64 = 0
        public var droppedNoLink: UInt64 = 0
        public var droppedQueue: UInt64 = 0
        public var droppedTooBig: UInt64 = 0
        public var droppedDevice: UInt64 = 0
        public var duplicates: UInt64 = 0
        public var queuedPackets: UInt64 = 0
        public var worker: UInt32 = 0
        /// 1 while any link is up.
        public var isUp: UInt8 = 0
        /// Bit 0: device TSO, 1: device USO, 2: vnet header.
        public var offloads: UInt8 = 0
        /// 1 while the definition's scheduler is not used because the peer cannot do its part.
        public var isSchedulerRefused: UInt8 = 0
        public var padding: UInt8 = 0
        public var deviceReads: UInt64 = 0
        public var deviceWrites: UInt64 = 0
        /// Time that its worker gave it.
        public var busyNanoseconds: UInt64 = 0
        public init() {}
    }

    /// What a link shows. Times are ms since 1970, 0 for never.
    public struct LinkRecord: BitwiseCopyable, Sendable {
        public var generation: UInt64 = 0
        public var since: Int64 = 0
        /// Last authenticated datagram.
        public var lastHeard: Int64 = 0
        public var peer: SocketAddress = .none
        public var rxPackets: UInt64 = 0
        public var rxBytes: UInt64 = 0
        public var txPackets: UInt64 = 0
        public var txBytes: UInt64 = 0
        public var disconnects: UInt64 = 0
        /// Microseconds; 0: no sample yet.
        public var smoothedRTT: UInt32 = 0
        public var rttVariation: UInt32 = 0
        /// Thousandths, of what we receive.
        public var lossPermille: UInt32 = 0
        /// ``LinkState``'s raw value.
        public var state: UInt8 = 0
        public var reason: UInt8 = 0
        /// Bit 0: UDP_SEGMENT, 1: UDP_GRO, 2: the peer announced extensions.
        public var offloads: UInt8 = 0
        public var padding: UInt8 = 0
        /// Bytes per second: the estimate of what the link can carry; 0: none.
        public var capacity: UInt64 = 0
        public var droppedAuthentication: UInt64 = 0
        public var droppedReplay: UInt64 = 0
        public var droppedMalformed: UInt64 = 0
        public var droppedState: UInt64 = 0
        public var droppedSend: UInt64 = 0
        public var rxBatches: UInt64 = 0
        public var txBatches: UInt64 = 0
        /// Thousandths, of what we send, as the peer reports or as we infer.
        public var remoteLossPermille: UInt32 = 0
        public var padding2: UInt32 = 0
        public init() {}
    }

    /// One change of state; 64 bytes.
    public struct Event: BitwiseCopyable, Sendable {
        /// 1 for the first; a reader that finds another number than it looked for has been overtaken.
        public var number: UInt64 = 0
        /// Wall clock, ms since 1970.
        public var time: Int64 = 0
        /// Last authenticated datagram of the link before the change; 0: none.
        public var lastHeard: Int64 = 0
        public var generation: UInt64 = 0
        public var slot: UInt32 = 0
        public var linkSlot: UInt32 = 0
        public var state: UInt8 = 0
        public var previousState: UInt8 = 0
        public var reason: UInt8 = 0
        /// 1: a link changed. 2: the tunnel changed (`state` 2 up, 0 down).
        public var kind: UInt8 = 1
        public var padding: UInt32 = 0
        public var reserved: UInt64 = 0
        public var reserved2: UInt64 = 0
        public init() {}
    }
}

/// A mapping of the state map. `base` stays valid for the process's life: it is never unmapped.
public struct MappedState: @unchecked Sendable {
    public let base: UnsafeMutableRawPointer

    /// `base` holds ``StateMap/size`` bytes.
    public init(base: UnsafeMutableRawPointer) { self.base = base }

    public var header: UnsafeMutablePointer<StateMap.Header> { base.assumingMemoryBound(to: StateMap.Header.self) }

    /// Nil for a slot outside the map.
    public func tunnel(_ slot: Slot) -> UnsafeMutablePointer<StateMap.TunnelRecord>? {
        guard slot < StateMap.tunnelCapacity else { return nil }
        return (base + StateMap.tunnelOffset + Int(slot) * StateMap.tunnelStride)
            .assumingMemoryBound(to: StateMap.TunnelRecord.self)
    }

    /// Nil for a slot outside the map.
    public func link(_ slot: Slot) -> UnsafeMutablePointer<StateMap.LinkRecord>? {
        guard slot < StateMap.linkCapacity else { return nil }
        return (base + StateMap.linkOffset + Int(slot) * StateMap.linkStride)
            .assumingMemoryBound(to: StateMap.LinkRecord.self)
    }

    /// The engine's own part of a tunnel's record: `tunnelStride - tunnelResumeOffset` bytes.
    public func tunnelResume(_ slot: Slot) -> UnsafeMutableRawPointer? {
        tunnel(slot).map { UnsafeMutableRawPointer($0) + StateMap.tunnelResumeOffset }
    }

    /// The engine's own part of a link's record: `linkStride - linkResumeOffset` bytes.
    public func linkResume(_ slot: Slot) -> UnsafeMutableRawPointer? {
        link(slot).map { UnsafeMutableRawPointer($0) + StateMap.linkResumeOffset }
    }

    /// Where event `number` (from 1) is, or was.
    public func event(_ number: UInt64) -> UnsafeMutablePointer<StateMap.Event> {
        let index = Int((number &- 1) % UInt64(StateMap.eventCapacity))
        return (base + StateMap.eventOffset + index * 64).assumingMemoryBound(to: StateMap.Event.self)
    }
}
