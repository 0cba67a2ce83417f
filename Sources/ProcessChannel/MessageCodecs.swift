import Glibc
import TunnelModel

// How each message is laid out: its kind (one byte), then its fields in the order of the case's arguments.

extension ControlRequest {
    public var descriptors: Int {
        switch self {
        case .capture: 1
        case .apply, .remove, .ready, .debug, .cannotStart, .signalled: 0
        }
    }

    public func encoded() -> [UInt8] {
        switch self {
        case .apply(let id, let generation, let tunnel):
            var writer = MessageWriter(kind: 1)
            writer.integer(id)
            writer.integer(generation)
            writer.tunnel(tunnel)
            return writer.bytes
        case .remove(let id):
            var writer = MessageWriter(kind: 2)
            writer.integer(id)
            return writer.bytes
        case .ready(let kept):
            var writer = MessageWriter(kind: 3)
            writer.list(kept) { $0.integer($1) }
            return writer.bytes
        case .debug(let id, let tokens):
            var writer = MessageWriter(kind: 4)
            writer.integer(id)
            writer.integer(tokens)
            return writer.bytes
        case .capture(let id, let link, let limits):
            var writer = MessageWriter(kind: 5)
            writer.integer(id)
            writer.optional(link) { $0.text($1.text) }
            writer.captureLimits(limits)
            return writer.bytes
        case .cannotStart(let reason):
            var writer = MessageWriter(kind: 6)
            writer.text(reason)
            return writer.bytes
        case .signalled(let number):
            var writer = MessageWriter(kind: 7)
            writer.integer(number)
            return writer.bytes
        }
    }

    public init(_ reader: consuming MessageReader) throws(MalformedMessage) {
        switch reader.kind {
        case 1: self = .apply(id: try reader.integer(), generation: try reader.integer(), tunnel: try reader.tunnel())
        case 2: self = .remove(id: try reader.integer())
        case 3: self = .ready(kept: try reader.list { (reader) throws(MalformedMessage) in try reader.integer() })
        case 4: self = .debug(id: try reader.integer(), tokens: try reader.integer())
        case 5:
            self = .capture(
                id: try reader.integer(), link: try reader.optionalLink(), limits: try reader.captureLimits())
        case 6: self = .cannotStart(reason: try reader.text())
        case 7: self = .signalled(number: try reader.signal())
        case let kind: throw MalformedMessage("\(kind) is no request of control's")
        }
        try reader.finish()
    }
}

extension ControlNotice {
    public var descriptors: Int { self == .welcome ? 3 : 0 }

    public func encoded() -> [UInt8] {
        switch self {
        case .welcome: return MessageWriter(kind: 1).bytes
        case .assigned(let id, let generation, let slot, let linkSlots):
            var writer = MessageWriter(kind: 2)
            writer.integer(id)
            writer.integer(generation)
            writer.integer(slot)
            writer.linkSlots(linkSlots)
            return writer.bytes
        case .problem(let id, let link, let text):
            var writer = MessageWriter(kind: 3)
            writer.integer(id)
            writer.optional(link) { $0.text($1.text) }
            writer.optional(text) { $0.text($1) }
            return writer.bytes
        case .removed(let id):
            var writer = MessageWriter(kind: 4)
            writer.integer(id)
            return writer.bytes
        case .reload: return MessageWriter(kind: 5).bytes
        case .engineStarted(let count):
            var writer = MessageWriter(kind: 6)
            writer.integer(count)
            return writer.bytes
        case .stopping: return MessageWriter(kind: 7).bytes
        case .standalone(let tunnel):
            var writer = MessageWriter(kind: 8)
            writer.tunnel(tunnel)
            return writer.bytes
        }
    }

    public init(_ reader: consuming MessageReader) throws(MalformedMessage) {
        switch reader.kind {
        case 1: self = .welcome
        case 2:
            self = .assigned(
                id: try reader.integer(), generation: try reader.integer(), slot: try reader.integer(),
                linkSlots: try reader.linkSlots())
        case 3:
            self = .problem(id: try reader.integer(), link: try reader.optionalLink(), text: try reader.optionalText())
        case 4: self = .removed(id: try reader.integer())
        case 5: self = .reload
        case 6: self = .engineStarted(count: try reader.integer())
        case 7: self = .stopping
        case 8: self = .standalone(tunnel: try reader.tunnel())
        case let kind: throw MalformedMessage("\(kind) is no notice to control")
        }
        try reader.finish()
    }
}

extension HelperRequest {
    public var descriptors: Int { 0 }

