import GRDB
import Glibc
import TunnelModel

extension Store {
    /// Writes a consistent copy to `file`, which must not exist yet; it is made with mode 0600, for it holds passwords.
    public func backup(to file: String) throws(StoreError) {
        let descriptor = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw .inaccessible(path: file, detail: String(cString: strerror(errno)))
        }
        Glibc.close(descriptor)
        do {
            let copy = try DatabaseQueue(path: file)
            try pool.backup(to: copy)
            // One file, whole in itself, without the -wal and -shm that a reader would make beside it.
            try copy.writeWithoutTransaction { try $0.execute(sql: "PRAGMA journal_mode = DELETE") }
            try copy.close()
        } catch {
            unlink(file)
            throw StoreError(error, path: path)
        }
    }

    /// Puts the content of `file`, a backup, in place of everything. Nothing is changed unless the file is sound.
    public func restore(from file: String) throws(StoreError) {
        try requireInPlace()
        let source: DatabaseQueue
        do { source = try Self.soundBackup(file) } catch { throw StoreError(error, path: file) }
        defer { try? source.close() }
        do {
            try source.backup(to: pool)
            pool.invalidateReadOnlyConnections()
        } catch {
            throw StoreError(error, path: path)
        }
    }

    /// Opens a backup, and brings its schema up to date.
    private static func soundBackup(_ file: String) throws -> DatabaseQueue {
        let source = try DatabaseQueue(path: file)
        let findings = try source.read { try String.fetchAll($0, sql: "PRAGMA integrity_check(5)") }
        guard findings == ["ok"] else {
            throw StoreError.corrupt(path: file, detail: findings.joined(separator: "; "))
        }
        let isOurs = try source.read { db in
            try ["tunnels", "series", "grdb_migrations"].allSatisfy { try db.tableExists($0) }
        }
        guard isOurs else {
            throw StoreError.refused([.init("restore", "the file is a database, but no backup of a concentrator")])
        }
        let migrator = Schema.migrator
        if try source.read(migrator.hasBeenSuperseded) { throw StoreError.newerSchema(path: file) }
        try migrator.migrate(source)
        try source.write(Schema.installViews)
        return source
    }

    /// Writes a little: what keeps everything from being written shows only when it is tried.
    public func requireWritable() throws(StoreError) {
        try write { db in
            try db.execute(
                sql: "INSERT OR REPLACE INTO settings (name, value) VALUES ('checked_at', ?)",
                arguments: ["\(wallClockMilliseconds())"])
        }
    }

    /// What `check` finds wrong with the file itself.
    public func integrityProblems() async throws(StoreError) -> [String] {
        var problems: [String] = []
        do { try requireInPlace() } catch { problems.append(error.description) }
        return problems
            + (try await readLater { db in
                let findings = try String.fetchAll(db, sql: "PRAGMA integrity_check(20)").filter { $0 != "ok" }
                let orphans = try Row.fetchAll(db, sql: "PRAGMA foreign_key_check").map {
                    "a row of \($0["table"] as String) belongs to no row of \($0["parent"] as String)"
                }
                return findings + orphans
            })
    }
}
