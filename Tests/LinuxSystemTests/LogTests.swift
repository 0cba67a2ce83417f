import Glibc
import Logging
import Testing

@testable import LinuxSystem

struct LogTests {
    @Test func whatOthersWroteCannotStartALineOrMoveACursor() {
        let line = LogText.line(
            label: "helper", message: "status command: a\nb\u{1b}[2J", fields: [("link", "x y\"z"), ("event", "")])
        #expect(line == "helper: status command: a\\nb\\u{1b}[2J link=\"x y\\\"z\" event=\"\"")
        #expect(!line.contains("\n"))
    }

    @Test func aLongValueCostsNoOther() {
        let long = String(repeating: "é", count: 10_000)
        let cut = LogText.cut(long)
        #expect(cut.utf8.count < 2600 && cut.hasPrefix("éé") && cut.hasSuffix("…"))
        #expect(LogText.cut("short") == "short")
    }

    @Test func jsonStaysJsonWhateverItSays() {
        let line = LogText.json(
            time: 1_700_000_000_123, level: "notice", label: "engine", message: "a\"b\\c\u{1}",
            fields: [("tunnel", "home")])
        #expect(
            line
                == #"{"time":"2023-11-14T22:13:20.123Z","level":"notice","process":"engine","message":"a\"b\\c\u0001","tunnel":"home"}"#
        )
    }

    @Test func timesAreUTCToTheMillisecond() {
        #expect(LogText.timestamp(0) == "1970-01-01T00:00:00.000Z")
        #expect(LogText.timestamp(951_782_400_007) == "2000-02-29T00:00:00.007Z")
    }

    @Test func settingsSurviveTheirWayThroughACommandLine() {
        let settings = LogSettings(format: .json, level: .debug, ident: "home")
        #expect(LogSettings(arguments: ["--user", "x"] + settings.arguments) == settings)
        #expect(LogSettings(arguments: ["--log-format", "nonsense", "--log-level"]) == LogSettings())
    }

    @Test func eachStepOfVerbosityIsLouder() {
        let levels = (-3...4).map { LogSettings.level(verbosity: $0) }
        #expect(levels == levels.sorted(by: >))
        #expect(LogSettings.level(verbosity: 0) == .notice)
    }
}

struct ConfigurationFileTests {
    /// A file with this mode, for the time of `body`.
    private func withFile(_ bytes: [UInt8], mode: mode_t, _ body: (String) throws -> Void) throws {
        var template = Array("/tmp/mlvpn-conf-XXXXXX".utf8CString)
        let fd = mkstemp(&template)
        let path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        defer {
            close(fd)
            unlink(path)
        }
        #expect(write(fd, bytes, bytes.count) == bytes.count)
        #expect(fchmod(fd, mode) == 0)
        try body(path)
    }

    @Test func aSecretThatOthersMayReadIsRefusedWithTheCommandThatClosesIt() throws {
        for mode: mode_t in [0o640, 0o604, 0o620, 0o601] {
            try withFile([1], mode: mode) { path in
                let error = #expect(throws: SystemError.self) { try ConfigurationFile.read(path, trust: .secret) }
                #expect(error?.hint.contains("chmod 600 \(path)") == true)
            }
        }
        try withFile([1, 2], mode: 0o600) { path in
            let bytes = try ConfigurationFile.read(path, trust: .secret)
            #expect(bytes == [1, 2])
        }
    }

    @Test func settingsThatOthersMayChangeAreRefused() throws {
        for mode: mode_t in [0o664, 0o646] {
            try withFile([1], mode: mode) { path in
                #expect(throws: SystemError.self) { try ConfigurationFile.read(path, trust: .rootOwned) }
            }
        }
        try withFile([], mode: 0o644) { path in
            let bytes = try ConfigurationFile.read(path, trust: .rootOwned)
            #expect(bytes == [])
        }
    }

    @Test func strangersFilesAreRefused() throws {
        try withFile([1], mode: 0o600) { path in
            #expect(chown(path, 65534, 65534) == 0)
            #expect(throws: SystemError.self) { try ConfigurationFile.read(path, trust: .secret) }
            #expect(throws: SystemError.self) { try ConfigurationFile.read(path, trust: .rootOwned) }
        }
    }

    @Test func whatIsNoFileOrTooLargeIsRefused() throws {
        #expect(throws: SystemError.self) { try ConfigurationFile.read("/no/such/file", trust: .rootOwned) }
        #expect(throws: SystemError.self) { try ConfigurationFile.read("/etc", trust: .rootOwned) }
        #expect(throws: SystemError.self) { try ConfigurationFile.read("/dev/zero", trust: .rootOwned) }
        let large = [UInt8](repeating: 0x23, count: ConfigurationFile.maximumBytes)
        try withFile(large, mode: 0o600) { path in
            let bytes = try ConfigurationFile.read(path, trust: .secret)
            #expect(bytes == large)
        }
        try withFile(large + [0], mode: 0o600) { path in
            let error = #expect(throws: SystemError.self) { try ConfigurationFile.read(path, trust: .secret) }
            #expect(error?.code == EFBIG)
        }
    }
}
