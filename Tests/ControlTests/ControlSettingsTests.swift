import Foundation
import LinuxSystem
import Logging
import Store
import Testing

@testable import Control

/// A file that became wrong while the daemon runs ends nothing.
@Suite struct ControlSettingsTests {
    private func settings(_ text: String) throws -> ControlSettings {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("mlvpnd-\(UUID()).conf").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        return ControlSettings(
            ControlOptions(
                stateDirectory: "/nowhere", user: "nobody", adminGroup: "nogroup", configFile: path,
                needsDatabase: false, isStandalone: false, log: LogSettings(arguments: [])),
            Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    @Test func whatIsSaidIsFollowed() throws {
        let settings = try settings("history_daily_days = 400\n")
        #expect(settings.problems.isEmpty && settings.tcp == nil && settings.retention.daily == 400)
    }

    @Test func withoutItsTokensTheAPIIsNotServedOnTCP() throws {
        let settings = try settings(
            "api_listen = 127.0.0.1:8480\napi_token_file = /nonexistent/tokens\nhistory_daily_days = 400\n")
        #expect(settings.tcp == nil && settings.retention.daily == 400)
        #expect(settings.problems.count == 1 && settings.problems[0].contains("/nonexistent/tokens"))
    }

    /// What the file had said may have been more than the defaults.
    @Test func whileTheFileIsWrongNothingIsForgotten() throws {
        let settings = try settings("history_daily_days = 4000\nfrobnicate = 1\n")
        #expect(settings.tcp == nil && settings.retention.samples >= 4000 && settings.retention.daily >= 4000)
        #expect(settings.problems.count == 1 && settings.problems[0].contains("frobnicate"))
    }
}
