import Glibc
import LinuxSystem
import ProcessChannel
import TunnelModel

/// A tunnel as the supervisor keeps it: what it is to be, and everything of it that must outlive the engine.
final class Tunnel {
    /// Control's name for it.
    let id: Int64
    let slot: Slot
    var generation: UInt64
    var compiled: CompiledTunnel
    /// A link keeps its slot, by its name, as long as it is in the definition.
    var linkSlots: [LinkName: Slot] = [:]
    var debugTokens: DebugTokens = []
    var isRemoved = false
    /// Which control process defined it last.
    var definedBy = 0

    // The helper.
    var helper: Peer<HelperNotice>?
    var isHelperStopping = false
    /// Another helper was started to do what one that was to stop has not done.
    var wasStopRepeated = false
    var helperBackoff = Backoff(first: .milliseconds(100), limit: .seconds(30))
    var helperTimer: EventLoop.TimerID?
    /// The definition that a helper was sent last.
    var helperKnows: CompiledTunnel?
    /// Links that a helper was told to be up.
    var toldUp: Set<LinkName> = []
    /// What scripts have been told.
    var scripts = ToldScripts()
    /// Definitions sent to the helper, by generation, until it says that it has them.
    var sent: [UInt64: TunnelDefinition] = [:]
    var problems: [LinkName?: String] = [:]

    // What the engine works with.
    var device: HeldDevice?
    var sockets: [LinkName: HeldSocket] = [:]
    var addresses: [LinkName: [SocketAddress]] = [:]
    var states: [LinkName: LinkState] = [:]
    /// The generation that the running engine was given; nil: it has nothing of this tunnel.
    var engineKnows: UInt64?
    /// The engine still has descriptors that it was told to give up.
    var awaitsEngine = false

    init(id: Int64, slot: Slot, generation: UInt64, compiled: CompiledTunnel) {
        self.id = id
        self.slot = slot
        self.generation = generation
        self.compiled = compiled
    }

    var definition: TunnelDefinition { compiled.definition }
    var isWanted: Bool { !isRemoved && definition.enabled }
    var isAtRest: Bool { helper == nil && helperTimer == nil && !awaitsEngine }

    /// In the definition's order.
    var orderedLinkSlots: [LinkSlot] {
        definition.links.compactMap { link in linkSlots[link.name].map { LinkSlot(link: link.name, slot: $0) } }
    }

    func link(at slot: Slot) -> LinkName? { linkSlots.first { $0.value == slot }?.key }

    /// Gives up what the definition in force has no use for.
    func dropStale() {
        if let device, device.identity != DeviceIdentity(definition) { self.device = nil }
        for (name, socket) in sockets {
            let link = definition.links.first { $0.name == name }
            if link?.bind != socket.bind { sockets[name] = nil }
        }
        let names = Set(definition.links.map(\.name))
        addresses = addresses.filter { names.contains($0.key) }
        states = states.filter { names.contains($0.key) }
        toldUp.formIntersection(names)
    }

    func releaseAll() {
        device = nil
        sockets = [:]
        addresses = [:]
        states = [:]
        toldUp = []
        scripts = ToldScripts()
        helperKnows = nil
        sent = [:]
    }

    /// For the successor of a helper that died; nil when there is nothing to take over.
    var resume: HelperResume? {
        guard let helperKnows else { return nil }
        return HelperResume(
            previous: helperKnows, hasDevice: device != nil,
            sockets: sockets.map { BoundSocket(link: $0.key, isIPv6: $0.value.isIPv6) },
            linksUp: definition.links.map(\.name).filter { toldUp.contains($0) }, scripts: scripts)
    }
}

/// While one process holds a TUN's descriptor, the device, its addresses and its routes stay.
final class HeldDevice {
    let descriptor: OwnedDescriptor
    let features: DeviceFeatures
    let identity: DeviceIdentity

    init(_ descriptor: consuming OwnedDescriptor, features: DeviceFeatures, identity: DeviceIdentity) {
        self.descriptor = descriptor
        self.features = features
        self.identity = identity
    }
}

final class HeldSocket {
    let descriptor: OwnedDescriptor
    let bind: BindAddress
    let isIPv6: Bool

    init(_ descriptor: consuming OwnedDescriptor, bind: BindAddress, isIPv6: Bool) {
        self.descriptor = descriptor
        self.bind = bind
        self.isIPv6 = isIPv6
    }
}
