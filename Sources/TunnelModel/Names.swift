/// The name of a tunnel: what the operator calls the customer.
///
/// 1 to 64 bytes of ASCII letters, digits, `.`, `_` and `-`, starting with a letter or digit: it appears in `ps`, logs,
/// file names, labels and script arguments.
public struct TunnelName: Hashable, Sendable, CustomStringConvertible, Comparable {
    public let text: String

    public init(_ text: String) throws(DefinitionError) {
        try checkName(text, field: "tunnel name")
        self.text = text
    }

    public var description: String { text }
    public static func < (a: TunnelName, b: TunnelName) -> Bool { a.text < b.text }
}

/// The name of a link, unique in its tunnel: `adsl1`. The same alphabet as ``TunnelName``.
public struct LinkName: Hashable, Sendable, CustomStringConvertible, Comparable {
    public let text: String

    public init(_ text: String) throws(DefinitionError) {
        try checkName(text, field: "link name")
        self.text = text
    }

    public var description: String { text }
    public static func < (a: LinkName, b: LinkName) -> Bool { a.text < b.text }
}

/// A name that stock takes, with what we do not take replaced.
public func tamedName(_ text: String) -> String {
    var name = text.utf8.prefix(63).map { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), 0x30...0x39,
            UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
            byte
        default: UInt8(ascii: "_")
        }
    }
    if let first = name.first, [".", "_", "-"].contains(Character(Unicode.Scalar(first))) {
        name.insert(UInt8(ascii: "l"), at: 0)
    }
    return String(decoding: name, as: UTF8.self)
}

private func checkName(_ text: String, field: String) throws(DefinitionError) {
    if text.isEmpty { throw DefinitionError(field, "is empty; give 1 to 64 letters, digits, '.', '_' or '-'") }
    if text.utf8.count > 64 { throw DefinitionError(field, "\(quoted(text)) is longer than 64 bytes") }
    for (index, byte) in text.utf8.enumerated() where !isNameByte(byte, first: index == 0) {
        throw DefinitionError(
            field, "\(quoted(text)) may hold only letters, digits, '.', '_' and '-', and starts with a letter or digit")
    }
}

private func isNameByte(_ byte: UInt8, first: Bool) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        return true
    case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"): return !first
    default: return false
    }
}

/// A network device's name: 1 to 15 bytes, as the kernel accepts (`dev_valid_name`), printable ASCII without `%`.
public struct InterfaceName: Hashable, Sendable, CustomStringConvertible {
    public static let maximumBytes = 15
    public let text: String

    public init(_ text: String) throws(DefinitionError) {
        let field = "interface"
        if text.isEmpty { throw DefinitionError(field, "is empty; give 1 to 15 bytes, such as ml0") }
        if text.utf8.count > Self.maximumBytes {
            throw DefinitionError(field, "\(quoted(text)) is longer than the kernel's limit of 15 bytes")
        }
        if text == "." || text == ".." { throw DefinitionError(field, "\(quoted(text)) is no device name") }
        for byte in text.utf8
        where byte <= 0x20 || byte >= 0x7f || byte == UInt8(ascii: "/") || byte == UInt8(ascii: ":")
            || byte == UInt8(ascii: "%")
        {
            throw DefinitionError(field, "\(quoted(text)) may not hold spaces, '/', ':', '%' or non-ASCII bytes")
        }
        self.text = text
    }

    /// `ml` and the tunnel's name, cut to 15 bytes and made unique among `taken`.
    public static func automatic(for tunnel: TunnelName, taken: Set<String>) -> InterfaceName {
        let base = String(("ml" + tunnel.text).prefix(maximumBytes))
        if !taken.contains(base) { return InterfaceName(checked: base) }
        var number = 2
        while true {
            let suffix = "~\(number)"
            let candidate = String(base.prefix(maximumBytes - suffix.utf8.count)) + suffix
            if !taken.contains(candidate) { return InterfaceName(checked: candidate) }
            number += 1
        }
    }

    private init(checked: String) { text = checked }
    public var description: String { text }
}

/// A tunnel's shared secret. Never printed: its description is a mask.
public struct Password: Equatable, Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The bytes that the key is derived from (wire-v1.md, Crypto).
    public let bytes: [UInt8]

    public init(_ bytes: [UInt8]) throws(DefinitionError) {
        if bytes.isEmpty { throw DefinitionError("password", "is empty; give at least one byte") }
        if bytes.count > 1024 { throw DefinitionError("password", "is longer than 1024 bytes") }
        if bytes.contains(where: { $0 == 0 || $0 == 10 || $0 == 13 }) {
            throw DefinitionError("password", "holds a line break or NUL byte; mlvpn.conf cannot carry it")
        }
        self.bytes = bytes
    }

    public var description: String { "********" }
    public var debugDescription: String { "********" }
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}
