import AdminAPI
import ArgumentParser
import Foundation
import Testing

@testable import mlvpn_admin

@Suite struct CommandLineTests {
    @Test func aStatementMayBeginWithAComment() {
        #expect(MlvpnAdmin.notAnOption("-- Which?\nSELECT 1") == " -- Which?\nSELECT 1")
        #expect(MlvpnAdmin.notAnOption("--json") == "--json")
        #expect(MlvpnAdmin.notAnOption("--") == "--")
    }

    @Test func whatEveryCommandTakesMayStandBeforeIt() {
        #expect(
            MlvpnAdmin.movingCommonOptions(["--socket", "/x", "--json", "list"]) == [
                "list", "--socket", "/x", "--json",
            ])
        #expect(MlvpnAdmin.movingCommonOptions(["--socket=/x", "show", "acme"]) == ["show", "--socket=/x", "acme"])
        #expect(MlvpnAdmin.movingCommonOptions(["list", "--json"]) == ["list", "--json"])
        #expect(MlvpnAdmin.movingCommonOptions([]) == [])
    }

    @Test(arguments: [[], ["--json"], ["--socket", "/x"], ["show", ""], ["status", ""], ["capture", "acme", ""]])
    func withoutACommandAndWithEmptyNamesNothingIsDone(arguments: [String]) {
        let error = #expect(throws: Problem.self) { try MlvpnAdmin.requireCommand(arguments) }
        #expect(error?.kind?.exitCode == 2)
    }

    @Test func aCommandIsEnough() throws {
        for arguments in [["list"], ["--help"], ["--json", "list"]] { try MlvpnAdmin.requireCommand(arguments) }
    }

    /// An unknown word is what the message must name, not the options around it.
    @Test func anUnknownCommandStaysFirst() {
        #expect(MlvpnAdmin.movingCommonOptions(["--socket", "/x", "frobnicate"]) == ["frobnicate"])
        let error = #expect(throws: (any Error).self) { try MlvpnAdmin.parseAsRoot(["frobnicate"]) }
        #expect(error.map { MlvpnAdmin.message(for: $0) }?.contains("frobnicate") == true)
    }

    /// A line that someone has typed may lack its end.
    @Test(arguments: ["", "old", "old\n"]) func aTokenIsALineOfItsOwn(before: String) throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("tokens-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try before.write(toFile: path, atomically: false, encoding: .utf8)
        try NewToken.append("new\n", to: path)
        let lines = try String(contentsOfFile: path, encoding: .utf8)
        #expect(lines == (before.isEmpty ? "new\n" : "old\nnew\n"))
    }
}