    public func encoded() -> [UInt8] {
        switch self {
        case .configure(let generation, let tunnel, let resume):
            var writer = MessageWriter(kind: 1)
            writer.integer(generation)
            writer.tunnel(tunnel)
            writer.optional(resume) { writer, resume in
                writer.tunnel(resume.previous)
                writer.boolean(resume.hasDevice)
                writer.list(resume.sockets) {
                    $0.text($1.link.text)
                    $0.boolean($1.isIPv6)
                }
                writer.list(resume.linksUp) { $0.text($1.text) }
                writer.scripts(resume.scripts)
            }
            return writer.bytes
        case .linkState(let link, let state):
            var writer = MessageWriter(kind: 2)
            writer.text(link.text)
            writer.integer(state.rawValue)
            return writer.bytes
        case .resolve(let link):
            var writer = MessageWriter(kind: 3)
            writer.text(link.text)
            return writer.bytes
        case .stop: return MessageWriter(kind: 4).bytes
        case .deviceLost: return MessageWriter(kind: 5).bytes
        }
    }

    public init(_ reader: consuming MessageReader) throws(MalformedMessage) {
        switch reader.kind {
        case 1:
            self = .configure(
                generation: try reader.integer(), tunnel: try reader.tunnel(), resume: try reader.optionalResume())
        case 2: self = .linkState(link: try reader.linkName(), state: try reader.linkState())
        case 3: self = .resolve(link: try reader.linkName())
        case 4: self = .stop
        case 5: self = .deviceLost
        case let kind: throw MalformedMessage("\(kind) is no request to a helper")
        }
        try reader.finish()
    }
}

extension HelperNotice {
    public var descriptors: Int {
        switch self {
        case .device, .socket: 1
        case .resolved, .problem, .scripts, .configured, .signalled: 0
        }
    }

    public func encoded() -> [UInt8] {
        switch self {
        case .device(let generation, let features):
            var writer = MessageWriter(kind: 1)
            writer.integer(generation)
            writer.features(features)
            return writer.bytes
        case .socket(let generation, let link, let isIPv6):
            var writer = MessageWriter(kind: 2)
            writer.integer(generation)
            writer.text(link.text)
            writer.boolean(isIPv6)
            return writer.bytes
        case .resolved(let generation, let link, let addresses):
            var writer = MessageWriter(kind: 3)
            writer.integer(generation)
            writer.text(link.text)
            writer.addresses(addresses)
            return writer.bytes
        case .problem(let link, let text):
            var writer = MessageWriter(kind: 4)
            writer.optional(link) { $0.text($1.text) }
            writer.optional(text) { $0.text($1) }
            return writer.bytes
        case .configured(let generation):
            var writer = MessageWriter(kind: 5)
            writer.integer(generation)
            return writer.bytes
        case .signalled(let number):
            var writer = MessageWriter(kind: 6)
            writer.integer(number)
            return writer.bytes
        case .scripts(let told):
            var writer = MessageWriter(kind: 7)
            writer.scripts(told)
            return writer.bytes
        }
    }

    public init(_ reader: consuming MessageReader) throws(MalformedMessage) {
        switch reader.kind {
        case 1: self = .device(generation: try reader.integer(), features: try reader.features())
        case 2:
            self = .socket(generation: try reader.integer(), link: try reader.linkName(), isIPv6: try reader.boolean())
        case 3:
            self = .resolved(
                generation: try reader.integer(), link: try reader.linkName(), addresses: try reader.addresses())
        case 4: self = .problem(link: try reader.optionalLink(), text: try reader.optionalText())
        case 5: self = .configured(generation: try reader.integer())
        case 6: self = .signalled(number: try reader.signal())
        case 7: self = .scripts(try reader.scripts())
        case let kind: throw MalformedMessage("\(kind) is no notice of a helper's")
        }
        try reader.finish()
    }
}

extension EngineRequest {
    public var descriptors: Int {
        switch self {
        case .start: 2
        case .device, .socket, .capture: 1
        case .define, .peerAddresses, .undefine, .debug, .stop: 0
        }
    }

