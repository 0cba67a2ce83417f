/// One customer: a TUN or TAP device and its links, as validated as one definition can be.
///
/// What needs other definitions (unique names, interfaces and ports) is checked by ``conflicts(in:)``.
public struct TunnelDefinition: Equatable, Sendable {
    public var name: TunnelName
    public var mode: TunnelMode
    public var interface: InterfaceName
    public var device: DeviceKind = .tun
    public var password: Password
    public var enabled = true

    public var ip4: CIDR?
    public var ip6: CIDR?
    public var gateway4: IPAddress?
    public var gateway6: IPAddress?
    /// IPv4 and IPv6, in the order given.
    public var routes: [CIDR] = []
    /// Inner MTU in bytes; nil: what the links' address family allows.
    public var mtu: Int?

    /// Seconds without KEEPALIVE before a link is down; a link may have its own.
    public var timeout = Self.defaultTimeout
    public var reorder: ReorderBuffer = .auto
    /// Percent; 100 is off.
    public var lossTolerance = 100
    /// Milliseconds of smoothed round-trip time; 1000 is off.
    public var latencyTolerance = 1000
    public var scheduler: Scheduler = .adaptive
    public var cleartextData = false
    /// Clamp the MSS option of TCP SYN segments to what fits the tunnel.
    public var clampMSS = true
    /// Segmentation and coalescing offloads on the device and on the links' sockets.
    public var offloads = OffloadSwitches()

    /// Absolute path of the script run on events.
    public var statusCommand: String?
    public var monitoring = Monitoring()

    public var links: [LinkDefinition] = []
    /// In order; the first match among links that are up wins.
    public var filters: [FilterDefinition] = []

    public static let defaultTimeout = 30

    public init(
        name: TunnelName, mode: TunnelMode, interface: InterfaceName, device: DeviceKind = .tun, password: Password
    ) {
        self.name = name
        self.mode = mode
        self.interface = interface
        self.device = device
        self.password = password
    }

    public func timeout(of link: LinkDefinition) -> Int { link.timeout ?? timeout }
    public func lossTolerance(of link: LinkDefinition) -> Int { link.lossTolerance ?? lossTolerance }
    public func latencyTolerance(of link: LinkDefinition) -> Int { link.latencyTolerance ?? latencyTolerance }

    /// The inner MTU that is used: the one defined, or the largest that fits 1500-byte paths of the links' family
    /// (28 header, 16 MAC, 8 UDP, 20 or 40 IP), less an Ethernet header for TAP, and within what a stock peer reads.
    public var effectiveMTU: Int {
        if let mtu { return mtu }
        // A name may lead anywhere, unless the socket's own address decides.
        let overIPv6 = links.contains { link in
            switch (link.bind.host, link.remote?.host) {
            case (.address(.v4), _): false
            case (.address(.v6), _), (_, .address(.v6)): true
            case (.name, _), (nil, .name): true
            case (nil, _): false
            }
        }
        let tunMTU = overIPv6 ? 1408 : 1428
        return device == .tap ? min(tunMTU - 14, 1430) : tunMTU
    }
}

public enum TunnelMode: String, Sendable, CaseIterable { case server, client }

public enum DeviceKind: String, Sendable, CaseIterable {
    /// IP packets.
    case tun
    /// Ethernet frames.
    case tap
}

public enum Scheduler: String, Sendable, CaseIterable {
    /// Weighted round robin, as stock.
    case wrr
    /// Rate-proportional or earliest-delivery, by what is measured.
    case adaptive
    /// Each packet on every link; the receiver drops copies.
    case redundant
    /// One link, then the next.
    case failover
}

public enum ReorderBuffer: Hashable, Sendable, CustomStringConvertible {
    case off
    /// Sized by what is measured.
    case auto
    /// At most this many packets are held.
    case packets(Int)

    /// `auto`, `off`, or a number of packets from 0 (off) to 65536.
    public init(_ text: some StringProtocol, field: String) throws(DefinitionError) {
        switch String(text) {
        case "auto": self = .auto
        case "off": self = .off
        default:
            let count = try parseNumber(text, in: 0...65536, field: field, hint: "auto, off or a number of packets")
            self = count == 0 ? .off : .packets(count)
        }
    }

    public var description: String {
        switch self {
        case .off: "off"
        case .auto: "auto"
        case .packets(let count): "\(count)"
        }
    }
}

/// Which offloads may be used; each is probed, so true means "where the system has it".
public struct OffloadSwitches: Hashable, Sendable {
    /// TSO and USO of the TUN device (vnet_hdr).
    public var device = true
    /// UDP_SEGMENT on send.
    public var udpSegment = true
    /// UDP_GRO on receive.
    public var udpGRO = true

    public init(device: Bool = true, udpSegment: Bool = true, udpGRO: Bool = true) {
        self.device = device
        self.udpSegment = udpSegment
        self.udpGRO = udpGRO
    }
}

/// MLVPN's monitoring sockets of one tunnel (mlvpn(8), Monitoring).
public struct Monitoring: Hashable, Sendable {
    public var unixPath: String?
    public var bindHost: Host?
    public var bindPort: UInt16?

    public init(unixPath: String? = nil, bindHost: Host? = nil, bindPort: UInt16? = nil) {
        self.unixPath = unixPath
        self.bindHost = bindHost
        self.bindPort = bindPort
    }

    public var isWanted: Bool { unixPath != nil || bindPort != nil }

    /// Where it listens when there is only a port.
    public static let standardHost = Host.address(.v4(0x7f00_0001))

    /// Nil without a port.
    var listensOn: BindAddress? { bindPort.map { BindAddress(host: bindHost ?? Self.standardHost, port: $0) } }
}

/// One UDP path of a tunnel.
public struct LinkDefinition: Equatable, Sendable {
    public var name: LinkName
    public var bind = BindAddress()
    /// Mandatory for a client; a server that has it accepts its peer from anywhere all the same.
    public var remote: HostPort?
    public var bandwidth: Bandwidth = .auto
    /// Bytes per second; shapes what is sent.
    public var limit: UInt64?
    /// Seconds; nil: the tunnel's.
    public var timeout: Int?
    /// Percent; nil: the tunnel's.
    public var lossTolerance: Int?
    /// Milliseconds; nil: the tunnel's.
    public var latencyTolerance: Int?
    /// Serves only when no other link can.
    public var fallback = false

    public init(name: LinkName) { self.name = name }
}

/// A link's weight and first guess of its capacity; never a throttle.
public enum Bandwidth: Hashable, Sendable, CustomStringConvertible {
    case auto
    /// More than 0.
    case bytesPerSecond(UInt64)

    public var description: String {
        switch self {
        case .auto: "auto"
        case .bytesPerSecond(let rate): "\(rate)"
        }
    }
}

/// Packets that match `expression` (pcap-filter(7)) go over all of `links` that are up, where the peer drops copies, and
/// else over the first of them that is up.
public struct FilterDefinition: Hashable, Sendable {
    public var links: [LinkName]
    public var expression: String

    public static let maximumExpressionBytes = 4096

    public init(links: [LinkName], expression: String) {
        self.links = links
        self.expression = expression
    }
}

/// A decimal number in a range, or an error that says what was expected.
public func parseNumber(
    _ text: some StringProtocol, in range: ClosedRange<Int>, field: String, hint: String = ""
) throws(DefinitionError) -> Int {
    let digits = text.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 }
    guard digits, !text.isEmpty, let number = Int(text), range.contains(number) else {
        let expected = hint.isEmpty ? "a number" : hint
        throw DefinitionError(
            field, "\(quoted(text)) is not \(expected) from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
}
