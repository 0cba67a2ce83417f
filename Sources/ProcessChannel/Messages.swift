import TunnelModel

// Four small vocabularies, one for each direction. A receiver ends a channel that carries anything else.
// Descriptors travel beside a message; `descriptors` says how many belong to it.

/// A tunnel's index in the state map, as long as the supervisor runs. Links have indices of their own.
public typealias Slot = UInt32

public protocol ChannelMessage: Sendable, Equatable {
    init(_ reader: consuming MessageReader) throws(MalformedMessage)
    func encoded() -> [UInt8]
    /// How many descriptors come with it.
    var descriptors: Int { get }
}

/// Control → supervisor.
public enum ControlRequest: ChannelMessage {
    /// Define or change a tunnel. `id` is control's own, stable for the tunnel's life.
    case apply(id: Int64, generation: UInt64, tunnel: CompiledTunnel)
    case remove(id: Int64)
    /// Every definition that control had at its start has been sent; the supervisor ends tunnels not among them, except
    /// `kept`: those whose definitions are there, but cannot be run as they stand.
    case ready(kept: [Int64])
    /// Log tokens (`rtt`, `protocol`, …) of a tunnel, as bits of ``DebugTokens``.
    case debug(id: Int64, tokens: UInt32)
    /// Copy packets: a tunnel's inner ones, or a link's datagrams. One descriptor, to which the engine writes a pcap record
    /// (without the file's header) as one message each, and which it closes at the end.
    case capture(id: Int64, link: LinkName?, limits: CaptureLimits)
    /// Why it ends instead of serving; before everything runs, the supervisor ends with it.
    case cannotStart(reason: String)
    /// An operator's signal (SIGHUP, SIGTERM, SIGINT, SIGQUIT), which the supervisor acts on.
    case signalled(number: Int32)
}

/// Supervisor → control.
public enum ControlNotice: ChannelMessage {
    /// First message. Descriptors: the state map (read-only), the listening socket, an eventfd that is written at events.
    case welcome
    /// The tunnel's slots, as soon as they are given: control reads the state map with them.
    case assigned(id: Int64, generation: UInt64, slot: Slot, linkSlots: [LinkSlot])
    /// What keeps a tunnel (or one link of it) from working, or nil once that is over.
    case problem(id: Int64, link: LinkName?, text: String?)
    case removed(id: Int64)
    /// SIGHUP.
    case reload
    case engineStarted(count: UInt32)
    case stopping
    /// Without a database (`mlvpn -c`): the tunnel whose monitoring sockets control serves; again after a reload.
    case standalone(tunnel: CompiledTunnel)
}

/// Supervisor → helper.
public enum HelperRequest: ChannelMessage {
    /// `resume` is for the successor of a helper that died: what exists already.
    case configure(generation: UInt64, tunnel: CompiledTunnel, resume: HelperResume?)
    /// The state of a link, as the engine sees it; the helper runs scripts for what changed.
    case linkState(link: LinkName, state: LinkState)
    case resolve(link: LinkName)
    /// Someone else has deleted the device: make it again.
    case deviceLost
    /// Run the scripts that undo, then exit.
    case stop
}

/// Helper → supervisor.
public enum HelperNotice: ChannelMessage {
    /// One descriptor: the TUN or TAP device, configured.
    case device(generation: UInt64, features: DeviceFeatures)
    /// One descriptor: a bound UDP socket.
    case socket(generation: UInt64, link: LinkName, isIPv6: Bool)
    case resolved(generation: UInt64, link: LinkName, addresses: [SocketAddress])
    case problem(link: LinkName?, text: String?)
    /// What scripts have been told; whenever one was started, and when it has ended.
    case scripts(ToldScripts)
    /// Everything of this generation has been tried once.
    case configured(generation: UInt64)
    /// An operator's signal (SIGHUP, SIGTERM, SIGINT, SIGQUIT), which the supervisor acts on.
    case signalled(number: Int32)
}

/// Supervisor → engine.
public enum EngineRequest: ChannelMessage {
    /// First message. Descriptors: the state map, the eventfd of control.
    case start(workers: UInt32, offloads: OffloadSwitches)
    case define(slot: Slot, generation: UInt64, tunnel: CompiledTunnel, linkSlots: [LinkSlot])
    /// One descriptor.
    case device(slot: Slot, features: DeviceFeatures)
    /// One descriptor.
    case socket(slot: Slot, linkSlot: Slot, isIPv6: Bool)
    case peerAddresses(slot: Slot, linkSlot: Slot, addresses: [SocketAddress])
    /// Send DISCONNECT, release the descriptors, forget it.
    case undefine(slot: Slot)
    case debug(slot: Slot, tokens: UInt32)
    /// One descriptor. Without `linkSlot`: the tunnel's inner packets.
    case capture(slot: Slot, linkSlot: Slot?, limits: CaptureLimits)
    /// Send DISCONNECT on every link and exit.
    case stop
}

