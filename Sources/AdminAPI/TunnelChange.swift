import FoundationEssentials
import TunnelModel

/// What a request wants of a tunnel: the fields it names; those not named stay as they are, null ones become default.
public struct TunnelChange: Equatable, Sendable {
    public var name: TunnelName?
    public var mode: FieldChange<TunnelMode> = .keep
    /// Cleared: chosen from the tunnel's name.
    public var interface: FieldChange<InterfaceName> = .keep
    public var device: FieldChange<DeviceKind> = .keep
    public var password: Password?
    public var enabled: FieldChange<Bool> = .keep
    public var ip4: FieldChange<CIDR> = .keep
    public var ip6: FieldChange<CIDR> = .keep
    public var gateway4: FieldChange<IPAddress> = .keep
    public var gateway6: FieldChange<IPAddress> = .keep
    public var routes: FieldChange<[CIDR]> = .keep
    public var mtu: FieldChange<Int> = .keep
    public var timeout: FieldChange<Int> = .keep
    public var reorder: FieldChange<ReorderBuffer> = .keep
    public var lossTolerance: FieldChange<Int> = .keep
    public var latencyTolerance: FieldChange<Int> = .keep
    public var scheduler: FieldChange<Scheduler> = .keep
    public var cleartextData: FieldChange<Bool> = .keep
    public var clampMSS: FieldChange<Bool> = .keep
    public var deviceOffload: FieldChange<Bool> = .keep
    public var udpSegment: FieldChange<Bool> = .keep
    public var udpGRO: FieldChange<Bool> = .keep
    public var statusCommand: FieldChange<String> = .keep
    public var controlUnixPath: FieldChange<String> = .keep
    public var controlBindHost: FieldChange<Host> = .keep
    public var controlBindPort: FieldChange<UInt16> = .keep
    /// Replaces all links.
    public var links: FieldChange<[LinkSpec]> = .keep
    /// Replaces all filters.
    public var filters: FieldChange<[FilterDefinition]> = .keep

    /// Every key of a request, which is every key of a shown definition but `version`, in the order of the documentation.
    public static let keys = [
        "name", "mode", "interface", "tap", "password", "password_base64", "ip4", "ip6", "gateway4", "gateway6",
        "route",
        "mtu", "timeout", "reorder", "loss_tolerance", "latency_tolerance", "scheduler", "cleartext_data", "clamp_mss",
        "device_offload", "udp_segment", "udp_gro", "status_command", "control_unix_path", "control_bind_host",
        "control_bind_port", "links", "filters", "disabled",
    ]

    public init() {}

    /// From a request's body.
    public init(_ json: JSONValue) throws(DefinitionError) {
        guard case .object(let members) = json else { throw DefinitionError("", "the body must be a JSON object") }
        for (key, value) in members.sorted(by: { $0.key < $1.key }) { try set(key, to: value) }
    }

    private mutating func set(_ key: String, to value: JSONValue) throws(DefinitionError) {
        switch key {
        case "name": name = try TunnelName(try Self.text(value, key))
        case "password": password = try Password(Array(try Self.text(value, key).utf8))
        case "password_base64":
            guard let data = Data(base64Encoded: try Self.text(value, key)) else {
                throw DefinitionError(key, "is not base64")
            }
            password = try Password(Array(data))
        case "mode": mode = try Self.word(value, key)
        case "interface":
            interface = try Self.parsed(value, key) { text throws(DefinitionError) in try InterfaceName(text) }
        case "tap": device = try Self.flag(value, key).map { $0 ? .tap : .tun }
        case "ip4": ip4 = try Self.cidr(value, key)
        case "ip6": ip6 = try Self.cidr(value, key)
        case "gateway4": gateway4 = try Self.address(value, key)
        case "gateway6": gateway6 = try Self.address(value, key)
        case "route", "routes":
            routes = try Self.list(value, key) { item throws(DefinitionError) in
                try CIDR(try Self.text(item, "route"), field: "route")
            }
        case "mtu": mtu = try Self.number(value, key, 0...65535)
        case "timeout": timeout = try Self.number(value, key, 0...1_000_000)
        case "reorder":
            reorder = try Self.parsed(value, key) { text throws(DefinitionError) in try ReorderBuffer(text, field: key)
            }
        case "loss_tolerance": lossTolerance = try Self.number(value, key, 0...100)
        case "latency_tolerance": latencyTolerance = try Self.number(value, key, 0...60000)
        case "scheduler": scheduler = try Self.word(value, key)
        case "status_command": statusCommand = try Self.parsed(value, key) { text throws(DefinitionError) in text }
        case "control_unix_path": controlUnixPath = try Self.parsed(value, key) { text throws(DefinitionError) in text }
        case "control_bind_host":
            controlBindHost = try Self.parsed(value, key) { text throws(DefinitionError) in try Host(text, field: key) }
        case "control_bind_port":
            controlBindPort = try Self.parsed(value, key) { text throws(DefinitionError) in
                try parsePort(text, field: key)
            }
        case "links": links = try Self.list(value, key) { item throws(DefinitionError) in try LinkSpec(item) }
        case "filters":
            filters = try Self.list(value, key) { item throws(DefinitionError) in try FilterDefinition(item) }
        case "disabled": enabled = try Self.flag(value, key).map { !$0 }
        case "version": break
        default: try setSwitch(key, to: value)
        }
    }

