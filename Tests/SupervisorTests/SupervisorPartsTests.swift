import Glibc
import LinuxSystem
import ProcessChannel
import Testing
import TunnelModel

@testable import Supervisor

/// A directory under /run, which is root's alone, removed with its files.
final class ScratchDirectory {
    let path: String

    init() throws {
        var template = Array("/run/mlvpn-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError.last("make a directory in /run; the tests need root") }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit {
        for name in names(in: path) {
            for inner in names(in: path + "/" + name) { remove(path + "/" + name + "/" + inner) }
            remove(path + "/" + name)
        }
        remove(path)
    }

    private func names(in path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }
}

private func status(_ path: String) -> stat {
    var status = stat()
    #expect(lstat(path, &status) == 0)
    return status
}

struct PriorityTests {
    /// A flood of packets must not lock the administrator out.
    @Test func theEngineGoesBeforeAllOthersOnlyWhereTheyAreLeftAProcessor() {
        var settings = SupervisorSettings()
        #expect(settings.enginePriority == .high)
        settings.workers = UInt32(availableProcessors())
        #expect(settings.enginePriority == .high)
        if availableProcessors() > 1 {
            settings.workers -= 1
            #expect(settings.enginePriority == .realtime)
        }
        settings.priority = .normal
        #expect(settings.enginePriority == .normal)
    }
}

struct SlotPoolTests {
    @Test func slotsAreGivenOnceAndThoseGivenBackComeLast() {
        var pool = SlotPool(capacity: 3)
        #expect(pool.take() == 0)
        pool.giveBack(0)
        #expect([pool.take(), pool.take(), pool.take()] == [1, 2, 0])
        #expect(pool.take() == nil)
        pool.giveBack(2)
        pool.giveBack(1)
        #expect([pool.take(), pool.take()] == [2, 1])
        #expect(pool.take() == nil)
    }
}

struct DirectoriesTests {
    @Test func missingDirectoriesAreMadeWithTheirOwners() throws {
        let scratch = try ScratchDirectory()
        let mask = umask(0o077)
        defer { umask(mask) }
        let run = scratch.path + "/run"
        try Directories.makeRoots(run)
        try Directories.makeRoots(run)
        #expect(status(run).st_uid == 0 && status(run).st_mode & 0o777 == 0o755)
        let state = scratch.path + "/state"
        let account = Account(name: "nobody", userID: 65534, groupID: 65534)
        try Directories.makePrivate(state, for: account)
        try Directories.makePrivate(state, for: account)
        #expect(status(state).st_uid == 65534 && status(state).st_mode & 0o777 == 0o700)
    }

    @Test func anEmptyDirectoryOfRootsIsHandedOverAndOthersAreRefused() throws {
        let scratch = try ScratchDirectory()
        let account = Account(name: "nobody", userID: 65534, groupID: 65534)
        let state = scratch.path + "/state"
        #expect(mkdir(state, 0o755) == 0)
        try Directories.makePrivate(state, for: account)
        #expect(status(state).st_uid == 65534)
        #expect(chown(state, 1, 1) == 0)
        let error = #expect(throws: StartFailure.self) { try Directories.makePrivate(state, for: account) }
        #expect(error?.description.contains("chown -R nobody \(state)") == true)
        #expect(chown(state, 0, 0) == 0)
        #expect(mkdir(state + "/full", 0o755) == 0)
        #expect(throws: StartFailure.self) { try Directories.makePrivate(state, for: account) }
    }

    @Test func directoriesThatOthersMayChangeAndWhatIsNoneAreRefused() throws {
        let scratch = try ScratchDirectory()
        let run = scratch.path + "/run"
        #expect(mkdir(run, 0o755) == 0)
        #expect(chmod(run, 0o777) == 0)
        let error = #expect(throws: StartFailure.self) { try Directories.makeRoots(run) }
        #expect(error?.description.contains("chmod 755 \(run)") == true)
        let link = scratch.path + "/link"
        #expect(symlink("/tmp", link) == 0)
        #expect(throws: StartFailure.self) { try Directories.makeRoots(link) }
        #expect(throws: (any Error).self) { try Directories.makeRoots("/proc/nothing/here") }
    }
}

struct InstanceLockTests {
    @Test func aLockThatIsNotRootsOwnFileIsRefused() throws {
        let scratch = try ScratchDirectory()
        let path = scratch.path + "/lock"
        #expect(symlink("/etc/passwd", path) == 0)
        #expect(throws: SystemError.self) { try InstanceLock(path: path, purpose: "x") }
        unlink(path)
        #expect(mkfifo(path, 0o600) == 0)
        #expect(throws: StartFailure.self) { try InstanceLock(path: path, purpose: "x") }
        unlink(path)
        do { _ = try InstanceLock(path: path, purpose: "x") }
        #expect(chown(path, 65534, 65534) == 0)
        #expect(throws: StartFailure.self) { try InstanceLock(path: path, purpose: "x") }
    }
}

struct ControlSocketTests {
    @Test func theSocketIsForRootAndTheGroupAndReplacesAStaleOne() throws {
        let scratch = try ScratchDirectory()
        let path = scratch.path + "/control.sock"
        do { _ = try ControlSocket.listen(path: path, group: 65534) }
        let socket = try ControlSocket.listen(path: path, group: 65534)
        let found = status(path)
        #expect(found.st_mode & S_IFMT == S_IFSOCK && found.st_mode & 0o777 == 0o660)
        #expect(found.st_uid == 0 && found.st_gid == 65534)
        // It is served now.
        #expect(throws: StartFailure.self) { _ = try ControlSocket.listen(path: path, group: 65534) }
        _ = socket.raw
        #expect(throws: SystemError.self) {
            _ = try ControlSocket.listen(path: "/" + String(repeating: "x", count: 120), group: 0)
        }
    }
}

