import TunnelModel

/// A definition as it goes from control to the engine: with its filters compiled.
public struct CompiledTunnel: Equatable, Sendable {
    public var definition: TunnelDefinition
    /// One program for each of `definition.filters`.
    public var filterPrograms: [[BPFInstruction]]

    public init(definition: TunnelDefinition, filterPrograms: [[BPFInstruction]]) {
        self.definition = definition
        self.filterPrograms = filterPrograms
    }
}

extension CompiledTunnel {
    /// Bytes of a message for what is in it besides definitions: places, sockets, names of 32 links.
    private static let room = 16 << 10

    /// Why it cannot be handed from process to process; nil: it can.
    public var sizeProblem: DefinitionError? {
        let limit = Channel.maximumMessage - Self.room
        // A helper may be given two: the one in force, and the one that its predecessor had. It has no use for filters.
        var withoutFilters = self
        withoutFilters.definition.filters = []
        withoutFilters.filterPrograms = []
        let (rest, whole) = (withoutFilters.encodedBytes, encodedBytes)
        if rest > limit / 2 {
            return DefinitionError(
                "route",
                "\(definition.routes.count) routes and the rest of the definition take \(rest) bytes, more than the "
                    + "\(limit / 2) that a tunnel may have; join neighbouring routes into larger ones")
        }
        if whole > limit {
            return DefinitionError(
                "filter",
                "\(definition.filters.count) filters, compiled, and the rest of the definition take \(whole) bytes, more "
                    + "than the \(limit) that a tunnel may have; use fewer filters, or simpler ones")
        }
        return nil
    }

    private var encodedBytes: Int {
        var writer = MessageWriter(kind: 0)
        writer.tunnel(self)
        return writer.bytes.count
    }
}

extension MessageWriter {
    public mutating func tunnel(_ tunnel: CompiledTunnel) {
        let definition = tunnel.definition
        text(definition.name.text)
        text(definition.mode.rawValue)
        text(definition.interface.text)
        text(definition.device.rawValue)
        byteString(definition.password.bytes)
        boolean(definition.enabled)
        optional(definition.ip4) { $0.text($1.description) }
        optional(definition.ip6) { $0.text($1.description) }
        optional(definition.gateway4) { $0.text($1.description) }
        optional(definition.gateway6) { $0.text($1.description) }
        list(definition.routes) { $0.text($1.description) }
        optional(definition.mtu) { $0.integer(UInt32($1)) }
        integer(UInt32(definition.timeout))
        text(definition.reorder.description)
        integer(UInt32(definition.lossTolerance))
        integer(UInt32(definition.latencyTolerance))
        text(definition.scheduler.rawValue)
        boolean(definition.cleartextData)
        boolean(definition.clampMSS)
        boolean(definition.offloads.device)
        boolean(definition.offloads.udpSegment)
        boolean(definition.offloads.udpGRO)
        optional(definition.statusCommand) { $0.text($1) }
        optional(definition.monitoring.unixPath) { $0.text($1) }
        optional(definition.monitoring.bindHost) { $0.text($1.description) }
        optional(definition.monitoring.bindPort) { $0.integer($1) }
        list(definition.links) { $0.link($1) }
        list(definition.filters) { writer, filter in
            writer.list(filter.links) { $0.text($1.text) }
            writer.text(filter.expression)
        }
        list(tunnel.filterPrograms) { writer, program in
            writer.list(program) {
                $0.integer($1.code)
                $0.integer($1.jt)
                $0.integer($1.jf)
                $0.integer($1.k)
            }
        }
    }

    private mutating func link(_ link: LinkDefinition) {
        text(link.name.text)
        optional(link.bind.host) { $0.text($1.description) }
        optional(link.bind.port) { $0.integer($1) }
        optional(link.remote) { writer, remote in
            writer.text(remote.host.description)
            writer.integer(remote.port)
        }
        if case .bytesPerSecond(let rate) = link.bandwidth { integer(rate) } else { integer(UInt64(0)) }
        optional(link.limit) { $0.integer($1) }
        optional(link.timeout) { $0.integer(UInt32($1)) }
        optional(link.lossTolerance) { $0.integer(UInt32($1)) }
        optional(link.latencyTolerance) { $0.integer(UInt32($1)) }
        boolean(link.fallback)
    }
}

extension MessageReader {
    public mutating func tunnel() throws(MalformedMessage) -> CompiledTunnel {
        do {
            return try tunnelParts()
        } catch let error as MalformedMessage {
            throw error
        } catch {
            throw MalformedMessage("kind \(kind): \(error)")
        }
    }

