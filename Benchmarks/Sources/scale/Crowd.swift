import BenchmarkKit
import Foundation
import TunnelTestKit

/// A daemon with many tunnels, and their clients.
struct Crowd {
    let count: Int
    let directory: String
    let rig: NetworkRig
    private let site: Site

    init(count: Int, directory: String, rig: NetworkRig) throws {
        self.count = count
        self.directory = directory
        self.rig = rig
        site = try Site(in: rig, name: "scale", links: 2)
    }

    func measure(seconds: Int, rate: Int, size: Int) throws -> ScaleRow {
        let began = ContinuousClock.now
        let server = try Daemon(in: rig, site.server, programs: directory, name: "server")
        try server.importTunnels(count, rig: rig)
        let defined = elapsed(since: began)
        server.stop()
        try waitUntil("the devices to go", within: .seconds(60)) { () throws(RigError) in try devices() == 0 }
        // What ended is freed a little later.
        usleep(1_000_000)

        let kernelBefore = kernelMemory()
        var clients = try startClients(rate: 0, size: size)
        let started = ContinuousClock.now
        try server.launch()
        try waitUntil("all devices to be there", within: .seconds(120)) { () throws(RigError) in try devices() == count
        }
        let devicesUp = elapsed(since: started)
        try waitUntil("all links to be up", within: .seconds(120)) { () throws(RigError) in
            try upLinks(clients) == 2 * count
        }
        let linksUp = elapsed(since: started)
        progress("\(count) tunnels: devices \(devicesUp.text(2)) s, links \(linksUp.text(2)) s")

        // The start's own work is not the idle state's.
        usleep(3_000_000)
        let idle = try load("idle", clients, seconds: seconds)
        let cost = ProcessCost(of: site.server)
        let kernel = kernelMemory() - kernelBefore
        var busy: ScaleRow.Load?
        if rate > 0 {
            clients.stop()
            clients = try startClients(rate: rate, size: size)
            try waitUntil("all links to be up", within: .seconds(120)) { () throws(RigError) in
                try upLinks(clients) == 2 * count
            }
            usleep(3_000_000)
            busy = try load("busy", clients, seconds: seconds)
        }

        let stopping = ContinuousClock.now
        server.stop()
        let stopped = elapsed(since: stopping)
        clients.stop()
        let engine = cost.programs["mlvpn-engine"] ?? .init()
        return ScaleRow(
            tunnels: count, defineSeconds: defined, devicesSeconds: devicesUp, linksSeconds: linksUp,
            stopSeconds: stopped, processes: cost.processes, engineRSS: engine.resident / 1e6,
            helpersPSS: (cost.programs["mlvpn-helper"]?.memory ?? 0) / 1e6,
            controlPSS: (cost.programs["mlvpn-control"]?.memory ?? 0) / 1e6,
            supervisorPSS: (cost.programs["mlvpnd"]?.memory ?? 0) / 1e6, allMemory: cost.memory / 1e6,
            kernel: kernel / 1e6, idle: idle, busy: busy)
    }

    private func load(_ name: String, _ clients: RunningProcess, seconds: Int) throws -> ScaleRow.Load {
        let before = ProcessCost(of: site.server)
        let counted = try counters(clients)
        let start = ContinuousClock.now
        try waitUntil("the end of the measurement", within: .seconds(seconds + 30)) {
            usleep(100_000)
            return ContinuousClock.now - start >= .seconds(seconds)
        }
        let span = elapsed(since: start)
        let after = ProcessCost(of: site.server)
        let last = try counters(clients)
        func percent(_ program: String) -> Double {
            let spent = (after.programs[program]?.cpuSeconds ?? 0) - (before.programs[program]?.cpuSeconds ?? 0)
            return spent / span * 100
        }
        let sent = Double(last.sent - counted.sent)
        return ScaleRow.Load(
            name: name, cpu: (after.cpuSeconds - before.cpuSeconds) / span * 100, engine: percent("mlvpn-engine"),
            control: percent("mlvpn-control"), wakeUps: Double(after.switches - before.switches) / span,
            packets: sent / span, answered: Double(last.answered - counted.answered) / max(1, sent) * 100)
    }

    // MARK: The server

    /// Devices of tunnels that are up.
    private func devices() throws(RigError) -> Int {
        let text = try rig.run(["ip", "-n", site.server.name, "-o", "link", "show", "up"])
        return text.split(separator: "\n").count { $0.contains(": scale") }
    }

    // MARK: The clients

    private func startClients(rate: Int, size: Int) throws -> RunningProcess {
        let program = try BuiltProgram.path("scale")
        let clients = try rig.start(
            [program, "clients", "--tunnels", "\(count)", "--rate", "\(rate)", "--size", "\(size)"], in: site.client)
        try waitUntil("the clients", within: .seconds(30)) { () throws(RigError) -> Bool in
            if let status = clients.exitStatus {
                throw .commandFailed(command: "scale clients", status: status, output: clients.output)
            }
            return clients.output.hasPrefix("ready")
        }
        return clients
    }

    /// What the clients last said.
    private func counters(_ clients: RunningProcess) throws(RigError) -> (up: Int, sent: Int, answered: Int) {
        usleep(20_000)
        let lines = clients.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
        guard let last = lines.last(where: { $0.hasPrefix("up ") }) else { return (0, 0, 0) }
        let numbers = last.split(separator: " ").compactMap { Int($0) }
        guard numbers.count == 3 else { throw .unexpected("the clients said '\(last)'") }
        return (numbers[0], numbers[1], numbers[2])
    }

    private func upLinks(_ clients: RunningProcess) throws(RigError) -> Int { try counters(clients).up }
}

func elapsed(since start: ContinuousClock.Instant) -> Double {
    let components = (ContinuousClock.now - start).components
    return Double(components.seconds) + Double(components.attoseconds) / 1e18
}
