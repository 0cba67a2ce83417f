import GRDB
import TunnelModel

import struct Foundation.Data
import class Foundation.JSONEncoder

/// Who changes a definition, and how the audit records it.
public struct Change: Sendable {
    /// The user at the control socket; nil: `via`, or the daemon itself.
    public var uid: UInt32?
    /// What let them in where there is no user: a token's name.
    public var via: String?
    public var action: String
    public var detail: String

    public init(uid: UInt32?, via: String? = nil, action: String, detail: String = "") {
        self.uid = uid
        self.via = via
        self.action = action
        self.detail = detail
    }
}

/// What was changed, when and by whom.
public struct AuditEntry: Equatable, Sendable {
    /// Grows with time.
    public var id: Int64
    /// Milliseconds since 1970.
    public var at: Int64
    public var uid: UInt32?
    public var via: String?
    public var action: String
    public var tunnel: String
    public var detail: String
    /// JSON objects of the fields that changed, before and after; nil where there was nothing.
    public var old: String?
    public var new: String?
}

extension Store {
    /// The latest changes first.
    ///
    /// - Parameter before: only entries with a smaller id.
    public func audit(limit: Int, before: Int64? = nil) throws(StoreError) -> [AuditEntry] {
        try read { db in
            try Row.fetchAll(
                db, sql: "SELECT * FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?",
                arguments: [before ?? .max, limit]
            ).map(AuditEntry.init)
        }
    }

    /// Records what changes no definition by itself.
    public func record(_ change: Change, of tunnel: String) throws(StoreError) {
        let entry = try write { try Self.record(change, tunnel: tunnel, from: nil, to: nil, $0) }
        audited(entry)
    }

    /// Records what was found changed in the database.
    public func record(
        _ change: Change, from old: TunnelDefinition?, to new: TunnelDefinition?
    ) throws(StoreError) {
        let name = (new ?? old)?.name.text ?? ""
        let entry = try write { try Self.record(change, tunnel: name, from: old, to: new, $0) }
        audited(entry)
    }

    static func record(
        _ change: Change, tunnel: String, from old: TunnelDefinition?, to new: TunnelDefinition?, _ db: Database
    ) throws -> AuditEntry {
        let before = old.map(Self.auditFields) ?? [:]
        let after = new.map(Self.auditFields) ?? [:]
        let hasNewPassword = old != nil && new != nil && old?.password != new?.password
        func changed(_ fields: [String: String], from others: [String: String]) throws -> String? {
            var differing = fields.filter { others[$0.key] != $0.value }
            if hasNewPassword { differing["password"] = "********" }
            if differing.isEmpty { return nil }
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            return String(decoding: try encoder.encode(differing), as: UTF8.self)
        }
        var entry = AuditEntry(
            id: 0, at: wallClockMilliseconds(), uid: change.uid, via: change.via, action: change.action, tunnel: tunnel,
            detail: change.detail, old: try changed(before, from: after), new: try changed(after, from: before))
        try db.execute(
            sql: "INSERT INTO audit (at, uid, via, action, tunnel, detail, old, new) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            arguments: [
                entry.at, entry.uid.map { Int64($0) }, entry.via, entry.action, entry.tunnel, entry.detail, entry.old,
                entry.new,
            ])
        entry.id = db.lastInsertedRowID
        return entry
    }

    /// Every field that has a value, as text; the password is none of them.
    private static func auditFields(_ tunnel: TunnelDefinition) -> [String: String] {
        var fields: [String: String] = [:]
        for (column, value) in zip(columns, values(tunnel)) {
            guard let value = value?.databaseValue, !value.isNull else { continue }
            fields[column] = String.fromDatabaseValue(value) ?? Int64.fromDatabaseValue(value).map { "\($0)" }
        }
        if !tunnel.routes.isEmpty { fields["route"] = tunnel.routes.map(\.description).joined(separator: " ") }
        for link in tunnel.links { fields["link \(link.name)"] = auditText(link) }
        for (index, filter) in tunnel.filters.enumerated() {
            let links = filter.links.map(\.text).joined(separator: "+")
            fields["filter \(index + 1)"] = "\(links)=\(filter.expression)"
        }
        return fields
    }

    /// As add-link takes it.
    private static func auditText(_ link: LinkDefinition) -> String {
        var parts = [link.name.text]
        func add(_ key: String, _ value: (some CustomStringConvertible)?) {
            if let value { parts.append("\(key)=\(value)") }
        }
        add("bind", link.bind == BindAddress() ? nil : link.bind)
        add("remote", link.remote)
        add("bandwidth", link.bandwidth)
        add("limit", link.limit)
        add("timeout", link.timeout)
        add("loss-tolerance", link.lossTolerance)
        add("latency-tolerance", link.latencyTolerance)
        if link.fallback { parts.append("fallback") }
        return parts.joined(separator: ",")
    }
}

extension AuditEntry {
    fileprivate init(_ row: Row) {
        self.init(
            id: row["id"], at: row["at"], uid: (row["uid"] as Int64?).flatMap { UInt32(exactly: $0) },
            via: row["via"], action: row["action"], tunnel: row["tunnel"], detail: row["detail"], old: row["old"],
            new: row["new"])
    }
}
