import ArgumentParser
import BenchmarkKit
import TunnelTestKit

@main
struct Scale: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scale",
        abstract: "What many tunnels of two links cost a concentrator.",
        subcommands: [Measure.self, Share.self, Fairness.self, Clients.self], defaultSubcommand: Measure.self)
}

struct Measure: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Times, processor and memory by number of tunnels, idle and busy.",
        discussion: """
            A daemon holds N tunnels; their clients, of the stock protocol, are simulated by one process in another \
            namespace and try to connect once a second. Measured are the times from the daemon's start to all devices \
            being there and to all links being up, then, without traffic and with some through every tunnel, the CPU \
            time, the wake-ups (context switches of all threads) and the memory of all the daemon's processes, and the \
            time to stop. Busy tunnels carry ICMP echo requests, which the server's kernel answers.
            """)

    @Option(help: "Where this project's executables are.")
    var programs = "../.build/release"

    @Option(help: "Numbers of tunnels, with commas.")
    var tunnels = "1,10,100,1000"

    @Option(help: "Seconds of idleness measured, and of traffic.")
    var duration = 20

    @Option(help: "Packets per second in each direction of each busy tunnel; 0 leaves that out.")
    var rate = 10

    @Option(help: "Bytes of each of these packets.")
    var size = 1000

    @OptionGroup var output: OutputOptions

    func validate() throws {
        _ = try counts()
        guard (1...3600).contains(duration) else { throw ValidationError("--duration is 1 to 3600.") }
        guard (0...10_000).contains(rate) else { throw ValidationError("--rate is 0 to 10000.") }
        guard (64...1400).contains(size) else { throw ValidationError("--size is 64 to 1400.") }
    }

    func run() throws {
        interruptible()
        let directory = try executables(programs)
        var rows: [ScaleRow] = []
        for count in try counts() {
            let row = try NetworkRig.with { rig in
                try Crowd(count: count, directory: directory, rig: rig).measure(
                    seconds: duration, rate: rate, size: size)
            }
            progress("\(count) tunnels: \(row)")
            rows.append(row)
        }
        try output.show(presentation(rows), report: ScaleReport(rows: rows))
    }

    private func presentation(_ rows: [ScaleRow]) -> Presentation {
        var times = TextTable(["tunnels", "define s", "devices s", "links up s", "stop s", "processes"])
        var memory = TextTable([
            "tunnels", "engine RSS MB", "helpers PSS MB", "control PSS MB", "supervisor PSS MB", "all PSS MB",
            "kernel MB",
        ])
        var load = TextTable([
            "tunnels", "state", "CPU %", "engine", "control", "wake-ups/s", "packets/s", "answered %",
        ])
        var chart = BarChart(
            title: "Tunnels of two links", unit: "MB; % of one core",
            series: ["all PSS MB", "idle CPU %", "busy CPU %"])
        for row in rows {
            times.add([
                "\(row.tunnels)", row.defineSeconds.text(1), row.devicesSeconds.text(2), row.linksSeconds.text(2),
                row.stopSeconds.text(2), "\(row.processes)",
            ])
            memory.add(["\(row.tunnels)"] + row.memory.map { $0.text(1) })
            for state in [row.idle, row.busy].compactMap(\.self) {
                load.add([
                    "\(row.tunnels)", state.name, state.cpu.text(2), state.engine.text(2), state.control.text(2),
                    state.wakeUps.text(0), state.packets.text(0), state.packets > 0 ? state.answered.text(2) : "",
                ])
            }
            chart.groups.append(
                .init("\(row.tunnels) tunnels", [row.allMemory, row.idle.cpu, row.busy?.cpu]))
        }
        return Presentation(
            tables: [times, memory, load],
            notes: [
                "times from the daemon's start; CPU % of one core over \(duration) s, of the daemon's processes without "
                    + "the clients; kernel: what slabs, page tables, thread stacks and per-CPU data grew by; "
                    + "busy: \(rate) packets/s of \(size) bytes in each direction of each tunnel"
            ], chart: chart)
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

struct ScaleReport: Encodable {
    var machine = Machine()
    var rows: [ScaleRow]
}

struct ScaleRow: Encodable {
    struct Load: Encodable {
        var name: String
        /// Percent of one core.
        var cpu: Double
        var engine: Double
        var control: Double
        var wakeUps: Double
        /// Requests that the clients sent, per second.
        var packets: Double
        /// Percent of them.
        var answered: Double
    }

    var tunnels: Int
    var defineSeconds: Double
    var devicesSeconds: Double
    var linksSeconds: Double
    var stopSeconds: Double
    var processes: Int
    var engineRSS: Double
    var helpersPSS: Double
    var controlPSS: Double
    var supervisorPSS: Double
    var allMemory: Double
    var kernel: Double
    var idle: Load
    var busy: Load?

    /// In the table's order, MB.
    var memory: [Double] { [engineRSS, helpersPSS, controlPSS, supervisorPSS, allMemory, kernel] }
}