    private mutating func setSwitch(_ key: String, to value: JSONValue) throws(DefinitionError) {
        switch key {
        case "cleartext_data": cleartextData = try Self.flag(value, key)
        case "clamp_mss": clampMSS = try Self.flag(value, key)
        case "device_offload": deviceOffload = try Self.flag(value, key)
        case "udp_segment": udpSegment = try Self.flag(value, key)
        case "udp_gro": udpGRO = try Self.flag(value, key)
        default:
            throw DefinitionError(
                "", "\(quoted(key)) is no field of a tunnel; the fields are \(Self.keys.joined(separator: ", "))")
        }
    }

    /// Changes `tunnel`; `interfaces` are those in use, for choosing one.
    public func apply(to tunnel: inout TunnelDefinition, interfaces: Set<String>) throws(DefinitionError) {
        let standard = TunnelDefinition(
            name: name ?? tunnel.name, mode: .server, interface: tunnel.interface, password: tunnel.password)
        tunnel.name = standard.name
        if let password { tunnel.password = password }
        tunnel.mode = mode.applied(to: tunnel.mode, standard: standard.mode)
        switch interface {
        case .keep: break
        case .set(let name): tunnel.interface = name
        case .clear:
            tunnel.interface = .automatic(for: tunnel.name, taken: interfaces.subtracting([tunnel.interface.text]))
        }
        tunnel.device = device.applied(to: tunnel.device, standard: standard.device)
        tunnel.enabled = enabled.applied(to: tunnel.enabled, standard: standard.enabled)
        tunnel.ip4 = ip4.applied(to: tunnel.ip4)
        tunnel.ip6 = ip6.applied(to: tunnel.ip6)
        tunnel.gateway4 = gateway4.applied(to: tunnel.gateway4)
        tunnel.gateway6 = gateway6.applied(to: tunnel.gateway6)
        tunnel.routes = routes.applied(to: tunnel.routes, standard: [])
        tunnel.mtu = mtu.applied(to: tunnel.mtu)
        tunnel.timeout = timeout.applied(to: tunnel.timeout, standard: standard.timeout)
        tunnel.reorder = reorder.applied(to: tunnel.reorder, standard: standard.reorder)
        tunnel.lossTolerance = lossTolerance.applied(to: tunnel.lossTolerance, standard: standard.lossTolerance)
        tunnel.latencyTolerance = latencyTolerance.applied(
            to: tunnel.latencyTolerance, standard: standard.latencyTolerance)
        tunnel.scheduler = scheduler.applied(to: tunnel.scheduler, standard: standard.scheduler)
        tunnel.cleartextData = cleartextData.applied(to: tunnel.cleartextData, standard: standard.cleartextData)
        tunnel.clampMSS = clampMSS.applied(to: tunnel.clampMSS, standard: standard.clampMSS)
        tunnel.offloads.device = deviceOffload.applied(to: tunnel.offloads.device, standard: true)
        tunnel.offloads.udpSegment = udpSegment.applied(to: tunnel.offloads.udpSegment, standard: true)
        tunnel.offloads.udpGRO = udpGRO.applied(to: tunnel.offloads.udpGRO, standard: true)
        tunnel.statusCommand = statusCommand.applied(to: tunnel.statusCommand)
        tunnel.monitoring.unixPath = controlUnixPath.applied(to: tunnel.monitoring.unixPath)
        tunnel.monitoring.bindHost = controlBindHost.applied(to: tunnel.monitoring.bindHost)
        tunnel.monitoring.bindPort = controlBindPort.applied(to: tunnel.monitoring.bindPort)
        tunnel.links = links.map { $0.map(\.definition) }.applied(to: tunnel.links, standard: [])
        tunnel.filters = filters.applied(to: tunnel.filters, standard: [])
    }

