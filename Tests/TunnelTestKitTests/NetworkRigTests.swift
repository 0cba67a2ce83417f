import Glibc
import Testing
import TunnelTestKit

@Suite(.serialized) struct NetworkRigTests {
    @Test func aFailingCommandSaysWhatItWasAndWhatItSaid() throws {
        try NetworkRig.with { rig in
            let error = #expect(throws: RigError.self) { try rig.run(["sh", "-c", "echo out of paper; exit 3"]) }
            let text = error?.description ?? ""
            #expect(text.contains("exit code 3"))
            #expect(text.contains("out of paper"))
            #expect(throws: RigError.self) { try rig.start(["no-such-program-anywhere"]) }
        }
    }

    @Test func aCommandThatHangsIsEnded() throws {
        try NetworkRig.with { rig in
            let error = #expect(throws: RigError.self) {
                try rig.run(["sh", "-c", "echo $$ > \(rig.directory)/pid; sleep 1000"], within: .milliseconds(300))
            }
            #expect(error?.description.contains("in vain") == true)
            let pid = try #require(pid_t(try rig.run(["cat", "\(rig.directory)/pid"]).dropLast()))
            #expect(kill(pid, 0) == -1)
        }
    }

    @Test func wiredNamespacesReachEachOtherAndNoOneElse() throws {
        try NetworkRig.with { rig in
            let a = try rig.namespace("a")
            let b = try rig.namespace("b")
            try rig.wire(
                WireEnd(a, "eth0", "10.9.0.1/24", "fd00:9::1/64"), WireEnd(b, "eth0", "10.9.0.2/24", "fd00:9::2/64"))
            try rig.run(["ping", "-c1", "-W2", "10.9.0.1"], in: b)
            try rig.run(["ping", "-c1", "-W2", "fd00:9::2"], in: a)
            #expect(try !rig.succeeds(["ping", "-c1", "-W1", "10.9.0.1"]))
        }
    }

    @Test func tearDownLeavesNothing() throws {
        let rig = try NetworkRig()
        let namespace = try rig.namespace("gone")
        let stubborn = try rig.start(["sh", "-c", "trap '' TERM; sleep 1000 & wait; wait"], in: namespace)
        try waitUntil("its child", within: .seconds(5)) { namespace.processes.count == 2 }
        rig.tearDown()
        #expect(!stubborn.isRunning)
        #expect(namespace.processes.isEmpty)
        #expect(access("/run/netns/\(namespace.name)", F_OK) != 0)
        #expect(access(rig.directory, F_OK) != 0)
        rig.tearDown()
    }

    @Test func theNextRigRemovesWhatAKilledOneLeft() throws {
        // Process 1 has not started at tick 1, so this is the name of a rig of a process that is gone.
        let abandoned = "mlt-1-1-1-server"
        let rig = try NetworkRig()
        defer { rig.tearDown() }
        try rig.run(["ip", "netns", "add", abandoned])
        let process = try rig.start(["ip", "netns", "exec", abandoned, "sleep", "1000"])
        try waitUntil("the process in the namespace", within: .seconds(5)) {
            NetworkNamespace(name: abandoned).processes == [process.pid]
        }
        let next = try NetworkRig()
        next.tearDown()
        #expect(access("/run/netns/\(abandoned)", F_OK) != 0)
        #expect(try process.waitForExit(within: .seconds(5)) == .signalled(SIGKILL))
    }
}
