import AdminAPI
import Glibc
import Hummingbird
import LinuxSystem
import Logging
import NIOCore
import Store
import TunnelModel

extension APIRoutes {
    /// Bytes of a database that is restored.
    private static var maximumRestore: Int { 16 << 30 }

    func addMaintenance(to group: RouterGroup<APIContext>) {
        group.post("check") { _, _ in try Response.json(try await check()) }
        group.get("backup") { _, _ in
            let file = "\(stateDirectory)/backup-\(getpid())-\(Clock.now()).tmp"
            defer { unlink(file) }
            try await BlockingWork.run { try store.backup(to: file) }
            // Open before it loses its name: it is gone with the last reader.
            let source = try FileChunks(path: file)
            return Response(
                status: .ok, headers: [.contentType: "application/vnd.sqlite3", .cacheControl: "no-store"],
                body: .init(contentLength: source.size) { writer in
                    while let chunk = try source.next() { try await writer.write(chunk) }
                    try await writer.finish(nil)
                })
        }
        group.post("restore") { request, context in
            let file = "\(stateDirectory)/restore-\(getpid())-\(Clock.now()).tmp"
            defer { unlink(file) }
            try await receive(request, into: file)
            let samples = await directory.samples()
            do { try await recorder.restore(from: file, samples: samples, now: Clock.wallMilliseconds()) } catch {
                // Its name here is none that the operator knows.
                var problem = Problem(error)
                problem.detail = problem.detail.replacing(file, with: "the uploaded file")
                throw problem
            }
            return try Response.json(try await directory.takeUpRestored(by: context.change("restore")))
        }
    }

    /// What is wrong with the database or with what runs; empty when all is well.
    private func check() async throws -> CheckReport {
        var report = CheckReport(problems: settingsProblems + (try await store.integrityProblems()))
        do { try await BlockingWork.run { try store.requireWritable() } } catch {
            let problem = Problem(error).detail
            if !report.problems.contains(problem) { report.problems.append(problem) }
        }
        if let failure = await recorder.failure { report.problems.append("history is not written now: \(failure)") }
        let trial = try await directory.reloadPrepared(names: nil, dryRun: true)
        report.problems += trial.rejected.map { "tunnel \($0.name): \($0.problems.joined(separator: "; "))" }
        for snapshot in try await directory.snapshots() {
            let name = snapshot.definition.name
            if let problem = snapshot.entry.problem { report.problems.append("tunnel \(name): \(problem)") }
            for (link, problem) in snapshot.entry.linkProblems.sorted(by: { $0.key < $1.key }) {
                report.problems.append("tunnel \(name), link \(link): \(problem)")
            }
        }
        let pending = trial.added + trial.changed + trial.removed
        report.notes = pending.sorted().map { "tunnel \($0) differs from what runs; 'mlvpn-admin reload' applies it" }
        return report
    }

    private func receive(_ request: Request, into file: String) async throws {
        let descriptor = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Problem(.unavailable, "\(file): \(String(cString: strerror(errno)))") }
        let output = OwnedDescriptor(owning: descriptor)
        var total = 0
        for try await chunk in request.body {
            total += chunk.readableBytes
            guard total <= Self.maximumRestore else { throw Problem(.tooLarge, "the backup is too large") }
            try chunk.withUnsafeReadableBytes { bytes in
                var rest = bytes[...]
                while !rest.isEmpty {
                    let written = write(output.raw, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                    if written < 0 {
                        if errno == EINTR { continue }
                        throw Problem(.unavailable, "\(file): \(String(cString: strerror(errno)))")
                    }
                    rest = rest.dropFirst(written)
                }
            }
        }
    }
}

/// Reads a file in pieces.
private final class FileChunks: Sendable {
    private let descriptor: OwnedDescriptor
    let size: Int

    init(path: String) throws {
        let raw = open(path, O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { throw Problem(.unavailable, "\(path): \(String(cString: strerror(errno)))") }
        descriptor = OwnedDescriptor(owning: raw)
        var status = stat()
        guard fstat(raw, &status) == 0 else {
            throw Problem(.unavailable, "\(path): \(String(cString: strerror(errno)))")
        }
        size = Int(status.st_size)
    }

    /// Nil at the end.
    func next() throws -> ByteBuffer? {
        var buffer = ByteBufferAllocator().buffer(capacity: 1 << 18)
        let count = try buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 1 << 18) { bytes in
            let count = read(descriptor.raw, bytes.baseAddress, bytes.count)
            if count < 0 {
                throw Problem(.failed, "read the copy of the database: \(String(cString: strerror(errno)))")
            }
            return count
        }
        return count > 0 ? buffer : nil
    }
}
