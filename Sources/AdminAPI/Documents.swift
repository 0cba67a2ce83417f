import TunnelModel

/// What a reload did, or would do.
public struct ReloadReport: Codable, Equatable, Sendable {
    public var added: [String] = []
    public var changed: [String] = []
    public var removed: [String] = []
    public var unchanged: Int = 0
    /// Tunnels whose rows cannot be run; what ran before goes on.
    public var rejected: [Rejection] = []

    public struct Rejection: Codable, Equatable, Sendable {
        public var name: String
        public var problems: [String]

        public init(name: String, problems: [String]) {
            self.name = name
            self.problems = problems
        }
    }

    public init() {}
}

/// What `POST /v1/reload` takes.
public struct ReloadRequest: Codable, Equatable, Sendable {
    /// Nil: all.
    public var tunnels: [String]?
    public var dryRun: Bool?

    enum CodingKeys: String, CodingKey {
        case tunnels
        case dryRun = "dry_run"
    }

    public init(tunnels: [String]? = nil, dryRun: Bool? = nil) {
        self.tunnels = tunnels
        self.dryRun = dryRun
    }
}

/// What `PUT /v1/tunnels/NAME/debug` takes and gives: words such as `rtt`; none switches all off.
public struct DebugTokenList: Codable, Equatable, Sendable {
    public var tokens: [String]
    public init(tokens: [String]) { self.tokens = tokens }
}

/// Rows of a query: `history` and `sql`.
public struct Table: Codable, Equatable, Sendable {
    public var columns: [String]
    public var rows: [[JSONValue]]

    public init(columns: [String], rows: [[JSONValue]]) {
        self.columns = columns
        self.rows = rows
    }

    /// The rows as objects, which is how `--json` gives them. Of columns with one name, the second is called `name:2`.
    public var objects: [[String: JSONValue]] {
        var keys: [String] = []
        for column in columns {
            var key = column
            var number = 2
            while keys.contains(key) {
                key = "\(column):\(number)"
                number += 1
            }
            keys.append(key)
        }
        return rows.map { Dictionary(zip(keys, $0)) { first, _ in first } }
    }
}

/// What `POST /v1/sql` takes.
public struct QueryRequest: Codable, Equatable, Sendable {
    public var sql: String
    public init(sql: String) { self.sql = sql }
}

/// A change of state, as it is streamed by `GET /v1/events`.
public struct StateEvent: Codable, Equatable, Sendable {
    /// ISO 8601, UTC.
    public var at: String
    public var tunnel: String
    /// Nil: the tunnel itself.
    public var link: String?
    public var previous: String
    public var state: String
    public var reason: String
    /// The last authenticated datagram before it, ISO 8601; nil for none.
    public var lastHeard: String?

    enum CodingKeys: String, CodingKey {
        case at, tunnel, link, previous, state, reason
        case lastHeard = "last_heard"
    }

    public init(
        at: String, tunnel: String, link: String?, previous: String, state: String, reason: String, lastHeard: String?
    ) {
        self.at = at
        self.tunnel = tunnel
        self.link = link
        self.previous = previous
        self.state = state
        self.reason = reason
        self.lastHeard = lastHeard
    }

    /// With null for what is not there, as history gives it.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(at, forKey: .at)
        try container.encode(tunnel, forKey: .tunnel)
        try container.encode(link, forKey: .link)
        try container.encode(previous, forKey: .previous)
        try container.encode(state, forKey: .state)
        try container.encode(reason, forKey: .reason)
        try container.encode(lastHeard, forKey: .lastHeard)
    }
}

/// `GET /v1/healthz`.
public struct Health: Codable, Equatable, Sendable {
    /// `ok`, or `degraded` while the engine gives no sign of life.
    public var status: String
    public var engineRunning: Bool
    public var tunnels: Int
    public var version: String

    enum CodingKeys: String, CodingKey {
        case status
        case engineRunning = "engine_running"
        case tunnels, version
    }

    public init(status: String, engineRunning: Bool, tunnels: Int, version: String) {
        self.status = status
        self.engineRunning = engineRunning
        self.tunnels = tunnels
        self.version = version
    }
}

/// `POST /v1/check`.
public struct CheckReport: Codable, Equatable, Sendable {
    /// What is wrong.
    public var problems: [String]
    /// What is worth knowing.
    public var notes: [String]

    public init(problems: [String] = [], notes: [String] = []) {
        self.problems = problems
        self.notes = notes
    }
}

/// The version of this program.
public enum Version {
    public static let text = productVersion
}
