import Glibc

/// An IPv4 or IPv6 address, in network byte order.
public enum IPAddress: Hashable, Sendable, CustomStringConvertible {
    /// Most significant byte first.
    case v4(UInt32)
    /// Most significant half first.
    case v6(UInt64, UInt64)

    /// `192.0.2.1` or `2001:db8::1`, as inet_pton(3) reads them.
    public init?(_ text: some StringProtocol) {
        let text = String(text)
        if text.utf8.contains(0) { return nil }
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            self = .v4(UInt32(bigEndian: four.s_addr))
            return
        }
        var six = in6_addr()
        if inet_pton(AF_INET6, text, &six) == 1 {
            self = withUnsafeBytes(of: &six) {
                .v6(
                    UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
                    UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
            }
            return
        }
        return nil
    }

    public var isIPv6: Bool { if case .v6 = self { true } else { false } }
    /// 32 or 128.
    public var bitWidth: Int { isIPv6 ? 128 : 32 }
    /// 4 or 16 bytes, network byte order.
    public var bytes: [UInt8] {
        switch self {
        case .v4(let value): withUnsafeBytes(of: value.bigEndian, Array.init)
        case .v6(let high, let low): withUnsafeBytes(of: (high.bigEndian, low.bigEndian), Array.init)
        }
    }

    public var isMulticast: Bool {
        switch self {
        case .v4(let value): value >> 28 == 0xe
        case .v6(let high, _): high >> 56 == 0xff
        }
    }

    /// All zero bits: the wildcard.
    public var isUnspecified: Bool { self == .v4(0) || self == .v6(0, 0) }

    public var description: String {
        var buffer = [CChar](repeating: 0, count: 46)
        let family = isIPv6 ? AF_INET6 : AF_INET
        _ = bytes.withUnsafeBytes { inet_ntop(family, $0.baseAddress, &buffer, 46) }
        return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

/// An address with a prefix length, `10.0.0.1/30`; without a slash, one host.
public struct CIDR: Hashable, Sendable, CustomStringConvertible {
    public var address: IPAddress
    public var prefixLength: Int

    public init(_ text: some StringProtocol, field: String) throws(DefinitionError) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = IPAddress(parts[0]) else {
            throw DefinitionError(field, "\(quoted(text)) is no address; write it as 10.0.0.1/30 or 2001:db8::1/64")
        }
        self.address = address
        guard parts.count == 2 else {
            prefixLength = address.bitWidth
            return
        }
        guard parts[1].utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let length = Int(parts[1]),
            length <= address.bitWidth
        else {
            throw DefinitionError(
                field, "\(quoted(text)) has no prefix length from 0 to \(address.bitWidth) after its slash")
        }
        prefixLength = length
    }

    public var description: String { "\(address)/\(prefixLength)" }

    /// The same network with its host bits zero, as a route needs it.
    public var network: CIDR {
        var copy = self
        switch address {
        case .v4(let value):
            let mask: UInt32 = prefixLength == 0 ? 0 : ~UInt32(0) << (32 - UInt32(prefixLength))
            copy.address = .v4(value & mask)
        case .v6(let high, let low):
            let highMask: UInt64 = prefixLength == 0 ? 0 : ~UInt64(0) << UInt64(64 - min(64, prefixLength))
            let lowMask: UInt64 = prefixLength <= 64 ? 0 : ~UInt64(0) << UInt64(128 - prefixLength)
            copy.address = .v6(high & highMask, low & lowMask)
        }
        return copy
    }
}

/// A host as an operator writes it: an address, or a name that the helper resolves.
public enum Host: Hashable, Sendable, CustomStringConvertible {
    case address(IPAddress)
    case name(String)

