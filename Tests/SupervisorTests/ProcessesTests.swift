import Glibc
import Testing
import TunnelTestKit

/// The real programs, one tunnel without a peer: what `mlvpn -c` starts, keeps, changes and leaves behind.
///
/// The engine runs as nobody, an account that every system has.
@Suite(.serialized) struct ProcessesTests {
    private let configuration = """
        [general]
        mode = "server"
        interface_name = "mlt0"
        password = "pleasechangeme!"
        ip4 = "10.77.0.1/30"
        ip4_routes = "10.78.0.0/24"
        mtu = 1400
        [adsl1]
        bindport = 5080
        [wifi]
        bindhost = "127.0.0.1"
        bindport = 5081

        """

    /// `mlvpn` in a namespace of its own, ready.
    private final class Instance {
        let rig: NetworkRig
        let namespace: NetworkNamespace
        let path: String
        let process: RunningProcess

        init(_ rig: NetworkRig, _ configuration: String) throws {
            self.rig = rig
            namespace = try rig.namespace("a")
            try rig.ip(namespace, "link", "set", "lo", "up")
            path = try rig.file("home.conf", configuration)
            process = try rig.start(
                [try BuiltProgram.path("mlvpn"), "-c", path, "-u", "nobody", "--debug", "-v"], in: namespace)
            try waitUntil("the engine", within: .seconds(20)) { [process] in
                process.output.contains("supervisor: ready")
            }
            try waitUntil("the device", within: .seconds(20)) { () throws(RigError) in
                try show("address").contains("10.77.0.1")
            }
        }

        func show(_ what: String) throws(RigError) -> String {
            try rig.run(["ip", what, "show", "dev", "mlt0"], in: namespace)
        }

        /// Our processes with this short name, whatever their titles.
        func pids(_ name: String) -> [pid_t] {
            namespace.processes.filter { pid in
                let text = (try? rig.run(["cat", "/proc/\(pid)/comm"])) ?? ""
                return text == name + "\n"
            }
        }

        func onlyPid(_ name: String) throws -> pid_t {
            let found = pids(name)
            return try #require(found.count == 1 ? found[0] : nil, "\(found.count) processes \(name)")
        }

        func replace(_ name: String, after old: pid_t) throws -> pid_t {
            try poll("another \(name)", within: .seconds(20)) { [self] in pids(name).first { $0 != old } }
        }

        func write(_ text: String) throws { _ = try rig.file("home.conf", text) }

        func waitForLog(_ text: String, count: Int = 1) throws {
            try waitUntil("the log to say \(text)", within: .seconds(20)) { [process] in
                process.output.split(separator: "\n").filter { $0.contains(text) }.count >= count
            }
        }

        /// Processor time, in hundredths of a second (proc(5)).
        func ticks(of pid: pid_t) throws(RigError) -> Int {
            let text = try rig.run(["cat", "/proc/\(pid)/stat"])
            let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
            return fields.count > 12 ? (Int(fields[11]) ?? 0) + (Int(fields[12]) ?? 0) : 0
        }

        func field(_ name: String, of pid: pid_t) throws -> String {
            let status = try rig.run(["cat", "/proc/\(pid)/status"])
            let line = try #require(status.split(separator: "\n").first { $0.hasPrefix(name + ":") })
            return line.dropFirst(name.count + 1).split(whereSeparator: \.isWhitespace).joined(separator: " ")
        }
    }

    private func withInstance(_ body: (Instance) throws -> Void) throws {
        try NetworkRig.with { rig in try body(try Instance(rig, configuration)) }
    }

    @Test func theDeviceIsConfiguredAndTheSocketsAreBound() throws {
        try withInstance { instance in
            let address = try instance.show("address")
            #expect(address.contains("inet 10.77.0.1/30") && address.contains("mtu 1400") && address.contains(",UP"))
            let routes = try instance.rig.run(["ip", "route"], in: instance.namespace)
            #expect(routes.contains("10.78.0.0/24 dev mlt0"))
            let udp = try instance.rig.run(["cat", "/proc/net/udp"], in: instance.namespace)
            #expect(udp.contains("00000000:13D8") && udp.contains("0100007F:13D9"))
        }
    }