    public func encoded() -> [UInt8] {
        switch self {
        case .start(let workers, let offloads):
            var writer = MessageWriter(kind: 1)
            writer.integer(workers)
            writer.boolean(offloads.device)
            writer.boolean(offloads.udpSegment)
            writer.boolean(offloads.udpGRO)
            return writer.bytes
        case .define(let slot, let generation, let tunnel, let linkSlots):
            var writer = MessageWriter(kind: 2)
            writer.integer(slot)
            writer.integer(generation)
            writer.tunnel(tunnel)
            writer.linkSlots(linkSlots)
            return writer.bytes
        case .device(let slot, let features):
            var writer = MessageWriter(kind: 3)
            writer.integer(slot)
            writer.features(features)
            return writer.bytes
        case .socket(let slot, let linkSlot, let isIPv6):
            var writer = MessageWriter(kind: 4)
            writer.integer(slot)
            writer.integer(linkSlot)
            writer.boolean(isIPv6)
            return writer.bytes
        case .peerAddresses(let slot, let linkSlot, let addresses):
            var writer = MessageWriter(kind: 5)
            writer.integer(slot)
            writer.integer(linkSlot)
            writer.addresses(addresses)
            return writer.bytes
        case .undefine(let slot):
            var writer = MessageWriter(kind: 6)
            writer.integer(slot)
            return writer.bytes
        case .debug(let slot, let tokens):
            var writer = MessageWriter(kind: 7)
            writer.integer(slot)
            writer.integer(tokens)
            return writer.bytes
        case .stop: return MessageWriter(kind: 8).bytes
        case .capture(let slot, let linkSlot, let limits):
            var writer = MessageWriter(kind: 9)
            writer.integer(slot)
            writer.optional(linkSlot) { $0.integer($1) }
            writer.captureLimits(limits)
            return writer.bytes
        }
    }

    public init(_ reader: consuming MessageReader) throws(MalformedMessage) {
        switch reader.kind {
        case 1:
            self = .start(
                workers: try reader.integer(),
                offloads: OffloadSwitches(
                    device: try reader.boolean(), udpSegment: try reader.boolean(), udpGRO: try reader.boolean()))
        case 2:
            self = .define(
                slot: try reader.integer(), generation: try reader.integer(), tunnel: try reader.tunnel(),
                linkSlots: try reader.linkSlots())
        case 3: self = .device(slot: try reader.integer(), features: try reader.features())
        case 4:
            self = .socket(slot: try reader.integer(), linkSlot: try reader.integer(), isIPv6: try reader.boolean())
        case 5:
            self = .peerAddresses(
                slot: try reader.integer(), linkSlot: try reader.integer(), addresses: try reader.addresses())
        case 6: self = .undefine(slot: try reader.integer())
        case 7: self = .debug(slot: try reader.integer(), tokens: try reader.integer())
        case 8: self = .stop
        case 9:
            self = .capture(
                slot: try reader.integer(), linkSlot: try reader.optionalSlot(), limits: try reader.captureLimits())
        case let kind: throw MalformedMessage("\(kind) is no request to the engine")
        }
        try reader.finish()
    }
}

extension EngineNotice {
    public var descriptors: Int { 0 }

    public func encoded() -> [UInt8] {
        switch self {
        case .ready: return MessageWriter(kind: 1).bytes
        case .linkState(let slot, let linkSlot, let state):
            var writer = MessageWriter(kind: 2)
            writer.integer(slot)
            writer.integer(linkSlot)
            writer.integer(state.rawValue)
            return writer.bytes
        case .resolveAgain(let slot, let linkSlot):
            var writer = MessageWriter(kind: 3)
            writer.integer(slot)
            writer.integer(linkSlot)
            return writer.bytes
        case .undefined(let slot):
            var writer = MessageWriter(kind: 4)
            writer.integer(slot)
            return writer.bytes
        case .signalled(let number):
            var writer = MessageWriter(kind: 5)
            writer.integer(number)
            return writer.bytes
        case .cannotStart(let reason):
            var writer = MessageWriter(kind: 6)
            writer.text(reason)
            return writer.bytes
        case .deviceLost(let slot):
            var writer = MessageWriter(kind: 7)
            writer.integer(slot)
            return writer.bytes
        case .logLost: return MessageWriter(kind: 8).bytes
        }
    }

    public init(_ reader: consuming MessageReader) throws(MalformedMessage) {
        switch reader.kind {
        case 1: self = .ready
        case 2:
            self = .linkState(slot: try reader.integer(), linkSlot: try reader.integer(), state: try reader.linkState())
        case 3: self = .resolveAgain(slot: try reader.integer(), linkSlot: try reader.integer())
        case 4: self = .undefined(slot: try reader.integer())
        case 5: self = .signalled(number: try reader.signal())
        case 6: self = .cannotStart(reason: try reader.text())
        case 7: self = .deviceLost(slot: try reader.integer())
        case 8: self = .logLost
        case let kind: throw MalformedMessage("\(kind) is no notice of the engine's")
        }
        try reader.finish()
    }
}