    public init(_ text: some StringProtocol, field: String) throws(DefinitionError) {
        if let address = IPAddress(text) {
            self = .address(address)
            return
        }
        let text = String(text)
        let isName =
            !text.isEmpty && text.utf8.count <= 253
            && text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
                    true
                default: false
                }
            } && !text.hasPrefix("-")
        guard isName else { throw DefinitionError(field, "\(quoted(text)) is neither an address nor a host name") }
        // Digits and dots only is an address with a mistake in it, never a name to ask the resolver for.
        if text.utf8.allSatisfy({ $0 == UInt8(ascii: ".") || ($0 >= 0x30 && $0 <= 0x39) }) {
            throw DefinitionError(field, "\(quoted(text)) is no valid IPv4 address")
        }
        self = .name(text)
    }

    public var description: String {
        switch self {
        case .address(let address): address.description
        case .name(let name): name
        }
    }
}

/// A host and a UDP port.
public struct HostPort: Hashable, Sendable, CustomStringConvertible {
    public var host: Host
    public var port: UInt16

    public init(host: Host, port: UInt16) {
        self.host = host
        self.port = port
    }

    /// `HOST:PORT` or `[V6]:PORT`.
    public init(_ text: some StringProtocol, field: String) throws(DefinitionError) {
        let (host, port) = try Self.split(text, field: field)
        guard !host.isEmpty else { throw DefinitionError(field, "\(quoted(text)) has no host; write HOST:PORT") }
        self.host = try Host(host, field: field)
        self.port = try parsePort(port, field: field)
    }

    public var description: String {
        if case .address(.v6) = host { "[\(host)]:\(port)" } else { "\(host):\(port)" }
    }

    static func split(
        _ text: some StringProtocol, field: String
    ) throws(DefinitionError) -> (host: Substring, port: Substring) {
        let text = Substring(text)
        if text.hasPrefix("["), let close = text.firstIndex(of: "]") {
            let rest = text[text.index(after: close)...]
            guard rest.hasPrefix(":") else {
                throw DefinitionError(field, "\(quoted(text)) has no port; write [V6]:PORT")
            }
            return (text[text.index(after: text.startIndex)..<close], rest.dropFirst())
        }
        guard let colon = text.lastIndex(of: ":") else {
            throw DefinitionError(field, "\(quoted(text)) has no port; write HOST:PORT")
        }
        let host = text[..<colon]
        if host.contains(":") {
            throw DefinitionError(field, "\(quoted(text)): write an IPv6 address in brackets, [V6]:PORT")
        }
        return (host, text[text.index(after: colon)...])
    }
}

/// Where a link's socket is bound. No host: the wildcard. No port: one that the kernel chooses (client only).
public struct BindAddress: Hashable, Sendable, CustomStringConvertible {
    public var host: Host?
    public var port: UInt16?

    public init(host: Host? = nil, port: UInt16? = nil) {
        self.host = host
        self.port = port
    }

    /// `HOST:PORT`, `[V6]:PORT`, `:PORT` for the wildcard, or a bare `HOST` for a port of the kernel's choice.
    public init(_ text: some StringProtocol, field: String) throws(DefinitionError) {
        if IPAddress(text) != nil || (!text.isEmpty && !text.contains(":")) {
            host = try Host(text, field: field)
            return
        }
        let (hostText, portText) = try HostPort.split(text, field: field)
        host = hostText.isEmpty || hostText == "*" ? nil : try Host(hostText, field: field)
        port = try parsePort(portText, field: field)
    }

    public var description: String {
        guard let port else { return host?.description ?? "" }
        guard let host else { return ":\(port)" }
        return HostPort(host: host, port: port).description
    }
}

/// 1 to 65535.
public func parsePort(_ text: some StringProtocol, field: String) throws(DefinitionError) -> UInt16 {
    guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let port = UInt16(text), port != 0 else {
        throw DefinitionError(field, "\(quoted(text)) is no port from 1 to 65535")
    }
    return port
}

extension IPAddress {
    /// From 4 or 16 bytes in network byte order; nil for another count.
    public init?(networkBytes bytes: some Collection<UInt8>) {
        func word(_ bytes: some Collection<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
        switch bytes.count {
        case 4: self = .v4(UInt32(word(bytes)))
        case 16: self = .v6(word(bytes.prefix(8)), word(bytes.dropFirst(8)))
        default: return nil
        }
    }
}