    @Test func theEngineHasNothingThatItDoesNotNeed() throws {
        try withInstance { instance in
            let engine = try instance.onlyPid("mlvpn-engine")
            #expect(try instance.field("Uid", of: engine) == "65534 65534 65534 65534")
            #expect(try instance.field("Groups", of: engine) == "")
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                #expect(try instance.field(set, of: engine) == "0000000000000000")
            }
            #expect(try instance.field("NoNewPrivs", of: engine) == "1")
            #expect(try instance.field("Seccomp", of: engine) == "2")
            let root = try instance.rig.run(["readlink", "/proc/\(engine)/root"])
            #expect(root == "/run/mlvpn/empty\n")
            #expect(try instance.rig.run(["ls", "-A", "/proc/\(engine)/root/"]) == "")
        }
    }

    @Test func theHelperHoldsNothingOfTheOthers() throws {
        try withInstance { instance in
            let helper = try instance.onlyPid("mlvpn-helper")
            let descriptors = try instance.rig.run(["sh", "-c", "readlink /proc/\(helper)/fd/*"])
            for line in descriptors.split(separator: "\n") {
                let isKnown = ["/dev/null", "anon_inode:", "socket:", instance.process.outputPath].contains {
                    line.hasPrefix($0)
                }
                #expect(isKnown, "\(line)")
            }
            #expect(descriptors.split(separator: "\n").filter { $0.hasPrefix("socket:") }.count == 1)
        }
    }

    /// What reads the log may end, or stop reading; the tunnel goes on.
    @Test(arguments: [
        "head -n 1", "python3 -c 'import fcntl, os; fcntl.fcntl(0, 1031, 4096); os.kill(os.getpid(), 19)'",
    ])
    func aLogThatNobodyReadsStopsNothing(reader: String) throws {
        // The engine traces every datagram that it sends, to a port where nobody listens.
        let text = configuration.replacing("\"server\"", with: "\"client\"").replacing(
            "[adsl1]", with: "[adsl1]\nremotehost = \"127.0.0.1\"\nremoteport = 6001"
        ).replacing("[wifi]", with: "[wifi]\nremotehost = \"127.0.0.1\"\nremoteport = 6002")
        try NetworkRig.with { rig in
            let namespace = try rig.namespace("a")
            try rig.ip(namespace, "link", "set", "lo", "up")
            let path = try rig.file("home.conf", text)
            let program = "\(try BuiltProgram.path("mlvpn")) -c \(path) -u nobody --debug -vvv -Dprotocol -Dnet -Drtt"
            let shell = try rig.start(["sh", "-c", "\(program) 2>&1 | \(reader)"], in: namespace)
            func pid(_ name: String) throws(RigError) -> pid_t {
                try poll(name, within: .seconds(20)) {
                    namespace.processes.first { (try? rig.run(["cat", "/proc/\($0)/comm"])) == name + "\n" }
                }
            }
            let engine = try pid("mlvpn-engine")
            let supervisor = try pid("mlvpn")
            for round in 1...20 {
                _ = try rig.file("home.conf", text.replacing("10.77.0.1", with: "10.77.\(round).1"))
                kill(supervisor, SIGHUP)
                try waitUntil("the new address", within: .seconds(20)) { () throws(RigError) in
                    try rig.run(["ip", "address"], in: namespace).contains("10.77.\(round).1/30")
                }
            }
            func sent() throws(RigError) -> Int {
                let counters = try rig.run(["cat", "/proc/net/snmp"], in: namespace)
                let udp = counters.split(separator: "\n").last { $0.hasPrefix("Udp: ") } ?? ""
                return udp.split(separator: " ").dropFirst(4).first.flatMap { Int($0) } ?? 0
            }
            let before = try sent()
            try waitUntil("three more datagrams", within: .seconds(30)) { () throws(RigError) in
                try sent() >= before + 3
            }
            #expect(try pid("mlvpn-engine") == engine)
            kill(supervisor, SIGTERM)
            try waitUntil("the end", within: .seconds(20)) { !namespace.processes.contains(supervisor) }
            shell.signalGroup(SIGKILL)
        }
    }

    @Test func aDeadEngineIsReplacedAndTheDeviceStays() throws {
        try withInstance { instance in
            let index = try instance.rig.run(["cat", "/sys/class/net/mlt0/ifindex"], in: instance.namespace)
            let engine = try instance.onlyPid("mlvpn-engine")
            kill(engine, SIGKILL)
            _ = try instance.replace("mlvpn-engine", after: engine)
            try instance.waitForLog("engine ready", count: 2)
            #expect(try instance.rig.run(["cat", "/sys/class/net/mlt0/ifindex"], in: instance.namespace) == index)
            #expect(try instance.show("address").contains("10.77.0.1/30"))
        }
    }

    @Test func aDeviceThatSomeoneDeletesIsMadeAgain() throws {
        try withInstance { instance in
            for round in 1...2 {
                let index = try instance.rig.run(["cat", "/sys/class/net/mlt0/ifindex"], in: instance.namespace)
                try instance.rig.ip(instance.namespace, "link", "del", "mlt0")
                try waitUntil("the device", within: .seconds(20)) { () throws(RigError) in
                    let addresses = try instance.rig.run(["ip", "address"], in: instance.namespace)
                    return addresses.contains("10.77.0.1/30")
                }
                #expect(try instance.rig.run(["cat", "/sys/class/net/mlt0/ifindex"], in: instance.namespace) != index)
                let routes = try instance.rig.run(["ip", "route"], in: instance.namespace)
                #expect(routes.contains("10.78.0.0/24 dev mlt0"))
                try instance.waitForLog("was deleted by someone else", count: round)
            }
            // The engine has it: it sleeps, and serves it.
            let engine = try instance.onlyPid("mlvpn-engine")
            try waitUntil("an engine at rest", within: .seconds(20)) { () throws(RigError) in
                let before = try instance.ticks(of: engine)
                try instance.rig.run(["sleep", "1"])
                return try instance.ticks(of: engine) - before < 10
            }
            #expect(instance.pids("mlvpn-engine") == [engine])
        }
    }

    @Test func aDeadHelperIsReplacedAndNothingIsMadeAgain() throws {
        try withInstance { instance in
            let index = try instance.rig.run(["cat", "/sys/class/net/mlt0/ifindex"], in: instance.namespace)
            let helper = try instance.onlyPid("mlvpn-helper")
            kill(helper, SIGKILL)
            let successor = try instance.replace("mlvpn-helper", after: helper)
            // It serves: a reload passes through it.
            try instance.write(configuration.replacing("mtu = 1400", with: "mtu = 1300"))
            kill(successor, SIGHUP)
            try waitUntil("the new MTU", within: .seconds(20)) { () throws(RigError) in
                try instance.show("link").contains("mtu 1300")
            }
            #expect(try instance.rig.run(["cat", "/sys/class/net/mlt0/ifindex"], in: instance.namespace) == index)
            #expect(!instance.process.output.contains("in use"))
        }
    }

    /// A helper that is slow may answer to an older definition than the one in force; the answer is as good.
    @Test func anAddressOfAnOlderDefinitionReachesTheEngine() throws {
        func client(_ remote: String, timeout: Int) -> String {
            """
            [general]
            mode = "client"
            interface_name = "mlt0"
            password = "pleasechangeme!"
            ip4 = "10.77.0.1/30"
            timeout = \(timeout)
            [adsl1]
            remotehost = "\(remote)"
            remoteport = 6001

            """
        }
        try NetworkRig.with { rig in
            // The name has no address, so the engine has none; at the address nobody listens.
            let instance = try Instance(rig, client("nowhere.invalid", timeout: 10))
            let helper = try instance.onlyPid("mlvpn-helper")
            kill(helper, SIGSTOP)
            for timeout in [10, 11] {
                try instance.write(client("127.0.0.1", timeout: timeout))
                instance.process.signal(SIGHUP)
                try instance.waitForLog("reloaded", count: timeout - 9)
            }
            kill(helper, SIGCONT)
            try waitUntil("datagrams to the address", within: .seconds(20)) { () throws(RigError) in
                let counters = try rig.run(["cat", "/proc/net/snmp"], in: instance.namespace)
                let udp = counters.split(separator: "\n").last { $0.hasPrefix("Udp: ") } ?? ""
                let noPorts = udp.split(separator: " ").dropFirst(2).first ?? "0"
                return noPorts != "0"
            }
        }
    }

    @Test(arguments: ["mlvpn", "mlvpn-helper", "mlvpn-engine", "mlvpn-control"])
    func hangUpToAnyProcessReadsTheFileAgainAndTermEndsAll(name: String) throws {
        let configuration = configuration.replacing(
            "mtu = 1400", with: "control_bind_host = \"127.0.0.1\"\ncontrol_bind_port = 1040")
        try NetworkRig.with { rig in
            let instance = try Instance(rig, configuration)
            try waitUntil("every process", within: .seconds(20)) { instance.pids("mlvpn-control").count == 1 }
            try instance.write(
                configuration.replacing("10.77.0.1", with: "10.77.0.5").replacing(
                    "bindport = 5081", with: "bindport = 5082"))
            kill(try instance.onlyPid(name), SIGHUP)
            try waitUntil("the new address", within: .seconds(20)) { () throws(RigError) in
                try instance.show("address").contains("10.77.0.5")
            }
            #expect(try !instance.show("address").contains("10.77.0.1/"))
            try waitUntil("the new port alone", within: .seconds(20)) { () throws(RigError) in
                let udp = try instance.rig.run(["cat", "/proc/net/udp"], in: instance.namespace)
                return udp.contains(":13DA") && !udp.contains(":13D9") && udp.contains(":13D8")
            }
            kill(try instance.onlyPid(name), SIGTERM)
            #expect(try instance.process.waitForExit(within: .seconds(20)) == .exited(0))
            #expect(instance.namespace.processes.isEmpty)
            #expect(try !instance.rig.succeeds(["ip", "link", "show", "mlt0"], in: instance.namespace))
        }
    }

    /// Ctrl-C reaches every process at once, and is one signal all the same: the scripts that undo are run.
    @Test func aSignalToAllProcessesStopsInOrder() throws {
        try NetworkRig.with { rig in
            let instance = try Instance(rig, configuration)
            let helper = try instance.onlyPid("mlvpn-helper")
            let engine = try instance.onlyPid("mlvpn-engine")
            for _ in 0..<2 {
                kill(helper, SIGINT)
                kill(engine, SIGINT)
            }
            instance.process.signalGroup(SIGINT)
            #expect(try instance.process.waitForExit(within: .seconds(20)) == .exited(0))
            #expect(!instance.process.output.contains("at once"), "\(instance.process.output)")
            #expect(instance.process.output.contains("SIGINT: stopping"))
        }
    }

    @Test(arguments: ["[general]\n", "\u{0}\u{1}garbage", ""])
    func anUnusableFileIsRefusedAndWhatRunsGoesOn(text: String) throws {
        try withInstance { instance in
            try instance.write(text)
            instance.process.signal(SIGHUP)
            try instance.waitForLog("not reloaded")
            #expect(try instance.show("address").contains("10.77.0.1/30"))
            #expect(instance.process.isRunning)
        }
    }

    @Test func anUnusableFileAtTheStartIsAnErrorWithItsLine() throws {
        try NetworkRig.with { rig in
            let program = try BuiltProgram.path("mlvpn")
            let path = try rig.file("home.conf", configuration.replacing("password =", with: "passwort ="))
            let error = #expect(throws: RigError.self) {
                try rig.run([program, "-c", path, "-u", "nobody", "--debug"])
            }
            #expect(error?.description.contains("exit code 1") == true)
            #expect(error?.description.contains("home.conf: line 1") == true)
            let open = try rig.file("open.conf", configuration, mode: 0o644)
            let refused = #expect(throws: RigError.self) {
                try rig.run([program, "-c", open, "-u", "nobody", "--debug"])
            }
            #expect(refused?.description.contains("chmod 600 \(open)") == true)
        }
    }

    @Test func wrongUsageIsExitCodeTwoAndUnknownUsersAreNamed() throws {
        try NetworkRig.with { rig in
            let program = try BuiltProgram.path("mlvpn")
            let usage = #expect(throws: RigError.self) { try rig.run([program, "--nonsense"]) }
            #expect(usage?.description.contains("exit code 2") == true)
            let path = try rig.file("home.conf", configuration)
            let user = #expect(throws: RigError.self) { try rig.run([program, "-c", path, "-u", "no-such-user"]) }
            #expect(user?.description.contains("useradd") == true)
            #expect(try rig.run([program, "-V"]).hasPrefix("mlvpn version "))
        }
    }

    @Test func aPersistentDeviceIsUsedAndLeftBehind() throws {
        try NetworkRig.with { rig in
            let namespace = try rig.namespace("a")
            try rig.run(["ip", "tuntap", "add", "mlt0", "mode", "tun"], in: namespace)
            let path = try rig.file("home.conf", configuration)
            let process = try rig.start(
                [try BuiltProgram.path("mlvpn"), "-c", path, "-u", "nobody", "--debug"], in: namespace)
            try waitUntil("the address", within: .seconds(20)) { () throws(RigError) in
                try rig.run(["ip", "address"], in: namespace).contains("10.77.0.1/30")
            }
            try waitUntil("the engine", within: .seconds(20)) { process.output.contains("supervisor: ready") }
            process.stop()
            #expect(process.exitStatus == .exited(0))
            #expect(try rig.succeeds(["ip", "link", "show", "mlt0"], in: namespace))
        }
    }

    @Test func whereStockGoesOnAWarningIsAll() throws {
        try NetworkRig.with { rig in
            let namespace = try rig.namespace("a")
            let path = try rig.file("home.conf", configuration)
            let process = try rig.start(
                [
                    try BuiltProgram.path("mlvpn"), "--conf", path, "-u", "root", "--yes", "-Dnonsense", "-n",
                    "_Home Office", "stray",
                ], in: namespace)
            try waitUntil("the engine", within: .seconds(20)) { process.output.contains("supervisor: ready") }
            for text in [
                "nobody takes the place of \"root\"", "\"nonsense\" is no token", "is l_Home_Office here",
                "argument \"stray\"",
            ] {
                #expect(process.output.contains(text), "\(process.output)")
            }
            let titles = try namespace.processes.map { try rig.run(["cat", "/proc/\($0)/cmdline"]) }
            #expect(titles.contains { $0.hasPrefix("mlvpn: l_Home_Office [priv]") }, "\(titles)")
            process.stop()
            #expect(process.exitStatus == .exited(0))
        }
    }

    @Test func whatCannotBeHadIsReportedAndTakenOnceItCan() throws {
        try NetworkRig.with { rig in
            let namespace = try rig.namespace("a")
            try rig.ip(namespace, "link", "set", "lo", "up")
            try rig.ip(namespace, "link", "add", "mlt0", "type", "veth")
            let path = try rig.file(
                "home.conf", configuration.replacing("bindhost = \"127.0.0.1\"", with: "bindhost = \"10.99.0.1\""))
            let process = try rig.start(
                [try BuiltProgram.path("mlvpn"), "-c", path, "-u", "nobody", "--debug"], in: namespace)
            try waitUntil("both problems", within: .seconds(20)) {
                process.output.contains("another device (kind veth)")
                    && process.output.contains("no interface has this address")
            }
            try rig.ip(namespace, "link", "del", "mlt0")
            try rig.ip(namespace, "address", "add", "10.99.0.1/32", "dev", "lo")
            try waitUntil("the end of the problems", within: .seconds(30)) {
                process.output.split(separator: "\n").filter { $0.contains("that is over now") }.count == 2
            }
            #expect(try rig.run(["ip", "-d", "link", "show", "mlt0"], in: namespace).contains("tun type tun"))
        }
    }
}