/// Engine → supervisor.
public enum EngineNotice: ChannelMessage {
    /// Confined, its workers running.
    case ready
    case linkState(slot: Slot, linkSlot: Slot, state: LinkState)
    case resolveAgain(slot: Slot, linkSlot: Slot)
    case undefined(slot: Slot)
    /// Someone else has deleted the tunnel's device; the engine has closed it.
    case deviceLost(slot: Slot)
    /// The log daemon has gone; the supervisor looks for it, for all of us.
    case logLost
    /// An operator's signal (SIGHUP, SIGTERM, SIGINT, SIGQUIT), which the supervisor acts on.
    case signalled(number: Int32)
    /// Why it ends instead of working; before everything runs, the supervisor ends with it.
    case cannotStart(reason: String)
}

/// What a helper takes over from its predecessor: none of it is made again, and no script is told it again.
public struct HelperResume: Equatable, Sendable {
    /// What the predecessor had been told last; the device and the sockets are as this says.
    public var previous: CompiledTunnel
    public var hasDevice: Bool
    /// Links whose socket exists.
    public var sockets: [BoundSocket]
    /// Links that the predecessor was told to be up.
    public var linksUp: [LinkName]
    public var scripts: ToldScripts

    public init(
        previous: CompiledTunnel, hasDevice: Bool, sockets: [BoundSocket], linksUp: [LinkName], scripts: ToldScripts
    ) {
        self.previous = previous
        self.hasDevice = hasDevice
        self.sockets = sockets
        self.linksUp = linksUp
        self.scripts = scripts
    }
}

/// What scripts have been told, the one that runs included.
public struct ToldScripts: Equatable, Sendable {
    /// Links that they were told to be up.
    public var links: [LinkName]
    /// Whether they were told that the device is up.
    public var device: Bool
    /// The process of the one that runs, which leads a session of its own.
    public var running: Int32?

    public init(links: [LinkName] = [], device: Bool = false, running: Int32? = nil) {
        self.links = links
        self.device = device
        self.running = running
    }

    /// Whether there is nothing to take back.
    public var isNothing: Bool { links.isEmpty && !device && running == nil }
}

/// A link's socket and its address family.
public struct BoundSocket: Hashable, Sendable {
    public var link: LinkName
    public var isIPv6: Bool
    public init(link: LinkName, isIPv6: Bool) {
        self.link = link
        self.isIPv6 = isIPv6
    }
}

public struct LinkSlot: Hashable, Sendable {
    public var link: LinkName
    public var slot: Slot
    public init(link: LinkName, slot: Slot) {
        self.link = link
        self.slot = slot
    }
}

/// What a TUN or TAP device was found able to do.
public struct DeviceFeatures: Hashable, Sendable {
    /// A virtio_net_hdr of 10 bytes precedes every packet.
    public var hasVirtioHeader: Bool
    /// The kernel hands us TCP super-packets, and takes them.
    public var tcpSegmentation: Bool
    /// The same for UDP (kernel 6.2 and later).
    public var udpSegmentation: Bool

    public init(hasVirtioHeader: Bool, tcpSegmentation: Bool, udpSegmentation: Bool) {
        self.hasVirtioHeader = hasVirtioHeader
        self.tcpSegmentation = tcpSegmentation
        self.udpSegmentation = udpSegmentation
    }
}

/// When a capture ends, and how much of each packet it keeps; none of it is 0.
public struct CaptureLimits: Hashable, Sendable {
    public static let maximumSnapLength: UInt32 = 65535

    public var packets: UInt32
    /// Bytes kept of each packet.
    public var snapLength: UInt32
    public var seconds: UInt32

    public init(packets: UInt32, snapLength: UInt32, seconds: UInt32) {
        self.packets = packets
        self.snapLength = snapLength
        self.seconds = seconds
    }
}

/// MLVPN's `-D` tokens as bits.
public struct DebugTokens: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let names = [
        "config", "control", "dns", "net", "privsep", "protocol", "reorder", "rtt", "tuntap", "wrr", "filters",
    ]

    /// Nil for a word that is no token.
    public init?(name: String) {
        guard let bit = Self.names.firstIndex(of: name) else { return nil }
        rawValue = 1 << UInt32(bit)
    }

    /// Of the first token in the set.
    public var name: String {
        rawValue == 0 ? "" : Self.names[min(rawValue.trailingZeroBitCount, Self.names.count - 1)]
    }

    public static let net = DebugTokens(rawValue: 1 << 3)
    public static let `protocol` = DebugTokens(rawValue: 1 << 5)
    public static let reorder = DebugTokens(rawValue: 1 << 6)
    public static let rtt = DebugTokens(rawValue: 1 << 7)
    public static let tuntap = DebugTokens(rawValue: 1 << 8)
    public static let wrr = DebugTokens(rawValue: 1 << 9)
    public static let filters = DebugTokens(rawValue: 1 << 10)
}
