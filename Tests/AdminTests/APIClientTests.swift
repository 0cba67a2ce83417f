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
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("client-\(UUID())").path
        let listener = try listen(at: path)
        defer {
            close(listener)
            unlink(path)
        }
        let closed = DispatchSemaphore(value: 0)
        let server = Thread {
            let connection = accept(listener, nil, nil)
            var text = ""
            var bytes = [UInt8](repeating: 0, count: 4096)
            while !text.contains("\r\n\r\n1") {
                let count = recv(connection, &bytes, bytes.count, 0)
                if count <= 0 { break }
                text += String(decoding: bytes.prefix(count), as: UTF8.self)
            }
            let answer = Array("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone".utf8)
            _ = send(connection, answer, answer.count, Int32(MSG_NOSIGNAL))
            close(connection)
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

    private func listen(at path: String) throws -> Int32 {
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
        return descriptor
    }
}
