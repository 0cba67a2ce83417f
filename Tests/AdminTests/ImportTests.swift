import AdminAPI
import Testing

@testable import mlvpn_admin

@Suite struct ImportTests {
    private func conf(port: Int, general: String = "") -> [UInt8] {
        Array("[general]\nmode = server\npassword = \"x\"\n\(general)\n[adsl]\nbindport = \(port)\n".utf8)
    }

    /// What is thrown, line by line.
    private func problems(_ files: [(String, [UInt8])]) -> [String] {
        do {
            _ = try ImportPlan(files)
            return []
        } catch {
            return "\(error)".split(separator: "\n").map(String.init)
        }
    }

    @Test func aDeviceIsChosenUnlessTheFileNamesOne() throws {
        let plan = try ImportPlan([
            ("a.conf", conf(port: 5080)), ("/etc/b.conf", conf(port: 5081, general: "# interface_name = mlvpn0")),
            ("c", conf(port: 5082, general: "interface_name = mlvpn0")),
        ])
        #expect(plan.tunnels.map(\.name) == ["a", "b", "c"])
        #expect(plan.tunnels.map { $0.body["interface"] } == [.null, .null, .string("mlvpn0")])
    }

    @Test func everyFilesProblemsAreToldAtOnce() {
        let found = problems([
            ("a.conf", conf(port: 5080, general: "frobnicate = 1")), ("b.conf", conf(port: 5081)),
            ("c.conf", Array("x".utf8)), ("a b.conf", conf(port: 5082)),
        ])
        for path in ["a.conf: ", "c.conf: ", "a b.conf: "] {
            #expect(found.contains { $0.hasPrefix(path) }, "\(path): \(found)")
        }
        #expect(!found.contains { $0.hasPrefix("b.conf: ") })
    }

    @Test func filesAreCheckedAgainstEachOther() {
        let found = problems([
            ("a.conf", conf(port: 5080)), ("b.conf", conf(port: 5080)), ("other/a.conf", conf(port: 5082)),
            ("c.conf", conf(port: 5083, general: "interface_name = ml7")),
            ("d.conf", conf(port: 5084, general: "interface_name = ml7")),
        ])
        #expect(found.count == 3, "\(found)")
        #expect(found.first?.hasPrefix("b.conf: ") == true && found.first?.hasSuffix("(a.conf)") == true, "\(found)")
        #expect(found.contains { $0.hasPrefix("other/a.conf: ") } && found.contains { $0.hasPrefix("d.conf: ") })
    }

    @Test func theDaemonsOwnFileIsNoTunnels() {
        #expect(ImportPlan.isDaemonsOwn("/etc/mlvpn/mlvpnd.conf") && !ImportPlan.isDaemonsOwn("/etc/mlvpn/acme.conf"))
        let found = problems([("/etc/mlvpn/mlvpnd.conf", Array("workers = 2\n".utf8))])
        #expect(found.last?.contains("the daemon's own") == true, "\(found)")
    }
}
