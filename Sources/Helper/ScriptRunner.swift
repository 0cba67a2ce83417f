import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import TunnelModel

/// Runs status commands, one at a time, and logs what they print.
final class ScriptRunner {
    /// A script that runs longer is killed with everything in its process group.
    static let timeLimit = UInt64.seconds(60)
    private static let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    private let loop: EventLoop
    private let children: Children
    private let policy: ScriptPolicy
    private let log: Logger
    /// Called with why the script cannot be run, or nil once it could.
    private let report: (String?) -> Void
    /// Called with what scripts have been told, for a successor.
    private let tell: (ToldScripts) -> Void
    /// Called once another definition's work has been undone.
    private let undone: () -> Void
    private var isUndoing = false

    private var ledger = ScriptLedger()
    private var running: RunningScript?
    /// Scripts that have ended, and whose output others still hold: what they left running. Oldest first.
    private var lingering: [RunningScript] = []
    private static let maximumLingering = 16
    private var whenIdle: (() -> Void)?
    private var lastLimit = ScriptRunner.timeLimit
    /// A predecessor's script that still runs.
    private var orphan: pid_t?
    /// Until the event that could not be run is tried again.
    private var retry: EventLoop.TimerID?
    private var backoff = ScriptRunner.firstBackoff
    private static let firstBackoff = Backoff(first: .seconds(1), limit: .seconds(60))

    init(
        loop: EventLoop, children: Children, policy: ScriptPolicy, log: Logger, report: @escaping (String?) -> Void,
        tell: @escaping (ToldScripts) -> Void, undone: @escaping () -> Void = {}
    ) {
        self.loop = loop
        self.children = children
        self.policy = policy
        self.log = log
        self.report = report
        self.tell = tell
        self.undone = undone
    }

    func resume(_ context: ScriptContext?, linksUp: [LinkName], told: ToldScripts) {
        ledger = ScriptLedger(
            context: context, linksUp: linksUp, toldLinks: told.links, toldDevice: told.device)
        guard let pid = told.running else { return }
        // Nobody's child any more, but one at a time holds for it as well.
        orphan = pid
        let timer = loop.after(Self.timeLimit) { Glibc.kill(-pid, SIGKILL) }
        children.add(pid) { [weak self, loop] _ in
            loop.cancel(timer)
            self?.orphan = nil
            self?.tellTold()
            self?.proceed()
        }
    }

    private func tellTold() {
        let told = ledger.told
        tell(ToldScripts(links: told.links, device: told.device, running: running?.pid ?? orphan))
    }

    /// The definition in force: its script, and its links.
    func configure(_ definition: TunnelDefinition) {
        ledger.keep(only: Set(definition.links.map(\.name)))
        let context = ScriptContext(definition)
        ledger.set(context)
        if let context { reportRefusal(of: context.path) } else { report(nil) }
        tryNow()
    }

    func set(_ link: LinkName, isUp: Bool) {
        ledger.set(link, isUp: isUp)
        proceed()
    }

    /// What scripts did to the device before is gone.
    func deviceWasMade() {
        ledger.startOver()
        proceed()
    }

    /// Tells the scripts that all is down, then calls `done`; after `limit` nanoseconds in any case.
    ///
    /// - Parameter each: how long one script may take now.
    func stop(each: UInt64, limit: UInt64, done: @escaping () -> Void) {
        ledger.allDown()
        whenIdle = done
        lastLimit = each
        loop.after(limit) { [weak self] in
            guard let self, let done = whenIdle else { return }
            running?.kill()
            if let orphan { Glibc.kill(-orphan, SIGKILL) }
            log.error("the status commands did not end in time", metadata: ["seconds": "\(limit / 1_000_000_000)"])
            whenIdle = nil
            done()
        }
        limitLast()
        tryNow()
    }

    /// At the end less time is given: whoever ends everything waits for it.
    private func limitLast() {
        guard let pid = running?.pid ?? orphan else { return }
        loop.after(lastLimit) { [weak self] in
            guard let self, pid == running?.pid ?? orphan else { return }
            log.error(
                "status command runs too long for the end and is killed",
                metadata: ["event": "\(running?.event ?? "")", "seconds": "\(lastLimit / 1_000_000_000)"])
            Glibc.kill(-pid, SIGKILL)
        }
    }

    private func tryNow() {
        if let retry { loop.cancel(retry) }
        retry = nil
        backoff = Self.firstBackoff
        proceed()
    }

    private func proceed() {
        guard running == nil, orphan == nil, retry == nil else { return }
        var before = ledger
        while let event = ledger.next() {
            if start(event) { return backoff.succeeded() }
            // An event that was not run was not told. What only undoes another definition's work is not waited for, and
            // at the end nothing is.
            if whenIdle == nil, ledger.isCurrent(event) {
                ledger = before
                retry = loop.after(backoff.failed()) { [weak self] in
                    self?.retry = nil
                    self?.proceed()
                }
                return
            }
            before = ledger
        }
        if isUndoing {
            isUndoing = false
            undone()
        }
        guard let done = whenIdle else { return }
        whenIdle = nil
        done()
    }

    private func reportRefusal(of path: String) {
        do { _ = try policy.check(path) } catch {
            report(error.description)
            return
        }
        report(nil)
    }

