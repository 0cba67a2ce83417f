import GRDB
import TunnelModel

/// Why the database could not do what was asked.
public enum StoreError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The definition cannot be stored: every reason found.
    case refused([DefinitionError])
    case noSuchTunnel(String)
    case noSuchLink(tunnel: String, link: String)
    /// The tunnel is at another version than the change was made for.
    case conflict(tunnel: String, expected: Int64, found: Int64)
    /// Another process holds the database locked.
    case locked(path: String)
    /// Not a database, or a damaged one.
    case corrupt(path: String, detail: String)
    /// Written by a later version of this program.
    case newerSchema(path: String)
    /// The file, or its directory, cannot be opened or written.
    case inaccessible(path: String, detail: String)
    case full(path: String)
    /// The file was removed, or another was put in its place, while it was in use.
    case removed(path: String)
    case failed(String)

    public var description: String {
        switch self {
        case .refused(let problems): problems.map(\.description).joined(separator: "; ")
        case .noSuchTunnel(let name): "there is no tunnel \(quoted(name)); 'mlvpn-admin list' shows them all"
        case .noSuchLink(let tunnel, let link):
            "tunnel \(tunnel) has no link \(quoted(link)); 'mlvpn-admin show \(tunnel)' shows its links"
        case .conflict(let tunnel, let expected, let found):
            "tunnel \(tunnel) was changed meanwhile (version \(found), not \(expected)); look at it and try again"
        case .locked(let path):
            "\(path) is locked by another process; end its transaction (an open sqlite3 shell?) and try again"
        case .corrupt(let path, let detail):
            "\(path) is damaged or no database (\(detail)); put a backup in its place, or move it away to begin with an empty one"
        case .newerSchema(let path):
            "\(path) was written by a later version of this program; install that version, or put a backup in its place"
        case .inaccessible(let path, let detail): "\(path): \(detail)"
        case .full(let path): "\(path): no space left on its disk; free some, nothing was changed"
        case .removed(let path):
            "\(path) was removed or replaced while in use; 'mlvpn-admin backup FILE' saves what the daemon still has of it: "
                + "stop the daemon then, put that file in its place, and start it"
        case .failed(let what): what
        }
    }

    /// What is wrong now may pass by itself, or when the operator has made room.
    public var isOfTheMoment: Bool {
        switch self {
        case .locked, .full, .inaccessible: true
        default: false
        }
    }

    /// What an operator should read of an error that SQLite or GRDB threw.
    init(_ error: any Error, path: String) {
        switch error {
        case let error as StoreError: self = error
        case let error as DefinitionError: self = .refused([error])
        case let error as DatabaseError: self.init(database: error, path: path)
        default: self = .failed("\(path): \(error)")
        }
    }

    private init(database error: DatabaseError, path: String) {
        let text = error.message ?? "no message"
        switch error.resultCode {
        case .SQLITE_BUSY, .SQLITE_LOCKED: self = .locked(path: path)
        case .SQLITE_CORRUPT, .SQLITE_NOTADB: self = .corrupt(path: path, detail: text)
        case .SQLITE_FULL: self = .full(path: path)
        case .SQLITE_READONLY:
            self = .inaccessible(
                path: path, detail: "cannot be written (\(text)); it must belong to the daemon's user, with mode 0600")
        case .SQLITE_CANTOPEN, .SQLITE_PERM, .SQLITE_IOERR:
            self = .inaccessible(path: path, detail: "cannot be opened (\(text)); check its owner, mode and disk")
        case .SQLITE_CONSTRAINT: self = .refused([Self.constraint(text)])
        // Without the statement, which may be a whole migration.
        default: self = .failed("\(path): \(text) (SQLite's error \(error.extendedResultCode.rawValue))")
        }
    }

    /// The schema names its checks by what they demand (`mtu: from 576 to …`), so that SQLite says it.
    private static func constraint(_ text: String) -> DefinitionError {
        for (prefix, suffix) in [
            ("CHECK constraint failed: ", ""), ("UNIQUE constraint failed: ", " is taken already"),
        ]
        where text.hasPrefix(prefix) {
            let rest = String(text.dropFirst(prefix.count))
            guard let colon = rest.firstRange(of: ": ") else { return DefinitionError("", rest + suffix) }
            return DefinitionError(
                String(rest[..<colon.lowerBound]), "must be " + String(rest[colon.upperBound...]) + suffix)
        }
        if text.hasPrefix("FOREIGN KEY") {
            return DefinitionError("filter", "names a link that the tunnel does not have")
        }
        return DefinitionError("", text)
    }
}
