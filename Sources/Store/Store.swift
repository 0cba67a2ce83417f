import GRDB
import GRDBSQLite
import Glibc
import Synchronization
import TunnelModel

/// The database of one concentrator: definitions and history. One process opens it for writing: mlvpn-control.
public final class Store: Sendable {
    public let path: String
    let pool: DatabasePool
    /// How long a writer waits for another process's lock, in seconds.
    private let busyTimeout: Double
    /// Until when a lock is not waited for long, by the monotonic clock.
    private let hopelessUntil = Mutex(0.0)
    /// The file that was opened.
    private let identity: FileIdentity?
    /// Told of every entry of the audit once it is stored.
    let audited: @Sendable (AuditEntry) -> Void

    /// Opens the database, makes it when there is none, and brings its schema up to date.
    ///
    /// The file is made with mode 0600: it holds every tunnel's password.
    ///
    /// - Parameters:
    ///   - mustExist: a file that is missing is an error instead.
    ///   - audited: told of every administrative change once it is stored.
    public init(
        path: String, mustExist: Bool = false, busyTimeout: Double = 5,
        audited: @escaping @Sendable (AuditEntry) -> Void = { _ in }
    ) throws(StoreError) {
        self.path = path
        self.busyTimeout = busyTimeout
        self.audited = audited
        try Self.requireFile(path, mustExist: mustExist)
        identity = FileIdentity(of: path)
        do {
            var configuration = Configuration()
            configuration.busyMode = .timeout(busyTimeout)
            configuration.label = "mlvpn"
            configuration.maximumReaderCount = 4
            configuration.prepareDatabase { db in
                // A removed password leaves no trace in free pages.
                try db.execute(sql: "PRAGMA secure_delete = ON")
                // The files beside the database stay: on a full disk they could not be made again.
                var stays: Int32 = 1
                sqlite3_file_control(db.sqliteConnection, nil, SQLITE_FCNTL_PERSIST_WAL, &stays)
            }
            pool = try DatabasePool(path: path, configuration: configuration)
            let migrator = Schema.migrator
            if try pool.read(migrator.hasBeenSuperseded) { throw StoreError.newerSchema(path: path) }
            // Nothing is written that need not be: the disk may be full.
            if try pool.read({ try !migrator.hasCompletedMigrations($0) || !Schema.hasCurrentViews($0) }) {
                try migrator.migrate(pool)
                try pool.write(Schema.installViews)
            }
        } catch {
            throw StoreError(error, path: path)
        }
    }

    public func close() {
        try? pool.writeWithoutTransaction { db in
            try Self.setPatience(Self.shortPatience, db)
            _ = try db.checkpoint(.truncate)
        }
        try? pool.close()
        leaveEmptyLog()
    }

    /// An empty log means nothing to another database that is put in this one's place; but where there is none, or one of no
    /// length, GRDB writes to make one, which a full disk would forbid. SQLite takes one byte for none. Appended, it does
    /// no harm to whoever writes there now.
    private func leaveEmptyLog() {
        let log = open(path + "-wal", O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC)
        guard log >= 0 else { return }
        defer { Glibc.close(log) }
        var status = stat()
        if fstat(log, &status) == 0, status.st_size == 0 { _ = Glibc.write(log, [0], 1) }
    }

    private static func requireFile(_ path: String, mustExist: Bool) throws(StoreError) {
        let descriptor = open(path, O_RDWR | (mustExist ? 0 : O_CREAT) | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else {
            let code = errno
            let hint =
                switch code {
                case ENOENT where mustExist:
                    "was removed; remove its -wal and -shm, too, and put a backup in its place: until mlvpnd is restarted, all runs on"
                case ENOENT: "its directory does not exist; create it, or start mlvpnd, which does"
                case EACCES, EPERM: "no permission; it must belong to the daemon's user, with mode 0600"
                case EROFS: "its file system is read-only"
                case ELOOP: "is a symbolic link; put the file itself there"
                case ENOSPC: "no space left on its disk"
                case EISDIR: "is a directory"
                default: String(cString: strerror(code))
                }
            throw .inaccessible(path: path, detail: hint)
        }
        Glibc.close(descriptor)
    }

    func read<T>(_ body: (Database) throws -> T) throws(StoreError) -> T {
        do { return try pool.read(body) } catch { throw StoreError(error, path: path) }
    }

    /// Writes in one transaction.
    ///
    /// - Parameter patience: of what can as well be written later: how long another process's lock is waited for at most,
    ///   in seconds.
    func write<T>(patience: Double? = nil, _ body: (Database) throws -> T) throws(StoreError) -> T {
        try requireInPlace()
        var limit = busyTimeout
        do {
            let result = try pool.writeWithoutTransaction { db in
                // Known when its turn has come.
                let isLocked = hopelessUntil.withLock { monotonicSeconds() < $0 }
                limit = min(patience ?? busyTimeout, isLocked ? Self.shortPatience : busyTimeout)
                try Self.setPatience(limit, db)
                defer { try? Self.setPatience(busyTimeout, db) }
                var result: T?
                try db.inTransaction(.immediate) {
                    result = try body(db)
                    return .commit
                }
                return result
            }
            hopelessUntil.withLock { $0 = 0 }
            if let result { return result }
            throw StoreError.failed("\(path): a transaction was left")
        } catch {
            let error = StoreError(error, path: path)
            // Whoever has waited in vain has waited for those behind, too.
            if case .locked = error, limit == busyTimeout {
                hopelessUntil.withLock { $0 = monotonicSeconds() + busyTimeout }
            }
            throw error
        }
    }

    /// While a lock that was waited for is likely to be there still.
    private static let shortPatience = 0.2

    private static func setPatience(_ seconds: Double, _ db: Database) throws {
        try db.execute(sql: "PRAGMA busy_timeout = \(Int(seconds * 1000))")
    }

    /// What is written to a file that has lost its name is lost with this process: it is refused.
    public func requireInPlace() throws(StoreError) {
        guard FileIdentity(of: path) == identity else { throw .removed(path: path) }
    }

    /// For queries that may take long: off the caller's thread.
    func readLater<T: Sendable>(_ body: @escaping @Sendable (Database) throws -> T) async throws(StoreError) -> T {
        do { return try await pool.read(body) } catch { throw StoreError(error, path: path) }
    }
}

private func monotonicSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Which file a path leads to.
private struct FileIdentity: Equatable {
    var device: dev_t
    var inode: ino_t

    /// Nil when there is none.
    init?(of path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        (device, inode) = (status.st_dev, status.st_ino)
    }
}
