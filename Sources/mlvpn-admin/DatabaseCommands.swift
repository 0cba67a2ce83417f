import AdminAPI
import ArgumentParser
import Glibc
import NIOCore
import TunnelModel

struct Backup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write a consistent copy of the database to a new file, while everything runs.",
        discussion: "The file holds every password; it is made with mode 0600.")

    @Argument(help: "A file that does not exist yet.", completion: .file()) var file: String
    @OptionGroup var common: CommonOptions

    func run() async throws {
        if access(file, F_OK) == 0 { throw Problem(.refused, "\(file) exists already; give another name") }
        let output = try OutputFile(file)
        try await common.client.stream(Target("backup")) { try output.write($0) }
        try output.publish()
        try reportDone("database copied to \(file)", ["backup": .string(file)], common)
    }
}

struct Restore: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Put a backup in place of the database, and apply it.",
        discussion: "Definitions and history that are not in the backup are gone.")

    @Argument(help: "What backup has written.", completion: .file()) var file: String
    @OptionGroup var common: CommonOptions

    func run() async throws {
        let input = try InputFile(file)
        let answer: ByteBuffer
        do {
            answer = try await common.client.upload(Target("restore"), size: input.size) { try input.next() }
        } catch var problem as Problem {
            if problem.kind != .unreachable { problem.detail = "\(file): \(problem.detail)" }
            throw problem
        }
        let report = try JSON.decode(ReloadReport.self, from: answer.readableBytesView)
        if common.json {
            try Output.json(report)
        } else {
            Output.standardError(
                "database restored from \(file): \(report.added.count) added, \(report.changed.count) changed, "
                    + "\(report.removed.count) removed")
            for tunnel in report.rejected {
                Output.standardError("mlvpn-admin: tunnel \(tunnel.name): \(tunnel.problems.joined(separator: "; "))")
            }
        }
        if !report.rejected.isEmpty { throw ExitCode(1) }
    }
}

struct Check: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look for what is wrong, in the database and in what runs; exit with 1 if there is anything.")

    @OptionGroup var common: CommonOptions

    func run() async throws {
        let report: CheckReport = try await common.client.send(.POST, Target("check"))
        if common.json {
            try Output.json(report)
        } else {
            for problem in report.problems { Output.line(problem) }
            for note in report.notes { Output.line("note: \(note)") }
            if report.problems.isEmpty { Output.line("no problems found") }
        }
        if !report.problems.isEmpty { throw ExitCode(1) }
    }
}

struct SQL: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sql", abstract: "Ask the database: one SELECT, which can change nothing and see no password.")

    @Argument(help: "SELECT …") var statement: String
    @OptionGroup var common: CommonOptions

    func run() async throws {
        let table: Table = try await common.client.send(
            .POST, Target("sql"), body: .object(["sql": .string(statement)]))
        try show(table, common)
    }
}

struct Audit: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Who changed what; the latest first.")

    @OptionGroup var common: CommonOptions

    func run() async throws {
        let table: Table = try await common.client.send(.GET, Target("audit", query: ["limit": "\(Self.most)"]))
        try show(table, common)
        if table.rows.count == Self.most {
            Output.standardError("mlvpn-admin: these are the latest \(Self.most); ask for others with 'sql'")
        }
    }

    /// What the daemon gives at once.
    private static let most = 100_000
}

struct Completions: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Print a completion script for a shell.")

    @Argument(help: "bash, zsh or fish.", completion: .list(["bash", "zsh", "fish"])) var shell: String
    @OptionGroup var common: CommonOptions

    func run() throws {
        guard let shell = CompletionShell(rawValue: shell) else {
            throw ValidationError("completions are there for bash, zsh and fish")
        }
        let script = MlvpnAdmin.completionScript(for: shell)
        if common.json { try Output.json(["shell": shell.rawValue, "script": script]) } else { Output.line(script) }
    }
}

/// A new file, mode 0600: whole or not at all, whatever ends this program.
final class OutputFile: @unchecked Sendable {
    private let path: String
    private let file: UnsafeMutablePointer<FILE>
    /// A name of its own until everything is there; nil: it has none (O_TMPFILE of open(2)).
    private let partial: String?
    private var isPublished = false

    init(_ path: String, mayBeNameless: Bool = true) throws {
        self.path = path
        let directory = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
        // O_TMPFILE, which Glibc's module does not name.
        var descriptor = mayBeNameless ? open(directory, O_WRONLY | 0o20000000 | O_DIRECTORY | O_CLOEXEC, 0o600) : -1
        if descriptor >= 0 {
            partial = nil
        } else {
            // Not every file system has it.
            let name = "\(path).\(getpid()).partial"
            descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
            partial = name
        }
        guard descriptor >= 0, let file = fdopen(descriptor, "w") else { throw Self.problem(path) }
        self.file = file
    }

    deinit {
        if let partial, !isPublished { unlink(partial) }
        fclose(file)
    }

    func write(_ chunk: ByteBuffer) throws {
        let written = chunk.withUnsafeReadableBytes { fwrite($0.baseAddress, 1, $0.count, file) }
        if written < chunk.readableBytes { throw Self.problem(path) }
    }

    /// Gives it its name; not over a file that has appeared meanwhile.
    func publish() throws {
        if fflush(file) != 0 || fsync(fileno(file)) != 0 { throw Self.problem(path) }
        guard let partial else {
            let open = "/proc/self/fd/\(fileno(file))"
            guard linkat(AT_FDCWD, open, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0 else { throw Self.problem(path) }
            return
        }
        if link(partial, path) == 0 {
            unlink(partial)
        } else {
            // Nor has every one hard links.
            guard errno == EPERM || errno == EOPNOTSUPP, access(path, F_OK) != 0, rename(partial, path) == 0 else {
                throw Self.problem(path)
            }
        }
        isPublished = true
    }

    private static func problem(_ path: String) -> Problem {
        Problem(.refused, "\(path): \(String(cString: strerror(errno)))")
    }
}

/// Read piece by piece, by one task.
private final class InputFile: @unchecked Sendable {
    private let path: String
    private let file: UnsafeMutablePointer<FILE>
    let size: Int

    init(_ path: String) throws {
        self.path = path
        guard let file = fopen(path, "re") else {
            throw Problem(.refused, "\(path): \(String(cString: strerror(errno)))")
        }
        self.file = file
        var status = stat()
        guard fstat(fileno(file), &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw Problem(.refused, "\(path) is no regular file")
        }
        size = Int(status.st_size)
    }

    deinit { fclose(file) }

    func next() throws -> ByteBuffer? {
        var bytes = [UInt8](repeating: 0, count: 1 << 18)
        let count = fread(&bytes, 1, bytes.count, file)
        if ferror(file) != 0 { throw Problem(.refused, "\(path): \(String(cString: strerror(errno)))") }
        return count > 0 ? ByteBuffer(bytes: bytes.prefix(count)) : nil
    }
}
