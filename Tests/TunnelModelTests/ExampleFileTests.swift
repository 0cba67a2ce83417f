import Glibc
import Testing
import TunnelModel

@Suite("Example files")
struct ExampleFileTests {
    @Test func theDaemonsFileIsReadAsItIs() throws {
        #expect(try DaemonConfig.parse(try contents("mlvpnd.conf")) == DaemonConfig())
    }

    @Test func theDaemonsFileShowsEveryKeyWithItsDefault() throws {
        var shown: [String: String] = [:]
        for line in String(decoding: try contents("mlvpnd.conf"), as: UTF8.self).split(separator: "\n") {
            let pair = line.dropFirst().split(separator: " = ")
            if line.hasPrefix("#"), !line.hasPrefix("# "), pair.count == 2 { shown[String(pair[0])] = String(pair[1]) }
        }
        #expect(Set(shown.keys) == Set(DaemonConfig.keys))
        let text = shown.map { "\($0.key) = \($0.value)\n" }.joined()
        let config = try DaemonConfig.parse(Array(text.utf8))
        var expected = DaemonConfig()
        expected.apiListen = config.apiListen
        expected.apiTokenFile = config.apiTokenFile
        expected.apiTLSCertificate = config.apiTLSCertificate
        expected.apiTLSKey = config.apiTLSKey
        #expect(config == expected)
    }

    @Test(arguments: [TunnelMode.server, .client])
    func theTunnelsFilesAreReadWithoutAWarning(_ mode: TunnelMode) throws {
        let (tunnel, warnings) = try read(bytes: try contents("mlvpn-\(mode.rawValue).conf.example"), .strict)
        #expect(warnings.isEmpty)
        #expect(tunnel.mode == mode)
        #expect(tunnel.links.map(\.name.text) == ["adsl", "sdsl", "mobile"])
        #expect(tunnel.filters.count == 2)
    }

    @Test func theTunnelsFilesFitEachOther() throws {
        let server = try read(bytes: try contents("mlvpn-server.conf.example"), .strict).definition
        let client = try read(bytes: try contents("mlvpn-client.conf.example"), .strict).definition
        #expect(server.password == client.password)
        #expect(server.ip4?.address == client.gateway4)
        #expect(client.ip4?.address == server.gateway4)
        #expect(server.links.map(\.bind.port) == client.links.map(\.remote?.port))
    }

    @Test func everyKeyOfTheServersFileThatIsCommentedOutIsReadToo() throws {
        var lines: [Substring] = []
        let text = String(decoding: try contents("mlvpn-server.conf.example"), as: UTF8.self)
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            let isKey = line.hasPrefix("#") && !line.hasPrefix("# ") && line.contains(" = ")
            lines.append(isKey ? line.dropFirst() : line)
        }
        let (tunnel, warnings) = try read(lines.joined(separator: "\n"), .strict)
        #expect(warnings.isEmpty)
        #expect(tunnel.mtu == 1428)
        #expect(tunnel.statusCommand == "/etc/mlvpn/mlvpn_updown.sh")
        #expect(tunnel.monitoring.bindPort == 1040)
        #expect(tunnel.links[1].limit == 250_000)
    }
}

private struct Unreadable: Error { var path: String }

private func contents(_ name: String, testFile: String = #filePath) throws -> [UInt8] {
    let root = testFile.split(separator: "/").dropLast(3).joined(separator: "/")
    let path = "/\(root)/etc/\(name)"
    guard let file = fopen(path, "r") else { throw Unreadable(path: path) }
    defer { fclose(file) }
    return Array(unsafeUninitializedCapacity: 1 << 16) { buffer, count in
        count = fread(buffer.baseAddress, 1, buffer.count, file)
    }
}
