import GRDB

/// A change of state as history has it.
public struct RecordedChange: Equatable, Sendable {
    /// Grows as they are recorded.
    public var id: Int64
    /// Milliseconds since 1970.
    public var at: Int64
    public var tunnel: String
    /// Nil: the tunnel itself.
    public var link: String?
    public var previous: String
    public var state: String
    public var reason: String
    /// The last authenticated datagram before it; nil for none.
    public var lastHeard: Int64?
}

extension Store {
    /// The number of the latest change; 0 without one.
    public func latestChange() throws(StoreError) -> Int64 {
        try read { try Int64.fetchOne($0, sql: "SELECT max(id) FROM state_changes") ?? 0 }
    }

    /// The latest changes, as they were recorded; those after `id` alone.
    public func changes(
        after id: Int64 = 0, of tunnel: String? = nil, link: String? = nil, limit: Int
    ) throws(StoreError) -> [RecordedChange] {
        try read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT state_changes.id, at, tunnel, nullif(link, '') AS link, previous, state, reason, last_heard
                    FROM state_changes JOIN series ON series.id = series_id
                    WHERE state_changes.id > :id AND (:tunnel IS NULL OR tunnel = :tunnel)
                        AND (:link IS NULL OR series.link = :link)
                    ORDER BY state_changes.id DESC LIMIT :limit
                    """,
                arguments: ["id": id, "tunnel": tunnel, "link": link, "limit": limit]
            ).reversed().map {
                RecordedChange(
                    id: $0["id"], at: $0["at"], tunnel: $0["tunnel"], link: $0["link"], previous: $0["previous"],
                    state: $0["state"], reason: $0["reason"], lastHeard: $0["last_heard"])
            }
        }
    }
}
