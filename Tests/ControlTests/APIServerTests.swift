import Foundation
import Glibc
import Logging
import Testing

@testable import Control

@Suite struct APIServerTests {
    /// An API of two connections at `path`, which ends after `body`.
    private func serving(_ body: (_ path: String) async throws -> Void) async throws {
        let control = try await Fixture()
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("api-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let server = APIServer(
            responder: control.routes.responder(), access: .peers(adminGroup: getgid()), maximumConnections: 2,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let listener = Descriptor(try SocketClient.listener(path))
        let serving = Task { if let listener = listener.take() { try await server.run(on: listener) } }
        defer { serving.cancel() }
        try await body(path)
        serving.cancel()
        _ = await serving.result
    }

    @Test func whoIsBeyondTheLimitIsClosedAndTheOthersAreServed() async throws {
        try await serving { path in
            let first = [try SocketClient(path), try SocketClient(path)]
            for client in first { try await ask(client) }
            for _ in 0..<20 { #expect(try await SocketClient(path).receive() == "") }
            for client in first { try await ask(client) }
            // Whoever goes makes room for another.
            first[0].endOfInput()
            _ = try await first[0].receive()
            let limit = ContinuousClock.now + .seconds(15)
            while true {
                let next = try SocketClient(path)
                next.send("GET /v1/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if try await next.receive(until: { $0.contains("\r\n\r\n") }).hasPrefix("HTTP/1.1 ") { break }
                try #require(ContinuousClock.now < limit)
            }
        }
    }

    /// What comes after an answer to HEAD is the next answer.
    @Test(arguments: ["healthz", "backup", "nothing"])
    func anAnswerToHEADIsItsHeadAlone(path: String) async throws {
        try await serving { socket in
            let client = try SocketClient(socket)
            client.send("HEAD /v1/\(path) HTTP/1.1\r\nHost: localhost\r\n\r\n")
            let head = try await client.receive { $0.contains("\r\n\r\n") }
            #expect(head.hasSuffix("\r\n\r\n"), "\(head)")
            try await ask(client)
        }
    }

    /// An answer or a refusal: either way it is served.
    private func ask(_ client: SocketClient) async throws {
        client.send("GET /v1/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        let answer = try await client.receive { $0.contains("\"version\"") }
        #expect(answer.hasPrefix("HTTP/1.1 200 "), "\(answer)")
    }
}
