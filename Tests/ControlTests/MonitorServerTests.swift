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
            Monitoring(unixPath: path + "/acme.sock", bindHost: try Host("127.0.0.1", field: ""), bindPort: 45_083)
        ) { nil }
        let problem = try #require(await sockets.proceed())
        #expect(problem.contains("control-unix-path") && !problem.contains("control-bind-port"), "\(problem)")
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        let limit = Clock.now() + .seconds(20)
        while await sockets.proceed() != nil {
            try #require(Clock.now() < limit)
            try await Task.sleep(for: .milliseconds(50))
        }
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
}
