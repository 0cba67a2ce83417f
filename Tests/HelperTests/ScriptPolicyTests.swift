import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import Testing
import TunnelModel

@testable import Helper

/// A directory that is root's alone on its whole way, which /tmp is not.
final class RootDirectory {
    let path: String

    init() throws {
        var template = Array("/run/mlvpn-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError.last("make a directory in /run; the tests need root") }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit { remove(path) }

    private func remove(_ path: String) {
        if let directory = opendir(path) {
            while let entry = readdir(directory) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                if name != "." && name != ".." { remove(path + "/" + name) }
            }
            closedir(directory)
        }
        Glibc.remove(path)
    }

    @discardableResult
    func file(_ name: String, _ text: String = "#!/bin/sh\n", mode: mode_t = 0o700) -> String {
        let file = path + "/" + name
        let fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o700)
        let bytes = Array(text.utf8)
        #expect(write(fd, bytes, bytes.count) == bytes.count)
        #expect(fchmod(fd, mode) == 0)
        close(fd)
        return file
    }
}

struct ScriptPolicyTests {
    private let directory: RootDirectory
    private var policy: ScriptPolicy

    init() throws {
        directory = try RootDirectory()
        policy = ScriptPolicy(directory: directory.path)
    }

    private func refusal(_ path: String, _ policy: ScriptPolicy? = nil) -> String? {
        do {
            _ = try (policy ?? self.policy).check(path)
            return nil
        } catch {
            return error.description
        }
    }

    @Test func aScriptOfRootsAloneRuns() throws {
        let path = directory.file("up.sh")
        #expect(try policy.check(path) == path)
        #expect(try ScriptPolicy(directory: nil).check(path) == path)
    }

    @Test(arguments: [0o710, 0o704, 0o701, 0o750, 0o777, 0o720] as [mode_t])
    func aScriptThatOthersMayReachIsRefusedWithTheCommandThatHelps(mode: mode_t) {
        let path = directory.file("up.sh", mode: mode)
        #expect(refusal(path)?.contains("chmod 700 \(path)") == true)
    }

    @Test func aScriptThatIsNotExecutableIsRefused() {
        #expect(refusal(directory.file("up.sh", mode: 0o600))?.contains("not executable") == true)
    }

    @Test func aStrangersScriptIsRefused() {
        let path = directory.file("up.sh")
        #expect(chown(path, 65534, 65534) == 0)
        #expect(refusal(path)?.contains("chown root") == true)
    }

    @Test func whatIsNotAFileIsRefused() {
        #expect(refusal(directory.path + "/missing")?.contains("cannot be found") == true)
        let folder = directory.path + "/folder"
        #expect(mkdir(folder, 0o700) == 0)
        #expect(refusal(folder)?.contains("not a regular file") == true)
        let fifo = directory.path + "/fifo"
        #expect(mkfifo(fifo, 0o700) == 0)
        #expect(refusal(fifo)?.contains("not a regular file") == true)
    }

    @Test func nothingOutsideTheScriptDirectoryRuns() throws {
        let other = try RootDirectory()
        let path = other.file("up.sh")
        #expect(refusal(path)?.contains("script_dir") == true)
        #expect(
            refusal(directory.path + "/../" + String(path.dropFirst("/run/".count)))?.contains("script_dir") == true)
        let link = directory.path + "/link.sh"
        #expect(symlink(path, link) == 0)
        #expect(refusal(link)?.contains("script_dir") == true)
        // A name that only begins like the directory's.
        #expect(refusal(path, ScriptPolicy(directory: String(other.path.dropLast())))?.isEmpty == false)
        #expect(refusal("/bin/sh") != nil)
    }

    @Test func aLinkWithinTheDirectoryRunsAsWhatItIs() throws {
        let path = directory.file("up.sh")
        let link = directory.path + "/link.sh"
        #expect(symlink("up.sh", link) == 0)
        #expect(try policy.check(link) == path)
    }

    @Test func aDirectoryThatOthersMayChangeIsRefused() {
        let path = directory.file("up.sh")
        #expect(chmod(directory.path, 0o775) == 0)
        #expect(refusal(path)?.contains("others than root can change") == true)
        #expect(chmod(directory.path, 0o755) == 0)
        #expect(chown(directory.path, 65534, 0) == 0)
        #expect(refusal(path)?.contains("others than root can change") == true)
        #expect(chown(directory.path, 0, 0) == 0)
        #expect(refusal(path) == nil)
    }
}

struct ScriptRunnerTests {
    private let directory: RootDirectory
    private let loop: EventLoop
    private var definition: TunnelDefinition
    private let link: LinkName

    init() throws {
        directory = try RootDirectory()
        loop = try EventLoop()
        link = try LinkName("adsl1")
        definition = TunnelDefinition(
            name: try TunnelName("home"), mode: .client, interface: try InterfaceName("ml0"),
            password: try Password([1]))
        definition.links = [LinkDefinition(name: link)]
        definition.ip4 = try CIDR("10.0.0.1/30", field: "")
    }

    private final class Reports {
        var texts: [String?] = []
        var told: [ToldScripts] = []
    }

    private func makeRunner(_ reports: Reports, undone: @escaping () -> Void = {}) -> ScriptRunner {
        ScriptRunner(
            loop: loop, children: Children(loop: loop), policy: ScriptPolicy(directory: directory.path),
            log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, report: { reports.texts.append($0) },
            tell: { reports.told.append($0) }, undone: undone)
    }