    /// The tunnel that this makes of nothing.
    public func newTunnel(interfaces: Set<String>) throws(DefinitionError) -> TunnelDefinition {
        guard let name else { throw DefinitionError("name", "is missing; a tunnel needs one") }
        guard let password else {
            throw DefinitionError(
                "password", "is missing; give --password-file, --password-stdin or --generate-password")
        }
        var tunnel = TunnelDefinition(
            name: name, mode: .server, interface: .automatic(for: name, taken: interfaces), password: password)
        try apply(to: &tunnel, interfaces: interfaces.union([tunnel.interface.text]))
        return tunnel
    }
}

extension TunnelChange {
    private static func text(_ value: JSONValue, _ key: String) throws(DefinitionError) -> String {
        guard case .string(let text) = value else { throw DefinitionError(key, "must be a string") }
        return text
    }

    private static func flag(_ value: JSONValue, _ key: String) throws(DefinitionError) -> FieldChange<Bool> {
        switch value {
        case .null: .clear
        case .bool(let flag): .set(flag)
        default: throw DefinitionError(key, "must be true or false")
        }
    }

    private static func number(
        _ value: JSONValue, _ key: String, _ range: ClosedRange<Int>
    ) throws(DefinitionError) -> FieldChange<Int> {
        switch value {
        case .null: return .clear
        case .integer(let number):
            guard let number = Int(exactly: number), range.contains(number) else {
                throw DefinitionError(key, "\(number) is not from \(range.lowerBound) to \(range.upperBound)")
            }
            return .set(number)
        default: throw DefinitionError(key, "must be a whole number")
        }
    }

    private static func parsed<T>(
        _ value: JSONValue, _ key: String, _ parse: (String) throws(DefinitionError) -> T
    ) throws(DefinitionError) -> FieldChange<T> {
        if value == .null { return .clear }
        guard let text = value.text else { throw DefinitionError(key, "must be a string or a number") }
        return .set(try parse(text))
    }

    private static func word<T: RawRepresentable<String> & CaseIterable>(
        _ value: JSONValue, _ key: String
    ) throws(DefinitionError) -> FieldChange<T> {
        try parsed(value, key) { text throws(DefinitionError) in
            if let word = T(rawValue: text) { return word }
            let words = T.allCases.map(\.rawValue).joined(separator: ", ")
            throw DefinitionError(key, "\(quoted(text)) is none of \(words)")
        }
    }

    private static func cidr(_ value: JSONValue, _ key: String) throws(DefinitionError) -> FieldChange<CIDR> {
        try parsed(value, key) { text throws(DefinitionError) in try CIDR(text, field: key) }
    }

    private static func address(_ value: JSONValue, _ key: String) throws(DefinitionError) -> FieldChange<IPAddress> {
        try parsed(value, key) { text throws(DefinitionError) in
            guard let address = IPAddress(text) else { throw DefinitionError(key, "\(quoted(text)) is no address") }
            return address
        }
    }

    private static func list<T>(
        _ value: JSONValue, _ key: String, _ parse: (JSONValue) throws(DefinitionError) -> T
    ) throws(DefinitionError) -> FieldChange<[T]> {
        switch value {
        case .null: return .clear
        case .array(let items):
            var values: [T] = []
            for item in items { values.append(try parse(item)) }
            return .set(values)
        default: throw DefinitionError(key, "must be an array")
        }
    }
}

extension FieldChange {
    func map<Other>(_ transform: (Value) -> Other) -> FieldChange<Other> {
        switch self {
        case .keep: .keep
        case .clear: .clear
        case .set(let value): .set(transform(value))
        }
    }
}