extension MessageWriter {
    fileprivate mutating func linkSlots(_ slots: [LinkSlot]) {
        list(slots) {
            $0.text($1.link.text)
            $0.integer($1.slot)
        }
    }

    fileprivate mutating func scripts(_ told: ToldScripts) {
        list(told.links) { $0.text($1.text) }
        boolean(told.device)
        optional(told.running) { $0.integer($1) }
    }

    fileprivate mutating func features(_ features: DeviceFeatures) {
        boolean(features.hasVirtioHeader)
        boolean(features.tcpSegmentation)
        boolean(features.udpSegmentation)
    }

    fileprivate mutating func captureLimits(_ limits: CaptureLimits) {
        integer(limits.packets)
        integer(limits.snapLength)
        integer(limits.seconds)
    }

    fileprivate mutating func addresses(_ addresses: [SocketAddress]) {
        list(addresses) { writer, address in
            writer.optional(address.address) { $0.byteString($1.bytes) }
            writer.integer(address.port)
            writer.integer(address.scope)
        }
    }
}

extension MessageReader {
    fileprivate mutating func linkSlots() throws(MalformedMessage) -> [LinkSlot] {
        try list { (reader) throws(MalformedMessage) in
            LinkSlot(link: try reader.linkName(), slot: try reader.integer())
        }
    }

    fileprivate mutating func features() throws(MalformedMessage) -> DeviceFeatures {
        DeviceFeatures(
            hasVirtioHeader: try boolean(), tcpSegmentation: try boolean(), udpSegmentation: try boolean())
    }

    fileprivate mutating func linkState() throws(MalformedMessage) -> LinkState {
        let raw = try integer(UInt8.self)
        guard let state = LinkState(rawValue: raw) else { throw MalformedMessage("\(raw) is no link state") }
        return state
    }

    fileprivate mutating func optionalResume() throws(MalformedMessage) -> HelperResume? {
        try optional { (reader) throws(MalformedMessage) in
            HelperResume(
                previous: try reader.tunnel(), hasDevice: try reader.boolean(),
                sockets: try reader.list { (reader) throws(MalformedMessage) in
                    BoundSocket(link: try reader.linkName(), isIPv6: try reader.boolean())
                },
                linksUp: try reader.list { (reader) throws(MalformedMessage) in try reader.linkName() },
                scripts: try reader.scripts())
        }
    }

    fileprivate mutating func scripts() throws(MalformedMessage) -> ToldScripts {
        let told = ToldScripts(
            links: try list { (reader) throws(MalformedMessage) in try reader.linkName() }, device: try boolean(),
            running: try optional { (reader) throws(MalformedMessage) in try reader.integer() })
        // It may be killed, with its group.
        if let pid = told.running, pid <= 1 { throw MalformedMessage("\(pid) is no script's process") }
        return told
    }

    /// One of the signals that an operator sends.
    fileprivate mutating func signal() throws(MalformedMessage) -> Int32 {
        let number = try integer(Int32.self)
        guard [SIGHUP, SIGINT, SIGQUIT, SIGTERM].contains(number) else {
            throw MalformedMessage("signal \(number) is none to pass on")
        }
        return number
    }

    fileprivate mutating func optionalLink() throws(MalformedMessage) -> LinkName? {
        try optional { (reader) throws(MalformedMessage) in try reader.linkName() }
    }

    fileprivate mutating func optionalSlot() throws(MalformedMessage) -> Slot? {
        try optional { (reader) throws(MalformedMessage) in try reader.integer() }
    }

    fileprivate mutating func captureLimits() throws(MalformedMessage) -> CaptureLimits {
        let limits = CaptureLimits(packets: try integer(), snapLength: try integer(), seconds: try integer())
        guard limits.packets > 0, limits.seconds > 0, (1...CaptureLimits.maximumSnapLength).contains(limits.snapLength)
        else { throw MalformedMessage("a capture without end, or of nothing") }
        return limits
    }

    fileprivate mutating func optionalText() throws(MalformedMessage) -> String? {
        try optional { (reader) throws(MalformedMessage) in try reader.text() }
    }

    fileprivate mutating func addresses() throws(MalformedMessage) -> [SocketAddress] {
        try list { (reader) throws(MalformedMessage) in
            let bytes = try reader.optional { (reader) throws(MalformedMessage) in try reader.byteString() }
            let port: UInt16 = try reader.integer()
            let scope: UInt32 = try reader.integer()
            guard let bytes else { return .none }
            guard let address = IPAddress(networkBytes: bytes) else {
                throw MalformedMessage("an address of \(bytes.count) bytes")
            }
            return SocketAddress(address, port: port, scope: scope)
        }
    }
}
