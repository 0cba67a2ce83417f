/// The one vocabulary of link states: command line, API, SQL and metrics.
public enum LinkState: UInt8, Sendable, CaseIterable, BitwiseCopyable {
    case down = 0
    /// A client that sent AUTH, or a server that waits for its peer since its start.
    case connecting = 1
    case up = 2
    /// Up, and losing more than its tolerance.
    case lossy = 3
    /// Up, and slower than its tolerance.
    case slow = 4

    /// Whether the link carries, or could carry, traffic.
    @inlinable public var isUp: Bool { rawValue >= 2 }

    public var word: String {
        switch self {
        case .down: "down"
        case .connecting: "connecting"
        case .up: "up"
        case .lossy: "lossy"
        case .slow: "slow"
        }
    }

    /// MLVPN's sign in process titles.
    public var sign: Character {
        switch self {
        case .down, .connecting: "!"
        case .up: "@"
        case .lossy, .slow: "~"
        }
    }
}

/// Why a link changed its state.
public enum LinkReason: UInt8, Sendable, CaseIterable, BitwiseCopyable {
    case none = 0
    case handshake = 1
    /// No KEEPALIVE for `timeout` seconds.
    case timeout = 2
    /// The peer sent DISCONNECT.
    case peerDisconnect = 3
    /// The definition changed.
    case reconfigured = 4
    /// The concentrator stops.
    case shutdown = 5
    case loss = 6
    case latency = 7
    case recovered = 8
    case resumed = 9

    public var word: String {
        switch self {
        case .none: ""
        case .handshake: "handshake"
        case .timeout: "timeout"
        case .peerDisconnect: "peer disconnected"
        case .reconfigured: "reconfigured"
        case .shutdown: "shutdown"
        case .loss: "loss above tolerance"
        case .latency: "latency above tolerance"
        case .recovered: "recovered"
        case .resumed: "resumed"
        }
    }
}