struct TunnelTests {
    private func make(_ change: (inout TunnelDefinition) throws -> Void = { _ in }) throws -> CompiledTunnel {
        var definition = TunnelDefinition(
            name: try TunnelName("home"), mode: .server, interface: try InterfaceName("ml0"),
            password: try Password(Array("geheim".utf8)))
        for (name, port) in [("adsl1", 5080), ("wifi", 5081)] {
            var link = LinkDefinition(name: try LinkName(name))
            link.bind = try BindAddress(":\(port)", field: "")
            definition.links.append(link)
        }
        try change(&definition)
        return CompiledTunnel(definition: definition, filterPrograms: [])
    }

    /// With its device and both sockets.
    private func makeWhole() throws -> Tunnel {
        let tunnel = Tunnel(id: 1, slot: 0, generation: 1, compiled: try make())
        let features = DeviceFeatures(hasVirtioHeader: true, tcpSegmentation: true, udpSegmentation: true)
        tunnel.device = HeldDevice(
            OwnedDescriptor(owning: open("/dev/null", O_RDWR | O_CLOEXEC)), features: features,
            identity: DeviceIdentity(tunnel.definition))
        for link in tunnel.definition.links {
            tunnel.sockets[link.name] = HeldSocket(
                OwnedDescriptor(owning: open("/dev/null", O_RDWR | O_CLOEXEC)), bind: link.bind, isIPv6: false)
            tunnel.states[link.name] = .up
            tunnel.addresses[link.name] = []
        }
        return tunnel
    }

    @Test func aChangeThatConcernsNeitherDeviceNorSocketsKeepsThem() throws {
        let tunnel = try makeWhole()
        tunnel.compiled = try make {
            $0.mtu = 1300
            $0.password = try Password([1, 2])
            $0.ip4 = try CIDR("10.0.0.1/30", field: "")
        }
        tunnel.dropStale()
        #expect(tunnel.device != nil && tunnel.sockets.count == 2 && tunnel.states.count == 2)
    }

    @Test func onlyWhatTheNewDefinitionHasNoUseForIsGivenUp() throws {
        let tunnel = try makeWhole()
        let wifi = try LinkName("wifi")
        tunnel.compiled = try make { $0.links[1].bind = try BindAddress("127.0.0.1:5081", field: "") }
        tunnel.dropStale()
        #expect(tunnel.device != nil && tunnel.sockets[wifi] == nil && tunnel.sockets.count == 1)
        tunnel.compiled = try make {
            $0.interface = try InterfaceName("ml1")
            $0.links.removeLast()
        }
        tunnel.dropStale()
        #expect(tunnel.device == nil && tunnel.states[wifi] == nil && tunnel.addresses[wifi] == nil)
    }

    @Test func aSuccessorOfAHelperIsToldWhatExists() throws {
        let tunnel = try makeWhole()
        #expect(tunnel.resume == nil)
        tunnel.helperKnows = tunnel.compiled
        let wifi = try LinkName("wifi")
        tunnel.toldUp = [wifi]
        let resume = try #require(tunnel.resume)
        #expect(resume.hasDevice && resume.sockets.count == 2 && resume.linksUp == [wifi])
        tunnel.releaseAll()
        #expect(tunnel.resume == nil && tunnel.isAtRest)
    }

    @Test func whoNeedsNoPasswordAndNoFiltersGetsNone() throws {
        var compiled = try make()
        compiled.definition.filters = [
            FilterDefinition(links: [compiled.definition.links[0].name], expression: "udp")
        ]
        compiled.filterPrograms = [[BPFInstruction(code: 6, jt: 0, jf: 0, k: 1)]]
        let helper = compiled.forHelper
        #expect(helper.definition.filters.isEmpty && helper.filterPrograms.isEmpty)
        #expect(helper.definition.password != compiled.definition.password)
        #expect(compiled.withoutSecret.definition.filters == compiled.definition.filters)
        #expect(helper.definition.links == compiled.definition.links)
    }

    @Test func linksAreFoundByTheirSlots() throws {
        let tunnel = try makeWhole()
        tunnel.linkSlots = [try LinkName("wifi"): 7, try LinkName("adsl1"): 9]
        #expect(tunnel.link(at: 7) == (try LinkName("wifi")) && tunnel.link(at: 8) == nil)
        #expect(tunnel.orderedLinkSlots.map(\.slot) == [9, 7])
    }
}
