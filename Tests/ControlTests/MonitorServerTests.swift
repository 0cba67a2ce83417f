import Foundation
import Glibc
import LinuxSystem
import Testing
import TunnelModel

@testable import Control

@Suite struct MonitorServerTests {
    @Test func aSocketThatCannotBeOpenedIsTriedAgainAndTheOtherIsOpenMeanwhile() async throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("monitor-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let sockets = MonitorSockets(
            Monitoring(unixPath: path + "/acme.sock", bindHost: Monitoring.standardHost, bindPort: try freePort())
        ) { nil }
        let problem = try #require(await sockets.proceed())
        #expect(problem.contains("control-unix-path") && !problem.contains("control-bind-port"), "\(problem)")
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        try await eventually("the socket") { await sockets.proceed() == nil }
        #expect(FileManager.default.fileExists(atPath: path + "/acme.sock"))
        await sockets.stop()
        #expect(!FileManager.default.fileExists(atPath: path + "/acme.sock"))
    }

    @Test func aSocketThatCannotBeOpenedIsToldOfWithTheUserWhoMustBeLet() async throws {
        let monitoring = Monitoring(unixPath: "/nonexistent/acme.sock")
        let (server, problems) = await MonitorServer.start(monitoring) { nil }
        await server.stop()
        let user = try #require(Account.name(of: getuid()))
        #expect(problems.count == 1)
        #expect(problems.first?.hasPrefix("control-unix-path: /nonexistent/acme.sock: ") == true, "\(problems)")
        #expect(problems.first?.hasSuffix("; its directory must let \(user) write") == true, "\(problems)")
    }

    /// A TCP port that nobody has.
    private func freePort() throws -> UInt16 {
        let probe = OwnedDescriptor(owning: socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(probe.raw, $0, size) == 0 ? getsockname(probe.raw, $0, &size) : -1
            }
        }
        try #require(result == 0)
        return UInt16(bigEndian: address.sin_port)
    }

    /// A socket that shows one tunnel, and its path.
    private func shown(_ control: Fixture) async throws -> (MonitorServer, String) {
        try await control.addTunnel("acme", port: 5080)
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("monitor-\(UUID())").path
        let (server, problems) = await MonitorServer.start(Monitoring(unixPath: path)) {
            guard let snapshot = await control.directory.snapshot(of: 1) else { return nil }
            return MonitorFormat(snapshot: snapshot, uptime: 0, reloadedAt: 0)
        }
        try #require(problems.isEmpty, "\(problems)")
        return (server, path)
    }

    @Test func linesAreAnsweredInOrderAndQuitComesLast() async throws {
        let control = try await Fixture()
        let (server, path) = try await shown(control)
        let client = try SocketClient(path)
        client.send("status\nmetrics\nnothing\nstatus\r\nquit\nstatus\n")
        let lines = try await client.receive().split(separator: "\n")
        #expect(lines.first?.contains("\"name\":\"acme\"") == true, "\(lines)")
        #expect(lines[1] == "uptime 0")
        #expect(lines.dropLast().last == lines.first)
        #expect(lines.last == "bye.")
        await server.stop()
    }

    @Test(arguments: ["status\n", "status", "GET /status HTTP/1.0\r\n\r\n"])
    func whoEndsItsInputHasItsAnswerAndTheEnd(input: String) async throws {
        let control = try await Fixture()
        let (server, path) = try await shown(control)
        let client = try SocketClient(path)
        client.send(input)
        client.endOfInput()
        #expect(try await client.receive().contains("\"name\":\"acme\""))
        await server.stop()
    }

    @Test func whoDoesNotReadIsNotReadFurther() async throws {
        let control = try await Fixture()
        let (server, path) = try await shown(control)
        let client = try SocketClient(path)
        let lines = String(repeating: "metrics\n", count: 1000)
        // What is neither read nor answered stays with the sender, after what the sockets hold.
        var total = 0
        var refused = 0
        try await eventually("a sender that is held up") {
            while true {
                let count = client.send(lines)
                if count <= 0 { break }
                total += count
                try #require(total < 8 << 20)
            }
            refused += 1
            return refused >= 50
        }
        // Others are served meanwhile.
        let other = try SocketClient(path)
        other.send("quit\n")
        #expect(try await other.receive() == "bye.")
        await server.stop()
    }

    @Test func connectionsAreCounted() async throws {
        let control = try await Fixture()
        let (server, path) = try await shown(control)
        let clients = try (0..<MonitorServer.maximumConnections).map { _ in try SocketClient(path) }
        for client in clients {
            client.send("nothing\n")
            _ = try await client.receive { $0.contains("unknown") }
        }
        #expect(try await SocketClient(path).receive() == "")
        clients[0].send("quit\n")
        #expect(try await clients[0].receive() == "bye.")
        await server.stop()
    }
}
