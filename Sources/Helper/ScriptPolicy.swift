import Glibc
import TunnelModel

/// Which programs may be run as root for a tunnel: whoever can write one, or put one in its place, is root.
struct ScriptPolicy: Sendable {
    /// The only directory whose scripts run; nil: any that passes the other rules.
    var directory: String?

    /// The path to execute, free of symbolic links, or why it must not be.
    func check(_ path: String) throws(ScriptRefusal) -> String {
        let resolved = try Self.resolve(path)
        if let directory {
            let root = try Self.resolve(directory)
            guard resolved.hasPrefix(root == "/" ? "/" : root + "/") else {
                throw ScriptRefusal(
                    "status command \(quoted(path)) is not in \(directory), the script_dir of mlvpnd.conf; move it there"
                )
            }
        }
        var status = stat()
        guard lstat(resolved, &status) == 0 else {
            throw ScriptRefusal(
                "status command \(quoted(path)) cannot be examined: \(String(cString: strerror(errno)))")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw ScriptRefusal("status command \(quoted(path)) is not a regular file")
        }
        guard status.st_uid == 0 else {
            throw ScriptRefusal("status command \(quoted(path)) is not owned by root; run: chown root \(path)")
        }
        guard status.st_mode & (S_IRWXG | S_IRWXO) == 0 else {
            throw ScriptRefusal(
                "status command \(quoted(path)) is accessible to group or others; run: chmod 700 \(path)")
        }
        guard status.st_mode & S_IXUSR != 0 else {
            throw ScriptRefusal("status command \(quoted(path)) is not executable; run: chmod 700 \(path)")
        }
        try Self.checkParents(of: resolved, named: path)
        return resolved
    }

    private static func resolve(_ path: String) throws(ScriptRefusal) -> String {
        guard let real = realpath(path, nil) else {
            let reason = String(cString: strerror(errno))
            throw ScriptRefusal("status command: \(quoted(path)) cannot be found: \(reason)")
        }
        defer { free(real) }
        return String(cString: real)
    }

    /// Every directory on the way is root's alone to change; in a sticky one, like /tmp, nobody else can rename root's.
    private static func checkParents(of resolved: String, named path: String) throws(ScriptRefusal) {
        var directory = resolved
        while directory != "/" {
            guard let slash = directory.lastIndex(of: "/") else { break }
            directory = slash == directory.startIndex ? "/" : String(directory[..<slash])
            var status = stat()
            guard lstat(directory, &status) == 0, status.st_uid == 0,
                status.st_mode & (S_IWGRP | S_IWOTH) == 0 || status.st_mode & S_ISVTX != 0
            else {
                throw ScriptRefusal(
                    "status command \(quoted(path)) is in \(directory), which others than root can change; "
                        + "run: chown root \(directory); chmod go-w \(directory)")
            }
        }
    }
}

/// Why a script is not run, and what to do.
struct ScriptRefusal: Error, Equatable, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}
