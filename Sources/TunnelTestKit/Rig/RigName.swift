import Glibc
import Synchronization

/// Names of what a rig leaves in the system: `mlt-PID-STARTTIME-NUMBER-ROLE`.
enum RigName {
    private static let mark = "mlt-"
    private static let counter = Atomic<Int>(0)

    static func nextNumber() -> Int {
        counter.add(1, ordering: .relaxed).newValue
    }

    static func prefix(of pid: pid_t) -> String {
        "\(mark)\(pid)-\(startTime(of: pid) ?? "0")-"
    }

    /// Whether the process that gave this name is gone. Names of others are never abandoned.
    static func isAbandoned(_ name: String) -> Bool {
        let parts = name.split(separator: "-")
        guard name.hasPrefix(mark), parts.count >= 4, let pid = pid_t(parts[1]) else { return false }
        return startTime(of: pid) != String(parts[2])
    }

    /// Clock ticks from boot to the start of a process: with the id it names a process for ever.
    private static func startTime(of pid: pid_t) -> String? {
        // The command, in parentheses, may itself hold spaces and parentheses.
        guard let text = readWholeFile("/proc/\(pid)/stat"), let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return fields.count > 19 ? String(fields[19]) : nil
    }
}

/// Names in a directory; none if it cannot be read.
func directoryEntries(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names
}

/// Removes a directory with all it holds, without following links.
func removeTree(_ path: String) {
    var information = stat()
    guard lstat(path, &information) == 0 else { return }
    if information.st_mode & S_IFMT == S_IFDIR {
        for name in directoryEntries(path) {
            removeTree("\(path)/\(name)")
        }
        rmdir(path)
    } else {
        unlink(path)
    }
}

/// Runs a command outside any rig.
func runQuietly(_ command: [String]) throws(RigError) -> RunningProcess.ExitStatus {
    let process = try RunningProcess(command, environment: [:], outputPath: "/dev/null", withInput: false)
    return try process.waitForExit(within: .seconds(10))
}
