import GRDB
import TunnelModel

extension Store {
    /// Every tunnel that can be run. One that cannot is told of and keeps no other from loading.
    ///
    /// Of tunnels that cannot be together (an interface or a port in common), one that runs as it is defined is kept before
    /// one that was changed, and then the older one.
    ///
    /// - Parameter running: what runs, by id.
    public func definitions(running: [Int64: TunnelDefinition] = [:]) throws(StoreError) -> LoadedDefinitions {
        var loaded = try read { try DefinitionRows($0).load() }
        var kept = ConflictIndex()
        func rank(_ tunnel: StoredTunnel) -> Int { running[tunnel.id] == tunnel.definition ? 0 : 1 }
        loaded.tunnels.sort { (rank($0), $0.id) < (rank($1), $1.id) }
        var tunnels: [StoredTunnel] = []
        for tunnel in loaded.tunnels {
            let conflicts = kept.conflicts(of: tunnel.definition)
            if conflicts.isEmpty {
                kept.insert(tunnel.definition)
                tunnels.append(tunnel)
            } else {
                loaded.rejected.append(
                    RejectedTunnel(id: tunnel.id, name: tunnel.definition.name.text, problems: conflicts))
            }
        }
        loaded.tunnels = tunnels.sorted { $0.definition.name < $1.definition.name }
        return loaded
    }

    /// One tunnel, valid or not told of: throws what is wrong with its rows.
    public func tunnel(named name: String) throws(StoreError) -> StoredTunnel {
        try read { try Self.tunnel(named: name, expectedVersion: nil, $0) }
    }

    /// Raises a tunnel's version above `floor`, for one that came back from a backup with a lower one.
    public func raiseVersion(of id: Int64, above floor: Int64) throws(StoreError) -> Int64 {
        try write { db in
            try db.execute(
                sql: "UPDATE tunnels SET version = ? WHERE id = ? AND version <= ?", arguments: [floor + 1, id, floor])
            return try Self.version(of: id, db)
        }
    }

    /// Stores a new tunnel.
    @discardableResult
    public func add(_ definition: TunnelDefinition, by change: Change) throws(StoreError) -> StoredTunnel {
        let (stored, entry) = try write { db in
            try Self.check(definition, besides: nil, db)
            try Self.insertTunnel(definition, db)
            let id = db.lastInsertedRowID
            try Self.replaceParts(of: id, definition, db)
            let entry = try Self.record(change, tunnel: definition.name.text, from: nil, to: definition, db)
            return (StoredTunnel(id: id, version: try Self.version(of: id, db), definition: definition), entry)
        }
        audited(entry)
        return stored
    }

    /// Changes a tunnel: reads it, lets `edit` change it, and stores it, in one transaction.
    ///
    /// - Parameter expectedVersion: nil, or the only version that may be changed.
    public func change(
        _ name: String, expectedVersion: Int64? = nil, by change: Change,
        _ edit: (inout TunnelDefinition) throws -> Void
    ) throws(StoreError) -> StoredTunnel {
        let (stored, entry) = try write { db -> (StoredTunnel, AuditEntry?) in
            let placeholder = try Password((0..<32).map { _ in UInt8.random(in: 33...126) })
            var tunnel = try Self.tunnel(
                named: name, expectedVersion: expectedVersion, missingPassword: placeholder, db)
            let before = tunnel.definition
            try edit(&tunnel.definition)
            if tunnel.definition.password == placeholder { _ = try Self.tunnel(named: name, expectedVersion: nil, db) }
            let rename = {
                try Self.renameSeries(of: tunnel.id, from: before.name.text, to: tunnel.definition.name.text, db)
            }
            if tunnel.definition == before {
                try rename()
                return (tunnel, nil)
            }
            try Self.check(tunnel.definition, besides: tunnel.id, db)
            try Self.updateTunnel(tunnel.id, tunnel.definition, db)
            try Self.replaceParts(of: tunnel.id, tunnel.definition, db)
            try rename()
            let entry = try Self.record(
                change, tunnel: tunnel.definition.name.text, from: before, to: tunnel.definition, db)
            tunnel.version = try Self.version(of: tunnel.id, db)
            return (tunnel, entry)
        }
        if let entry { audited(entry) }
        return stored
    }

    /// Removes a tunnel, whether or not it could be run. Its history stays.
    @discardableResult
    public func remove(
        _ name: String, expectedVersion: Int64? = nil, by change: Change
    ) throws(StoreError) -> Int64 {
        let (id, entry) = try write { db in
            let row = try Row.fetchOne(db, sql: "SELECT id, version FROM tunnels WHERE name = ?", arguments: [name])
            guard let row else { throw StoreError.noSuchTunnel(name) }
            let version: Int64 = row["version"]
            if let expectedVersion, expectedVersion != version {
                throw StoreError.conflict(tunnel: name, expected: expectedVersion, found: version)
            }
            let id: Int64 = row["id"]
            let definition = try DefinitionRows(db, id: id).load().tunnels.first?.definition
            try db.execute(sql: "DELETE FROM tunnels WHERE id = ?", arguments: [id])
            try Self.retireTunnel(name, at: wallClockMilliseconds(), db)
            return (id, try Self.record(change, tunnel: name, from: definition, to: nil, db))
        }
        audited(entry)
        return id
    }

    /// Tunnels were renamed with SQL: their history follows.
    public func renameHistory(_ renames: [(from: String, to: String)]) throws(StoreError) {
        try write { try Self.renameSeries(renames, at: wallClockMilliseconds(), $0) }
    }

