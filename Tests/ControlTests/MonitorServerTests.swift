import Glibc
import LinuxSystem
import Testing
import TunnelModel

@testable import Control

@Suite struct MonitorServerTests {
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
