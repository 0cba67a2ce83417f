/// An IPv4 or IPv6 address with a UDP port, of fixed layout so that it can live in shared memory.
@frozen
public struct SocketAddress: Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// Most significant 8 bytes; for IPv4, 0.
    public var high: UInt64
    /// Least significant 8 bytes; for IPv4, the address in the low 32 bits.
    public var low: UInt64
    /// IPv6 scope (link-local addresses), else 0.
    public var scope: UInt32
    public var port: UInt16
    /// 4, 6, or 0 for "none".
    public var version: UInt8
    var padding: UInt8 = 0

    public static let none = SocketAddress(high: 0, low: 0, scope: 0, port: 0, version: 0)

    @inlinable
    public init(_ address: IPAddress, port: UInt16, scope: UInt32 = 0) {
        switch address {
        case .v4(let value): self.init(high: 0, low: UInt64(value), scope: 0, port: port, version: 4)
        case .v6(let high, let low): self.init(high: high, low: low, scope: scope, port: port, version: 6)
        }
    }

    @usableFromInline
    init(high: UInt64, low: UInt64, scope: UInt32, port: UInt16, version: UInt8) {
        self.high = high
        self.low = low
        self.scope = scope
        self.port = port
        self.version = version
    }

    public var isNone: Bool { version == 0 }
    public var isIPv6: Bool { version == 6 }

    /// Nil for ``none``.
    public var address: IPAddress? {
        switch version {
        case 4: .v4(UInt32(truncatingIfNeeded: low))
        case 6: .v6(high, low)
        default: nil
        }
    }

    public var description: String {
        guard let address else { return "none" }
        return HostPort(host: .address(address), port: port).description
    }
}
