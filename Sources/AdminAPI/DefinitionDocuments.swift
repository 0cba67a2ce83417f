import FoundationEssentials
import TunnelModel

// Definitions as JSON. What is written here, ``TunnelChange`` reads.

extension JSONValue {
    /// What `show` gives: every field, null where there is none; the password only with `secrets`.
    public init(_ tunnel: TunnelDefinition, version: Int64?, secrets: Bool) {
        var members: [String: JSONValue] = [
            "name": .string(tunnel.name.text),
            "mode": .string(tunnel.mode.rawValue),
            "interface": .string(tunnel.interface.text),
            "tap": .bool(tunnel.device == .tap),
            "disabled": .bool(!tunnel.enabled),
            "ip4": JSONValue(tunnel.ip4?.description),
            "ip6": JSONValue(tunnel.ip6?.description),
            "gateway4": JSONValue(tunnel.gateway4?.description),
            "gateway6": JSONValue(tunnel.gateway6?.description),
            "route": .array(tunnel.routes.map { .string($0.description) }),
            "mtu": JSONValue(tunnel.mtu),
            "timeout": JSONValue(tunnel.timeout),
            "reorder": Self.reorder(tunnel.reorder),
            "loss_tolerance": JSONValue(tunnel.lossTolerance),
            "latency_tolerance": JSONValue(tunnel.latencyTolerance),
            "scheduler": .string(tunnel.scheduler.rawValue),
            "cleartext_data": .bool(tunnel.cleartextData),
            "clamp_mss": .bool(tunnel.clampMSS),
            "device_offload": .bool(tunnel.offloads.device),
            "udp_segment": .bool(tunnel.offloads.udpSegment),
            "udp_gro": .bool(tunnel.offloads.udpGRO),
            "status_command": JSONValue(tunnel.statusCommand),
            "control_unix_path": JSONValue(tunnel.monitoring.unixPath),
            "control_bind_host": JSONValue(tunnel.monitoring.bindHost?.description),
            "control_bind_port": JSONValue(tunnel.monitoring.bindPort),
            "links": .array(tunnel.links.map { JSONValue($0) }),
            "filters": .array(tunnel.filters.map { JSONValue($0) }),
        ]
        if let version { members["version"] = .integer(version) }
        if secrets { members.merge(Self.password(tunnel.password)) { _, new in new } }
        self = .object(members)
    }

    /// A password as text, or in base64 when it is none: one member of an object.
    public static func password(_ password: Password) -> [String: JSONValue] {
        if let text = String(validating: password.bytes, as: UTF8.self) { return ["password": .string(text)] }
        return ["password_base64": .string(Data(password.bytes).base64EncodedString())]
    }

    private static func reorder(_ reorder: ReorderBuffer) -> JSONValue {
        if case .packets(let count) = reorder { JSONValue(count) } else { .string(reorder.description) }
    }

    public init(_ link: LinkDefinition) {
        var bandwidth = JSONValue.string("auto")
        if case .bytesPerSecond(let rate) = link.bandwidth { bandwidth = JSONValue(rate) }
        self = .object([
            "name": .string(link.name.text),
            "bind": JSONValue(link.bind == BindAddress() ? nil : link.bind.description),
            "remote": JSONValue(link.remote?.description),
            "bandwidth": bandwidth,
            "limit": JSONValue(link.limit),
            "timeout": JSONValue(link.timeout),
            "loss_tolerance": JSONValue(link.lossTolerance),
            "latency_tolerance": JSONValue(link.latencyTolerance),
            "fallback": .bool(link.fallback),
        ])
    }

    public init(_ filter: FilterDefinition) {
        self = .object([
            "link": .string(filter.links.map(\.text).joined(separator: "+")),
            "expression": .string(filter.expression),
        ])
    }
}

extension LinkSpec {
    /// A SPEC as text, or an object with its keys.
    public init(_ json: JSONValue) throws(DefinitionError) {
        if case .string(let text) = json {
            try self.init(text)
            return
        }
        guard case .object(var members) = json else {
            throw DefinitionError("links", "each must be an object, or a string NAME,bind=…")
        }
        guard case .string(let name)? = members.removeValue(forKey: "name") else {
            throw DefinitionError("links", "each needs a name")
        }
        self.init(name: try LinkName(name), change: LinkChange())
        for (key, value) in members.sorted(by: { $0.key < $1.key }) {
            do throws(DefinitionError) {
                try set(String(key.map { $0 == "_" ? "-" : $0 }), to: value)
            } catch {
                throw error.within("link \(name)")
            }
        }
    }

    private mutating func set(_ key: String, to value: JSONValue) throws(DefinitionError) {
        guard value == .null else {
            guard let text = value.text else { throw DefinitionError(key, "must be a string or a number") }
            try change.set(key, to: text)
            return
        }
        switch key {
        case "bind": change.bind = .clear
        case "remote": change.remote = .clear
        case "bandwidth": change.bandwidth = .clear
        case "limit": change.limit = .clear
        case "timeout": change.timeout = .clear
        case "loss-tolerance": change.lossTolerance = .clear
        case "latency-tolerance": change.latencyTolerance = .clear
        case "fallback": change.fallback = .clear
        default: try change.set(key, to: nil)
        }
    }
}

extension FilterDefinition {
    /// `LINK=EXPRESSION` as text, or an object with `link` (several joined by `+`) and `expression`.
    public init(_ json: JSONValue) throws(DefinitionError) {
        if case .string(let text) = json {
            try self.init(spec: text)
            return
        }
        guard case .string(let link)? = json["link"], case .string(let expression)? = json["expression"] else {
            throw DefinitionError(
                "filters", "each must be a string LINK=EXPRESSION, or an object with link and expression")
        }
        try self.init(spec: "\(link)=\(expression)")
    }
}
