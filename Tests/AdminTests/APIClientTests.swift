import AdminAPI
import Foundation
import Glibc
import NIOCore
import Synchronization
import Testing

@testable import mlvpn_admin

@Suite struct APIClientTests {
    /// A daemon that knows all that it needs answers and closes, perhaps before the client has said its last word.
    @Test func anAnswerThatComesBeforeTheRequestsEndIsTheAnswer() async throws {
        let (path, listener) = try listen()
        defer {
            close(listener)
            unlink(path)
        }
        let closed = DispatchSemaphore(value: 0)
        let server = Thread {
            // First it is asked whether it lives.
            let first = acceptRequest(listener)
            write(first, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            let connection = accept(listener, nil, nil)
            var text = ""
            var bytes = [UInt8](repeating: 0, count: 4096)
            while !text.contains("\r\n\r\n1") {
                let count = recv(connection, &bytes, bytes.count, 0)
                if count <= 0 { break }
                text += String(decoding: bytes.prefix(count), as: UTF8.self)
            }
            write(connection, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone")
            closed.signal()
        }
        server.start()
        let pieces = Mutex(["1", "2", "3"])
        let answer = try await APIClient(path: path).upload(Target("restore"), size: 3) {
            pieces.withLock { pieces -> ByteBuffer? in
                guard let piece = pieces.first else { return nil }
                // The server has closed by the time of the second.
                if piece == "2" { #expect(closed.wait(timeout: .now() + 10) == .success) }
                pieces.removeFirst()
                return ByteBuffer(string: piece)
            }
        }
        #expect(String(buffer: answer) == "done")
    }

    /// In each case the daemon is not there for the operator: exit code 4, and never a wait without end.
    @Test(
        arguments: [
            (nil, "has not answered within"), ("", "closed the connection without an answer"),
            ("HTTP/1.1 200 OK\r\n", "closed the connection"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", "in the middle of its answer"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "in the middle of its answer"),
        ] as [(String?, String)])
    func aDaemonThatDoesNotAnswerIsUnreachable(answer: String?, words: String) async throws {
        let (path, listener) = try listen()
        let silent = DispatchSemaphore(value: 0)
        defer {
            silent.signal()
            close(listener)
            unlink(path)
        }
        Thread {
            let connection = acceptRequest(listener)
            if let answer { finish(connection, answer) } else { silent.wait() }
        }.start()
        let client = APIClient(path: path, patience: .milliseconds(answer == nil ? 200 : 60_000))
        let problem = await #expect(throws: Problem.self) {
            try await client.send(.POST, Target("tunnels", "acme", "disable"))
        }
        #expect(problem?.kind == .unreachable)
        #expect(problem?.detail.contains(words) == true, "\(problem?.detail ?? "")")
        if answer == nil { #expect(problem?.detail.contains("is not known") == true) }
    }

    private func listen() throws -> (path: String, listener: Int32) {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("client-\(UUID())").path
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { bytes in
            for (index, byte) in path.utf8.prefix(bytes.count - 1).enumerated() { bytes[index] = byte }
        }
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(result == 0 && Glibc.listen(descriptor, 1) == 0)
        return (path, descriptor)
    }
}

/// A connection by which something has come.
private func acceptRequest(_ listener: Int32) -> Int32 {
    let connection = accept(listener, nil, nil)
    var bytes = [UInt8](repeating: 0, count: 4096)
    _ = recv(connection, &bytes, bytes.count, 0)
    return connection
}

/// Says no more after this, and closes when the client has: to close before all is read that it sends would be a reset.
private func finish(_ connection: Int32, _ answer: String) {
    let bytes = Array(answer.utf8)
    _ = send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    shutdown(connection, Int32(SHUT_WR))
    var rest = [UInt8](repeating: 0, count: 4096)
    while recv(connection, &rest, rest.count, 0) > 0 {}
    close(connection)
}

/// And closes.
private func write(_ connection: Int32, _ answer: String) {
    let bytes = Array(answer.utf8)
    _ = send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    close(connection)
}
