import Glibc
import Testing

@testable import LinuxSystem

struct EventLoopTests {
    @Test func aCounterWakesWhoWaitsAndIsResetByReading() throws {
        let loop = try EventLoop()
        let wake = try EventFD()
        var drained: UInt64 = 0
        _ = try loop.watch(wake.raw) { event in
            #expect(event.isReadable)
            drained = wake.drain()
        }
        wake.signal()
        wake.signal()
        try loop.turn()
        #expect(drained == 2)
        #expect(wake.drain() == 0)
    }

    @Test func timersFireInTheOrderOfTheirTimesAndNotWhenCancelled() throws {
        let loop = try EventLoop()
        var fired: [Int] = []
        loop.after(.milliseconds(2)) {
            fired.append(2)
            loop.stop()
        }
        loop.after(0) { fired.append(0) }
        let cancelled = loop.after(.milliseconds(1)) { fired.append(99) }
        loop.after(.milliseconds(1)) { fired.append(1) }
        loop.cancel(cancelled)
        try loop.run()
        #expect(fired == [0, 1, 2])
    }

    @Test func aHandlerMayRemoveAnotherThatIsReadyToo() throws {
        let loop = try EventLoop()
        let first = try EventFD()
        let second = try EventFD()
        var calls = 0
        var ids: [EventLoop.WatchID] = []
        for raw in [first.raw, second.raw] {
            ids.append(
                try loop.watch(raw) { _ in
                    calls += 1
                    for id in ids { loop.remove(id) }
                })
        }
        first.signal()
        second.signal()
        try loop.turn()
        #expect(calls == 1)
    }

    @Test func interestCanChange() throws {
        let loop = try EventLoop()
        let wake = try EventFD()
        var writable = 0
        let id = try loop.watch(wake.raw, .read) { event in if event.isWritable { writable += 1 } }
        loop.change(id, to: [.read, .write])
        try loop.turn()
        #expect(writable == 1)
    }

    @Test func aClosedDescriptorCannotBeWatched() throws {
        let loop = try EventLoop()
        #expect(throws: SystemError.self) { _ = try loop.watch(-1) { _ in } }
    }

    @Test func signalsArriveAsEventsWithTheirSender() throws {
        // Only this thread blocks the signal, and it goes to this thread.
        let signals = try SignalFD([SIGUSR2])
        pthread_kill(pthread_self(), SIGUSR2)
        let received = signals.next()
        #expect(received?.number == SIGUSR2 && received?.sender == getpid())
        #expect(signals.next() == nil)
        #expect(signalName(SIGSYS) == "SIGSYS" && signalName(SIGUSR2) == "signal \(SIGUSR2)")
    }
}

struct ChildProcessTests {
    /// Runs a shell command to its end; what it wrote to standard output comes back.
    private func shell(
        _ script: String, environment: [String] = [], change: (inout ChildProcess.Launch) -> Void = { _ in }
    ) throws -> (output: String, end: ProcessEnd) {
        let loop = try EventLoop()
        let children = Children(loop: loop)
        var ends: [Int32] = [-1, -1]
        #expect(pipe(&ends) == 0)
        var launch = ChildProcess.Launch(path: "/bin/sh", arguments: ["sh", "-c", script], environment: environment)
        launch.standardOutput = ends[1]
        change(&launch)
        let pid = try ChildProcess.start(launch)
        close(ends[1])
        var end: ProcessEnd?
        children.add(pid) {
            end = $0
            loop.stop()
        }
        var output: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(ends[0], &buffer, buffer.count)
            if count <= 0 { break }
            output += buffer.prefix(count)
        }
        close(ends[0])
        try loop.run()
        return (String(decoding: output, as: UTF8.self), try #require(end))
    }

    @Test func aProgramThatCannotBeExecutedIsAnErrorAtItsStart() {
        let launch = ChildProcess.Launch(path: "/no/such/program", arguments: ["x"], environment: [])
        let error = #expect(throws: SystemError.self) { try ChildProcess.start(launch) }
        #expect(error == SystemError(ENOENT, "start /no/such/program"))
    }

    @Test func aProgramSeesItsEnvironmentAndNoDescriptorButItsOwn() throws {
        let leaked = open("/dev/null", O_RDWR)
        defer { close(leaked) }
        let (output, end) = try shell(
            "echo $WORD; ls /proc/self/fd", environment: ["WORD=hello", "PATH=/bin:/usr/bin"])
        #expect(end == .exited(0))
        // The fourth is ls's own, of the directory.
        #expect(output == "hello\n0\n1\n2\n3\n")
    }

    @Test func aChannelBecomesDescriptorThree() throws {
        let file = open("/dev/zero", O_RDONLY | O_CLOEXEC)
        defer { close(file) }
        let (output, _) = try shell("readlink /proc/$$/fd/3 /proc/$$/fd/0") { $0.channel = file }
        #expect(output == "/dev/zero\n/dev/null\n")
    }

    @Test func signalsAreAtTheirDefaultsInAProgram() throws {
        let (output, _) = try shell("grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f2")
        let masks = output.split(separator: "\n").map { UInt64($0, radix: 16) }
        // 32 and 33 are the C library's own.
        #expect(masks.map { $0.map { $0 & ~(3 << 31) } } == [0, 0])
    }

    @Test func theWayOfAnEndIsKnown() throws {
        #expect(try shell("exit 7").end == .exited(7))
        #expect(try shell("kill -9 $$").end == .killed(signal: SIGKILL))
        #expect(ProcessEnd.killed(signal: SIGSYS).description.contains("system-call filter"))
        #expect(ProcessEnd.exited(3).description == "exited with code 3")
    }

    @Test func aLeaderOfASessionCanBeKilledWithItsChildren() throws {
        let loop = try EventLoop()
        let children = Children(loop: loop)
        var ends: [Int32] = [-1, -1]
        #expect(pipe(&ends) == 0)
        var launch = ChildProcess.Launch(
            path: "/bin/sh", arguments: ["sh", "-c", "sleep 1000 & echo started; wait"],
            environment: ["PATH=/bin:/usr/bin"])
        launch.standardOutput = ends[1]
        launch.leadsSession = true
        let pid = try ChildProcess.start(launch)
        close(ends[1])
        var byte: UInt8 = 0
        #expect(read(ends[0], &byte, 1) == 1)
        #expect(getsid(pid) == pid)
        kill(-pid, SIGKILL)
        children.add(pid) { _ in loop.stop() }
        try loop.run()
        // The end of the pipe: the grandchild that held it is gone too.
        var rest = [UInt8](repeating: 0, count: 64)
        while read(ends[0], &rest, rest.count) > 0 {}
        close(ends[0])
    }
}