    /// What would keep `definition` from being stored; `id` is its own, if it has one.
    public func problems(of definition: TunnelDefinition, besides id: Int64? = nil) throws(StoreError)
        -> [DefinitionError]
    {
        do {
            try read { db in try Self.check(definition, besides: id, db) }
            return []
        } catch .refused(let problems) {
            return problems
        }
    }

    /// Whether any tunnel has filters.
    public func hasFilters() throws(StoreError) -> Bool {
        try read { try Bool.fetchOne($0, sql: "SELECT EXISTS (SELECT 1 FROM filters)") ?? false }
    }

    /// The interfaces that tunnels use.
    public func interfaces() throws(StoreError) -> Set<String> {
        try read { try String.fetchSet($0, sql: "SELECT interface FROM tunnels") }
    }

    /// - Parameter missingPassword: what stands for a password that is not there, or none: for a change that gives one.
    private static func tunnel(
        named name: String, expectedVersion: Int64?, missingPassword: Password? = nil, _ db: Database
    ) throws -> StoredTunnel {
        let id = try Int64.fetchOne(db, sql: "SELECT id FROM tunnels WHERE name = ?", arguments: [name])
        guard let id else { throw StoreError.noSuchTunnel(name) }
        let loaded = try DefinitionRows(db, id: id).load(missingPassword: missingPassword)
        if let rejected = loaded.rejected.first {
            throw StoreError.refused(rejected.problems.map { $0.within("the database") })
        }
        guard let tunnel = loaded.tunnels.first else { throw StoreError.noSuchTunnel(name) }
        if let expectedVersion, expectedVersion != tunnel.version {
            throw StoreError.conflict(tunnel: name, expected: expectedVersion, found: tunnel.version)
        }
        return tunnel
    }

    /// Throws everything that is wrong with the definition, alone and beside the others.
    private static func check(_ definition: TunnelDefinition, besides id: Int64?, _ db: Database) throws {
        var problems = definition.problems
        for rival in try rivals(of: definition, db) where rival != id {
            let other = try DefinitionRows(db, id: rival).load()
            problems += definition.conflicts(with: other.tunnels.map(\.definition))
            for other in other.rejected where other.name == definition.name.text {
                problems.append(DefinitionError("name", "tunnel \(other.name) exists already"))
            }
        }
        if !problems.isEmpty { throw StoreError.refused(problems) }
    }

    /// The tunnels that a definition may not be possible beside, by name: only these are read, so that a tunnel among
    /// thousands costs no more than one among few.
    private static func rivals(of definition: TunnelDefinition, _ db: Database) throws -> [Int64] {
        let ports = Set(definition.links.compactMap(\.bind.port)).sorted()
        let marks = ports.map { _ in "?" }.joined(separator: ", ")
        var arguments: StatementArguments = [definition.name.text, definition.interface.text]
        arguments += StatementArguments(ports.map { Int64($0) })
        var monitored = ""
        if let path = definition.monitoring.unixPath {
            monitored += " UNION SELECT id FROM tunnels WHERE control_unix_path = ?"
            arguments += [path]
        }
        if let port = definition.monitoring.bindPort {
            monitored += " UNION SELECT id FROM tunnels WHERE control_bind_port = ?"
            arguments += [Int64(port)]
        }
        return try Int64.fetchAll(
            db,
            sql: """
                SELECT id FROM tunnels WHERE id IN (
                    SELECT id FROM tunnels WHERE name = ?
                    UNION SELECT id FROM tunnels WHERE interface = ?
                    UNION SELECT tunnel_id FROM links WHERE bind_port IN (\(marks))\(monitored))
                ORDER BY name
                """, arguments: arguments)
    }

    private static func version(of id: Int64, _ db: Database) throws -> Int64 {
        try Int64.fetchOne(db, sql: "SELECT version FROM tunnels WHERE id = ?", arguments: [id]) ?? 0
    }
}

/// What tunnels cannot share, for finding conflicts among thousands without comparing each with each.
private struct ConflictIndex {
    private var interfaces: [InterfaceName: TunnelName] = [:]
    private var byPort: [UInt16: [TunnelDefinition]] = [:]
    private var byMonitoringPath: [String: TunnelDefinition] = [:]
    private var byMonitoringPort: [UInt16: [TunnelDefinition]] = [:]

    mutating func insert(_ tunnel: TunnelDefinition) {
        interfaces[tunnel.interface] = tunnel.name
        for port in Set(tunnel.links.compactMap(\.bind.port)) { byPort[port, default: []].append(tunnel) }
        if let path = tunnel.monitoring.unixPath { byMonitoringPath[path] = tunnel }
        if let port = tunnel.monitoring.bindPort { byMonitoringPort[port, default: []].append(tunnel) }
    }

    func conflicts(of tunnel: TunnelDefinition) -> [DefinitionError] {
        var found: [DefinitionError] = []
        if let other = interfaces[tunnel.interface] {
            found.append(
                DefinitionError("interface", "\(tunnel.interface) is in use by tunnel \(other); choose another"))
        }
        var others = Set(tunnel.links.compactMap(\.bind.port)).flatMap { byPort[$0] ?? [] }
        others += tunnel.monitoring.unixPath.flatMap { byMonitoringPath[$0] }.map { [$0] } ?? []
        others += tunnel.monitoring.bindPort.flatMap { byMonitoringPort[$0] } ?? []
        for other in others where other.interface != tunnel.interface {
            for problem in tunnel.conflicts(with: [other]) where !found.contains(problem) { found.append(problem) }
        }
        return found
    }
}
