/// A line of `list`.
public struct TunnelSummary: Codable, Equatable, Sendable {
    public var name: String
    public var mode: String
    public var interface: String
    /// `up`, `down` or `disabled`.
    public var state: String
    public var linksUp: Int
    public var links: Int

    enum CodingKeys: String, CodingKey {
        case name, mode, interface, state
        case linksUp = "links_up"
        case links
    }

    public init(name: String, mode: String, interface: String, state: String, linksUp: Int, links: Int) {
        self.name = name
        self.mode = mode
        self.interface = interface
        self.state = state
        self.linksUp = linksUp
        self.links = links
    }
}

/// A tunnel as it runs. Times are ISO 8601 in UTC; what is not known is null.
public struct TunnelStatus: Codable, Equatable, Sendable {
    public var name: String
    public var interface: String
    /// `up` while any link is up, lossy or slow, else `down`, or `disabled`.
    public var state: String
    public var since: String?
    /// Inner bytes: what came out of the tunnel to its device, and what its device gave to it.
    public var rxBytes: UInt64
    public var txBytes: UInt64
    /// What the device does for us: `vnet_hdr`, `tso`, `uso`.
    public var offloads: [String] = []
    /// What keeps it from working, or from working as it was told.
    public var problem: String?
    public var links: [LinkStatus]

    enum CodingKeys: String, CodingKey {
        case name, interface, state, since
        case rxBytes = "rx_bytes"
        case txBytes = "tx_bytes"
        case offloads, problem, links
    }

    public init(
        name: String, interface: String, state: String, since: String?, rxBytes: UInt64, txBytes: UInt64,
        problem: String?, links: [LinkStatus]
    ) {
        self.name = name
        self.interface = interface
        self.state = state
        self.since = since
        self.rxBytes = rxBytes
        self.txBytes = txBytes
        self.problem = problem
        self.links = links
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        try container.encode(interface, forKey: .interface)
        try container.encode(state, forKey: .state)
        try container.encode(since, forKey: .since)
        try container.encode(rxBytes, forKey: .rxBytes)
        try container.encode(txBytes, forKey: .txBytes)
        try container.encode(offloads, forKey: .offloads)
        try container.encode(problem, forKey: .problem)
        try container.encode(links, forKey: .links)
    }
}

/// A link as it runs.
public struct LinkStatus: Codable, Equatable, Sendable {
    public var name: String
    /// `down`, `connecting`, `up`, `lossy` or `slow`.
    public var state: String
    public var since: String?
    public var bind: String?
    public var remote: String?
    /// Where the peer was last heard from.
    public var peer: String?
    /// Smoothed round-trip time.
    public var rttMS: Double?
    /// Of what we receive.
    public var lossPercent: Double
    /// What the link is found able to carry, bits per second.
    public var rateBPS: UInt64?
    /// Outer bytes, over UDP.
    public var rxBytes: UInt64
    public var txBytes: UInt64
    public var lastHeard: String?
    /// What the kernel does for its socket: `gso` (UDP_SEGMENT), `gro` (UDP_GRO).
    public var offloads: [String] = []
    public var problem: String?

    enum CodingKeys: String, CodingKey {
        case name, state, since, bind, remote, peer
        case rttMS = "rtt_ms"
        case lossPercent = "loss_percent"
        case rateBPS = "rate_bps"
        case rxBytes = "rx_bytes"
        case txBytes = "tx_bytes"
        case lastHeard = "last_heard"
        case offloads, problem
    }

    public init(name: String, state: String, bind: String?, remote: String?) {
        self.name = name
        self.state = state
        self.bind = bind
        self.remote = remote
        lossPercent = 0
        rxBytes = 0
        txBytes = 0
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        try container.encode(state, forKey: .state)
        try container.encode(since, forKey: .since)
        try container.encode(bind, forKey: .bind)
        try container.encode(remote, forKey: .remote)
        try container.encode(peer, forKey: .peer)
        try container.encode(rttMS, forKey: .rttMS)
        try container.encode(lossPercent, forKey: .lossPercent)
        try container.encode(rateBPS, forKey: .rateBPS)
        try container.encode(rxBytes, forKey: .rxBytes)
        try container.encode(txBytes, forKey: .txBytes)
        try container.encode(lastHeard, forKey: .lastHeard)
        try container.encode(offloads, forKey: .offloads)
        try container.encode(problem, forKey: .problem)
    }
}
