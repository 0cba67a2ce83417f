import GRDB
import Glibc
import TunnelModel

/// The database of one concentrator: definitions and history. One process opens it for writing: mlvpn-control.
public final class Store: Sendable {
    public let path: String
    let pool: DatabasePool
    /// How long a writer waits for another process's lock, in seconds.
    private let busyTimeout: Double
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
            }
            pool = try DatabasePool(path: path, configuration: configuration)
            let migrator = Schema.migrator
            if try pool.read(migrator.hasBeenSuperseded) { throw StoreError.newerSchema(path: path) }
            try migrator.migrate(pool)
            try pool.write(Schema.installViews)
        } catch {
            throw StoreError(error, path: path)
        }
    }

    public func close() { try? pool.close() }

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

    func write<T>(_ body: (Database) throws -> T) throws(StoreError) -> T {
        try requireInPlace()
        do { return try pool.write(body) } catch { throw StoreError(error, path: path) }
    }

    /// What can as well be written later: waits for another process's lock no longer than `patience`, in seconds.
    func write(patience: Double, _ body: (Database) throws -> Void) throws(StoreError) {
        try requireInPlace()
        do {
            try pool.writeWithoutTransaction { db in
                try Self.setPatience(min(patience, busyTimeout), db)
                defer { try? Self.setPatience(busyTimeout, db) }
                try db.inTransaction(.immediate) {
                    try body(db)
                    return .commit
                }
            }
        } catch {
            throw StoreError(error, path: path)
        }
    }

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
