import ArgumentParser
import BenchmarkKit
import Foundation
import TunnelTestKit

@main
struct Scale: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scale",
        abstract: "What many idle tunnels of two links cost a concentrator.",
        discussion: """
            A daemon holds N tunnels whose clients are as many tunnels of a second daemon. Measured at the first: the \
            time from its start to all links up, then, with no traffic, the CPU time, the wake-ups (context switches \
            of all threads) and the memory (proportional set size) of all its processes, and the time to stop.
            """)

    @Option(help: "Where this project's executables are.")
    var programs = "../.build/release"

    @Option(help: "Numbers of tunnels, with commas.")
    var tunnels = "1,10,100,1000"

    @Option(help: "Seconds of idleness measured.")
    var duration = 20

    func validate() throws {
        _ = try counts()
        guard (1...3600).contains(duration) else { throw ValidationError("--duration is 1 to 3600.") }
    }

    func run() throws {
        interruptible()
        let directory = URL(fileURLWithPath: programs).standardizedFileURL.path
        if let obstacle = Concentrator(directory: directory).obstacle {
            throw RigError.unexpected(obstacle)
        }
        var table = TextTable([
            "tunnels", "define s", "start s", "CPU %", "wake-ups/s", "MB", "processes", "stop s",
        ])
        for count in try counts() {
            let row = try NetworkRig.with { rig in
                try Crowd(count: count, directory: directory, rig: rig).measure(seconds: duration)
            }
            progress("\(count) tunnels: \(row)")
            table.add(["\(count)"] + row)
        }
        print("\(Machine().text)\n\n\(table.text)\n\nCPU % of one core, over \(duration) s without traffic")
    }

    private func counts() throws -> [Int] {
        try tunnels.split(separator: ",").map { text in
            guard let count = Int(text), (1...8000).contains(count) else {
                throw ValidationError("--tunnels: '\(text)' is not a number from 1 to 8000.")
            }
            return count
        }
    }
}

/// Two daemons with as many tunnels between them as asked.
private struct Crowd {
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

    func measure(seconds: Int) throws -> [String] {
        let began = ContinuousClock.now
        let server = try start(.server)
        try define(.server, at: server)
        let defined = ContinuousClock.now - began
        let client = try start(.client)
        try define(.client, at: client)
        server.stop()

        let started = ContinuousClock.now
        try server.start()
        try waitUntil("all links to be up", within: .seconds(120)) { () throws(RigError) -> Bool in
            try linksUp(server) == 2 * count
        }
        let up = ContinuousClock.now - started

        let before = ProcessCost(of: site.server)
        let measuring = ContinuousClock.now
        try waitUntil("the end of the measurement", within: .seconds(seconds + 30)) {
            ContinuousClock.now - measuring >= .seconds(seconds)
        }
        let after = ProcessCost(of: site.server)
        let elapsed = (ContinuousClock.now - measuring).seconds

        let stopping = ContinuousClock.now
        server.stop()
        let stopped = ContinuousClock.now - stopping
        return [
            defined.seconds.text(1), up.seconds.text(1),
            ((after.cpuSeconds - before.cpuSeconds) / elapsed * 100).text(2),
            (Double(after.switches - before.switches) / elapsed).text(0), (after.memory / 1e6).text(1),
            "\(after.processes)", stopped.seconds.text(1),
        ]
    }

    private enum End: String {
        case server
        case client
    }

    private func start(_ end: End) throws -> Daemon {
        try Daemon(in: rig, end == .server ? site.server : site.client, programs: directory, name: end.rawValue)
    }

    /// All tunnels of an end, from files as MLVPN has them.
    private func define(_ end: End, at daemon: Daemon) throws {
        var files: [String] = []
        for number in 0..<count {
            var text = """
                [general]
                mode = "\(end.rawValue)"
                interface_name = "scale\(number)"
                password = "tunnel \(number)"
                ip4 = "10.\(80 + number / 16384).\(number / 64 % 256).\(number % 64 * 4 + (end == .server ? 1 : 2))/30"
                timeout = 10

                """
            for link in 1...2 {
                let port = 10_000 + number * 2 + link
                text +=
                    end == .server
                    ? "[link\(link)]\nbindhost = \"\(Site.serverWire(link))\"\nbindport = \(port)\n"
                    : "[link\(link)]\nremotehost = \"\(Site.serverWire(link))\"\nremoteport = \(port)\n"
            }
            files.append(try rig.file("\(end.rawValue)-t\(number).conf", text))
        }
        for start in stride(from: 0, to: count, by: 250) {
            try daemon.admin(["import"] + files[start..<min(start + 250, count)], within: .seconds(600))
        }
    }

    private func linksUp(_ daemon: Daemon) throws(RigError) -> Int {
        struct Tunnel: Decodable {
            struct Link: Decodable { var state: String }
            var links: [Link]
        }
        let answer = try daemon.admin("--json", "status")
        guard let tunnels = try? JSONDecoder().decode([Tunnel].self, from: Data(answer.utf8)) else {
            throw .unexpected("status is not what it should be: \(answer.prefix(500))")
        }
        return tunnels.reduce(0) { $0 + $1.links.filter { $0.state == "up" }.count }
    }
}

extension Duration {
    fileprivate var seconds: Double {
        Double(components.seconds) + Double(components.attoseconds) / 1e18
    }
}

/// To the terminal, beside the result.
private func progress(_ text: String) {
    FileHandle.standardError.write(Data("\(text)\n".utf8))
}
