/// What becomes of one field.
public enum FieldChange<Value: Equatable & Sendable>: Equatable, Sendable {
    case keep
    /// To its default, or to none.
    case clear
    case set(Value)

    /// What `old` becomes; `standard` is what a cleared field holds.
    public func applied(to old: Value, standard: Value) -> Value {
        switch self {
        case .keep: old
        case .clear: standard
        case .set(let new): new
        }
    }

    public func applied(to old: Value?) -> Value? {
        switch self {
        case .keep: old
        case .clear: nil
        case .set(let new): new
        }
    }
}

/// A change of some fields of a link; those not named stay as they are.
public struct LinkChange: Equatable, Sendable {
    /// Cleared: the wildcard with a port of the kernel's choice.
    public var bind: FieldChange<BindAddress> = .keep
    public var remote: FieldChange<HostPort> = .keep
    /// Cleared: auto.
    public var bandwidth: FieldChange<Bandwidth> = .keep
    /// Bytes per second. Cleared: not shaped.
    public var limit: FieldChange<UInt64> = .keep
    /// Seconds. Cleared: the tunnel's; so the tolerances.
    public var timeout: FieldChange<Int> = .keep
    /// Percent.
    public var lossTolerance: FieldChange<Int> = .keep
    /// Milliseconds.
    public var latencyTolerance: FieldChange<Int> = .keep
    public var fallback: FieldChange<Bool> = .keep

    public init() {}

    public func apply(to link: inout LinkDefinition) {
        link.bind = bind.applied(to: link.bind, standard: BindAddress())
        link.remote = remote.applied(to: link.remote)
        link.bandwidth = bandwidth.applied(to: link.bandwidth, standard: .auto)
        link.limit = limit.applied(to: link.limit)
        link.timeout = timeout.applied(to: link.timeout)
        link.lossTolerance = lossTolerance.applied(to: link.lossTolerance)
        link.latencyTolerance = latencyTolerance.applied(to: link.latencyTolerance)
        link.fallback = fallback.applied(to: link.fallback, standard: false)
    }
}

/// A link on the command line:
/// `NAME,bind=HOST:PORT,remote=HOST:PORT,bandwidth=RATE|auto,limit=RATE|none,timeout=S|default,`
/// `loss-tolerance=P|default,latency-tolerance=MS|default,fallback`, in any order after the name. `bind=none` and
/// `remote=none` take an address away, `fallback=no` the mark.
public struct LinkSpec: Equatable, Sendable {
    public var name: LinkName
    public var change: LinkChange

    public static let keys = [
        "bind", "remote", "bandwidth", "limit", "timeout", "loss-tolerance", "latency-tolerance", "fallback",
    ]

    public init(name: LinkName, change: LinkChange = LinkChange()) {
        self.name = name
        self.change = change
    }

    public init(_ text: some StringProtocol) throws(DefinitionError) {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        name = try LinkName(String(parts[0]))
        change = LinkChange()
        var seen: Set<String> = []
        for part in parts.dropFirst() {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let key = String(pair[0].map { $0 == "_" ? "-" : $0 })
            do throws(DefinitionError) {
                guard Self.keys.contains(key) else { throw Self.unknown(key, part.isEmpty) }
                guard seen.insert(key).inserted else { throw DefinitionError(key, "is given twice") }
                try change.set(key, to: pair.count == 2 ? String(pair[1]) : nil)
            } catch {
                throw error.within("link \(name)")
            }
        }
    }

    /// The link that `change` makes of a new one.
    public var definition: LinkDefinition {
        var link = LinkDefinition(name: name)
        change.apply(to: &link)
        return link
    }

    private static func unknown(_ key: String, _ isEmpty: Bool) -> DefinitionError {
        let known = keys.joined(separator: ", ")
        return DefinitionError(
            "",
            isEmpty
                ? "there is nothing after a comma; the keys are \(known)"
                : "\(quoted(key)) is no key of a link; the keys are \(known)")
    }
}

extension LinkChange {
    /// Sets the field called `key` (one of ``LinkSpec/keys``) to what `text` says; nil: the key stands alone.
    public mutating func set(_ key: String, to text: String?) throws(DefinitionError) {
        if key == "fallback" {
            fallback = .set(try Self.parseSwitch(text ?? "yes", field: key))
            return
        }
        guard let text, !text.isEmpty else { throw DefinitionError(key, "has no value; write \(key)=VALUE") }
        switch key {
        case "bind": bind = text == "none" ? .clear : .set(try BindAddress(text, field: key))
        case "remote": remote = text == "none" ? .clear : .set(try HostPort(text, field: key))
        case "bandwidth":
            bandwidth = text == "auto" ? .set(.auto) : .set(.bytesPerSecond(try Rate.parse(text, field: key)))
        case "limit": limit = text == "none" ? .clear : .set(try LinkDefinition.parseLimit(text, field: key))
        case "timeout": timeout = try Self.parseNumber(text, 2...86400, field: key, unit: "seconds")
        case "loss-tolerance": lossTolerance = try Self.parseNumber(text, 0...100, field: key, unit: "percent")
        case "latency-tolerance":
            latencyTolerance = try Self.parseNumber(text, 0...60000, field: key, unit: "milliseconds")
        default:
            throw DefinitionError(key, "is no key of a link; the keys are \(LinkSpec.keys.joined(separator: ", "))")
        }
    }

    private static func parseNumber(
        _ text: String, _ range: ClosedRange<Int>, field: String, unit: String
    ) throws(DefinitionError) -> FieldChange<Int> {
        text == "default"
            ? .clear : .set(try TunnelModel.parseNumber(text, in: range, field: field, hint: "default or \(unit)"))
    }

    static func parseSwitch(_ text: String, field: String) throws(DefinitionError) -> Bool {
        switch text {
        case "yes", "true", "1", "on": return true
        case "no", "false", "0", "off": return false
        default: throw DefinitionError(field, "\(quoted(text)) is neither yes nor no")
        }
    }
}

extension FilterDefinition {
    /// A filter on the command line: `LINK=EXPR`, or `LINK+LINK2=EXPR` (or a comma, as in mlvpn.conf)
    /// for both at once, or for the first that is up where the peer does not drop copies.
    public init(spec text: some StringProtocol) throws(DefinitionError) {
        guard let equals = text.firstIndex(of: "=") else {
            throw DefinitionError("filter", "\(quoted(text)) has no '='; write LINK=EXPRESSION")
        }
        var links: [LinkName] = []
        for part in text[..<equals].split(omittingEmptySubsequences: false, whereSeparator: { $0 == "+" || $0 == "," })
        {
            do throws(DefinitionError) {
                let name = try LinkName(String(part))
                if links.contains(name) { throw DefinitionError("link \(name)", "is named twice") }
                links.append(name)
            } catch {
                throw error.within("filter")
            }
        }
        let expression = trimmingSpace(text[text.index(after: equals)...])
        if expression.isEmpty { throw DefinitionError("filter", "\(quoted(text)) has no expression after its '='") }
        if expression.utf8.count > Self.maximumExpressionBytes {
            throw DefinitionError("filter", "has an expression of more than \(Self.maximumExpressionBytes) bytes")
        }
        self.init(links: links, expression: expression)
    }

    /// As ``init(spec:)`` reads it.
    public var spec: String { "\(links.map(\.text).joined(separator: "+"))=\(expression)" }
}

func trimmingSpace(_ text: some StringProtocol) -> String {
    let start = text.drop { $0.isWhitespace }
    guard let end = start.lastIndex(where: { !$0.isWhitespace }) else { return "" }
    return String(start[...end])
}