    private func log() -> String {
        (try? ConfigurationFile.read(directory.path + "/log", trust: .secret))
            .map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    @Test func scriptsRunOneAtATimeWithTheirEnvironmentAndAreUndoneAtTheEnd() throws {
        directory.file("log", "", mode: 0o600)
        var definition = definition
        definition.statusCommand = directory.file(
            "up.sh",
            "#!/bin/sh\necho \"begin $* $IP4 $DEVICE $PWD ${HOME-none}\" >> \(directory.path)/log\n"
                + "echo end >> \(directory.path)/log\n")
        let reports = Reports()
        let runner = makeRunner(reports)
        runner.configure(definition)
        runner.set(link, isUp: true)
        runner.stop(each: .seconds(60), limit: .seconds(60)) { loop.stop() }
        try loop.run()
        // The first run had begun when the end came; the device was never told of.
        let lines = log().split(separator: "\n").map(String.init)
        #expect(lines.count == 4)
        #expect(lines.first?.hasPrefix("begin ml0 rtun_up adsl1 10.0.0.1/30 ml0 / none") == true)
        #expect(reports.told.first?.links == [link] && reports.told.first?.running != nil)
        #expect(reports.told.last == ToldScripts())
        #expect(lines[1] == "end" && lines[2].hasPrefix("begin ml0 rtun_down adsl1") && lines[3] == "end")
        #expect(reports.texts.allSatisfy { $0 == nil })
    }

    @Test func aRefusedScriptIsReportedAndRunsOnceItIsMended() throws {
        let path = directory.file("up.sh", "#!/bin/sh\necho \"$2\" >> \(directory.path)/log\n", mode: 0o755)
        directory.file("log", "", mode: 0o600)
        var definition = definition
        definition.statusCommand = path
        let reports = Reports()
        let runner = makeRunner(reports)
        runner.configure(definition)
        #expect(reports.texts.last??.contains("chmod 700") == true)
        runner.set(link, isUp: true)
        #expect(log() == "")
        #expect(chmod(path, 0o700) == 0)
        // What it has missed it is told now.
        runner.configure(definition)
        #expect(reports.texts.last == .some(nil))
        let limit = Clock.now() + .seconds(20)
        while log() != "rtun_up\ntuntap_up\n" {
            try #require(Clock.now() < limit)
            try loop.turn()
        }
        runner.stop(each: .seconds(60), limit: .seconds(60)) { loop.stop() }
        try loop.run()
        #expect(log().hasSuffix("tuntap_up\nrtun_down\ntuntap_down\n"))
    }

    @Test func aScriptThatHangsDoesNotKeepTheEndWaiting() throws {
        var definition = definition
        definition.statusCommand = directory.file("up.sh", "#!/bin/sh\nsleep 1000\n")
        let runner = makeRunner(Reports())
        runner.configure(definition)
        runner.set(link, isUp: true)
        runner.stop(each: .seconds(60), limit: .milliseconds(50)) { loop.stop() }
        try loop.run()
    }

    /// Nor does it keep what comes after it from being run.
    @Test func atTheEndOneScriptThatHangsCostsNoOther() throws {
        directory.file("log", "", mode: 0o600)
        var definition = definition
        definition.statusCommand = directory.file(
            "up.sh", "#!/bin/sh\necho $2 >> \(directory.path)/log\n[ $2 = tuntap_down ] || sleep 1000\n")
        let runner = makeRunner(Reports())
        runner.configure(definition)
        runner.set(link, isUp: true)
        let limit = Clock.now() + .seconds(20)
        while log() != "rtun_up\n" {
            try #require(Clock.now() < limit)
            try loop.turn()
        }
        runner.stop(each: .seconds(2), limit: .seconds(60)) { loop.stop() }
        try loop.run()
        #expect(log() == "rtun_up\nrtun_down\n")
    }

    /// Whoever configures a device without a script does so once the script has taken its own back.
    @Test func theEndOfAScriptsWorkIsTold() throws {
        directory.file("log", "", mode: 0o600)
        var definition = definition
        definition.statusCommand = directory.file("up.sh", "#!/bin/sh\necho $2 >> \(directory.path)/log\n")
        var undone: [String] = []
        let runner = makeRunner(Reports()) { [self] in undone.append(log()) }
        runner.configure(definition)
        runner.set(link, isUp: true)
        let limit = Clock.now() + .seconds(20)
        while log() != "rtun_up\ntuntap_up\n" {
            try #require(Clock.now() < limit)
            try loop.turn()
        }
        #expect(undone.isEmpty)
        definition.statusCommand = nil
        runner.configure(definition)
        while undone.isEmpty {
            try #require(Clock.now() < limit)
            try loop.turn()
        }
        #expect(undone == ["rtun_up\ntuntap_up\nrtun_down\ntuntap_down\n"])
    }

    @Test func outputIsCutIntoLinesAndBounded() {
        var splitter = LineSplitter()
        #expect(splitter.append(Array("one\ntwo".utf8)) == ["one"])
        #expect(splitter.append(Array(" and\n".utf8)) == ["two and"])
        #expect(splitter.finish() == nil)
        _ = splitter.append(Array("rest".utf8))
        #expect(splitter.finish() == "rest")
        var long = LineSplitter()
        let lines = long.append([UInt8](repeating: 0x61, count: 1 << 20) + [10])
        #expect(lines.map(\.utf8.count) == [1024])
        var many = LineSplitter()
        let kept = many.append(Array(String(repeating: "x\n", count: 10_000).utf8))
        #expect(kept.count == 501 && kept.last == "(the rest of its output is not logged)")
    }
}