    private mutating func tunnelParts() throws -> CompiledTunnel {
        var definition = TunnelDefinition(
            name: try TunnelName(text()), mode: try word(), interface: try InterfaceName(text()), device: try word(),
            password: try Password(byteString()))
        definition.enabled = try boolean()
        definition.ip4 = try optional { (reader) throws(MalformedMessage) in try reader.cidr() }
        definition.ip6 = try optional { (reader) throws(MalformedMessage) in try reader.cidr() }
        definition.gateway4 = try optional { (reader) throws(MalformedMessage) in try reader.address() }
        definition.gateway6 = try optional { (reader) throws(MalformedMessage) in try reader.address() }
        definition.routes = try list { (reader) throws(MalformedMessage) in try reader.cidr() }
        definition.mtu = try optional { (reader) throws(MalformedMessage) in try reader.number() }
        definition.timeout = try number()
        definition.reorder = try ReorderBuffer(text(), field: "reorder")
        definition.lossTolerance = try number()
        definition.latencyTolerance = try number()
        definition.scheduler = try word()
        definition.cleartextData = try boolean()
        definition.clampMSS = try boolean()
        definition.offloads = try OffloadSwitches(device: boolean(), udpSegment: boolean(), udpGRO: boolean())
        definition.statusCommand = try optional { (reader) throws(MalformedMessage) in try reader.text() }
        definition.monitoring.unixPath = try optional { (reader) throws(MalformedMessage) in try reader.text() }
        definition.monitoring.bindHost = try optional { (reader) throws(MalformedMessage) in try reader.host() }
        definition.monitoring.bindPort = try optional { (reader) throws(MalformedMessage) in
            try reader.integer(UInt16.self)
        }
        definition.links = try list { (reader) throws(MalformedMessage) in try reader.link() }
        definition.filters = try list { (reader) throws(MalformedMessage) in
            let links = try reader.list { (reader) throws(MalformedMessage) in try reader.linkName() }
            return FilterDefinition(links: links, expression: try reader.text())
        }
        let programs = try list { (reader) throws(MalformedMessage) in
            try reader.list { (reader) throws(MalformedMessage) in
                BPFInstruction(
                    code: try reader.integer(), jt: try reader.integer(), jf: try reader.integer(),
                    k: try reader.integer())
            }
        }
        if let problem = definition.problems.first { throw problem }
        guard programs.count == definition.filters.count else {
            throw MalformedMessage("\(programs.count) programs for \(definition.filters.count) filters")
        }
        return CompiledTunnel(definition: definition, filterPrograms: programs)
    }

    private mutating func link() throws(MalformedMessage) -> LinkDefinition {
        var link = LinkDefinition(name: try linkName())
        link.bind.host = try optional { (reader) throws(MalformedMessage) in try reader.host() }
        link.bind.port = try optional { (reader) throws(MalformedMessage) in try reader.integer(UInt16.self) }
        link.remote = try optional { (reader) throws(MalformedMessage) in
            HostPort(host: try reader.host(), port: try reader.integer())
        }
        let bandwidth = try integer(UInt64.self)
        link.bandwidth = bandwidth == 0 ? .auto : .bytesPerSecond(bandwidth)
        link.limit = try optional { (reader) throws(MalformedMessage) in try reader.integer(UInt64.self) }
        link.timeout = try optional { (reader) throws(MalformedMessage) in try reader.number() }
        link.lossTolerance = try optional { (reader) throws(MalformedMessage) in try reader.number() }
        link.latencyTolerance = try optional { (reader) throws(MalformedMessage) in try reader.number() }
        link.fallback = try boolean()
        return link
    }

    private mutating func number() throws(MalformedMessage) -> Int { Int(try integer(UInt32.self)) }

    private mutating func word<T: RawRepresentable<String>>() throws(MalformedMessage) -> T {
        let text = try text()
        guard let value = T(rawValue: text) else { throw MalformedMessage("\(quoted(text)) is no \(T.self)") }
        return value
    }

    private mutating func parsed<T>(
        _ parse: (String) throws(DefinitionError) -> T
    ) throws(MalformedMessage) -> T {
        let text = try text()
        do { return try parse(text) } catch { throw MalformedMessage(error.description) }
    }

    public mutating func linkName() throws(MalformedMessage) -> LinkName {
        try parsed { text throws(DefinitionError) in try LinkName(text) }
    }
    private mutating func host() throws(MalformedMessage) -> Host {
        try parsed { text throws(DefinitionError) in try Host(text, field: "host") }
    }
    private mutating func cidr() throws(MalformedMessage) -> CIDR {
        try parsed { text throws(DefinitionError) in try CIDR(text, field: "address") }
    }
    private mutating func address() throws(MalformedMessage) -> IPAddress {
        let text = try text()
        guard let address = IPAddress(text) else { throw MalformedMessage("\(quoted(text)) is no address") }
        return address
    }
}