    /// Whether it runs now.
    private func start(_ event: ScriptEvent) -> Bool {
        let script: String
        do {
            script = try policy.check(event.context.path)
        } catch {
            report(error.description)
            log.info("not run: \(error)", metadata: ["event": "\(event.arguments.joined(separator: " "))"])
            return false
        }
        report(nil)
        var launch = ChildProcess.Launch(
            path: script, arguments: [event.context.path, event.context.interface] + event.arguments,
            environment: [Self.path] + event.context.environment)
        launch.leadsSession = true
        do {
            let output = try OutputPipe()
            launch.standardOutput = output.writeEnd
            launch.standardError = output.writeEnd
            let pid = try ChildProcess.start(launch)
            let name = event.arguments.joined(separator: " ")
            log.info("status command started", metadata: ["event": "\(name)", "pid": "\(pid)"])
            running = RunningScript(pid: pid, event: name, output: output, loop: loop, log: log) { [weak self] in
                self?.overrun()
            }
            children.add(pid) { [weak self] end in self?.ended(end) }
            if !ledger.isCurrent(event) { isUndoing = true }
            if whenIdle != nil { limitLast() }
            tellTold()
            return true
        } catch {
            report("status command \(quoted(event.context.path)): \(error); it is tried again")
            return false
        }
    }

    private func overrun() {
        guard let running else { return }
        log.error(
            "status command runs too long and is killed",
            metadata: ["event": "\(running.event)", "seconds": "\(Self.timeLimit / 1_000_000_000)"])
        running.kill()
    }

    private func ended(_ end: ProcessEnd) {
        guard let script = running else { return }
        running = nil
        if script.finish(whenOutputEnds: { [weak self] in self?.lingering.removeAll { $0 === script } }) == .held {
            // One that writes must not find its pipe closed, as long as there are not too many.
            if lingering.count == Self.maximumLingering { lingering.removeFirst().abandon() }
            lingering.append(script)
        }
        if end.isSuccess {
            log.info("status command done", metadata: ["event": "\(script.event)"])
        } else {
            log.warning("status command \(end)", metadata: ["event": "\(script.event)"])
        }
        tellTold()
        proceed()
    }
}

/// A script under way: its output, line by line to the log, and its time limit.
private final class RunningScript {
    let event: String
    let pid: pid_t
    private let loop: EventLoop
    private let log: Logger
    private let output: OutputPipe
    private var lines = LineSplitter()
    private var watch: EventLoop.WatchID?
    private var timer: EventLoop.TimerID?
    private var outputEnded: (() -> Void)?

    init(
        pid: pid_t, event: String, output: OutputPipe, loop: EventLoop, log: Logger, overrun: @escaping () -> Void
    ) {
        self.pid = pid
        self.event = event
        self.output = output
        self.loop = loop
        self.log = log
        output.closeWriteEnd()
        timer = loop.after(ScriptRunner.timeLimit, overrun)
        do {
            watch = try loop.watch(output.readEnd) { [weak self] _ in self?.read() }
        } catch {
            log.error("the status command's output is lost", metadata: ["error": "\(error)"])
        }
    }

    /// The whole group: a script's children go with it.
    func kill() { Glibc.kill(-pid, SIGKILL) }

    enum Output { case ended, held }

    /// The script has ended; its output has as well, or someone else holds it.
    func finish(whenOutputEnds: @escaping () -> Void) -> Output {
        if let timer { loop.cancel(timer) }
        timer = nil
        read()
        guard watch != nil else { return .ended }
        outputEnded = whenOutputEnds
        return .held
    }

    /// Reads no more.
    func abandon() {
        lines.finish().map(show)
        if let watch { loop.remove(watch) }
        watch = nil
        outputEnded = nil
    }

    private func read() {
        while let bytes = output.read() {
            guard !bytes.isEmpty else {
                let ended = outputEnded
                abandon()
                ended?()
                return
            }
            for line in lines.append(bytes) { show(line) }
        }
    }

    private func show(_ line: String) {
        log.notice("status command: \(line)", metadata: ["event": "\(event)"])
    }
}

/// Cuts output into lines, within bounds: of one run's output, 500 lines of at most 1024 bytes are kept.
struct LineSplitter {
    private var partial: [UInt8] = []
    private var count = 0
    private static let maximumBytes = 1024
    private static let maximumLines = 500

    mutating func append(_ bytes: [UInt8]) -> [String] {
        var lines: [String] = []
        for byte in bytes {
            if byte == UInt8(ascii: "\n") {
                if let line = take() { lines.append(line) }
            } else if partial.count < Self.maximumBytes {
                partial.append(byte)
            }
        }
        return lines
    }

    /// What came without a line's end.
    mutating func finish() -> String? { partial.isEmpty ? nil : take() }

    private mutating func take() -> String? {
        defer { partial = [] }
        count += 1
        if count == Self.maximumLines + 1 { return "(the rest of its output is not logged)" }
        return count > Self.maximumLines ? nil : String(decoding: partial, as: UTF8.self)
    }
}

/// A pipe from a child; the reading end does not block.
final class OutputPipe {
    let readEnd: Int32
    private(set) var writeEnd: Int32

    init() throws(SystemError) {
        var ends: [Int32] = [-1, -1]
        if pipe(&ends) < 0 { throw .last("create a pipe") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
        readEnd = ends[0]
        writeEnd = ends[1]
    }

    func closeWriteEnd() {
        if writeEnd >= 0 { close(writeEnd) }
        writeEnd = -1
    }

    /// Some bytes, none at the end, nil when there are none at present.
    func read() -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = Glibc.read(readEnd, &buffer, buffer.count)
        if count < 0 { return errno == EAGAIN || errno == EINTR ? nil : [] }
        return Array(buffer.prefix(count))
    }

    deinit {
        closeWriteEnd()
        close(readEnd)
    }
}
