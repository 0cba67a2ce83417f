import ArgumentParser
import BenchmarkKit
import Foundation
import TunnelTestKit

@main
struct Throughput: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "netns-throughput",
        abstract: "Throughput and cost of this project's tunnel beside other tunnel programs, in network namespaces.",
        subcommands: [Measure.self, DatagramSource.self, DatagramSink.self], defaultSubcommand: Measure.self)
}

struct Measure: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure programs in turn.",
        discussion: """
            Each program lays a tunnel of MTU 1400 between two namespaces joined by veth pairs; iperf3 runs through it. \
            All programs run side by side and are measured in turn, so that they share whatever the machine does \
            meanwhile: compare the ratios. "up" is from the client to the server, "down" the reverse.

            Gbit/s is payload received; cpu/Gbit the CPU seconds of all processes at the server's end per Gbit of it; \
            MB their proportional set size. Ratios are to the first program of the table.

            The tests calls-up, calls-down and calls-both send small packets at a fixed rate instead, as many calls over \
            VoIP do: of interest are what is lost and what a packet costs. With --links 1,2 this project runs with \
            either number of links, and its cpu ratio says what the second one costs. --costs has it run without \
            encryption as well, measures the cipher alone beside it, and compares the whole with the sum of the two.
            """)

    @Option(help: "Where this project's executables are; 'none' leaves it out.")
    var programs = "../.build/release"

    @Option(help: "Installed programs to measure, with commas; 'none' for none.")
    var peers = "openvpn,wireguard-go,fastd"

    @Option(
        help: ArgumentHelp(
            "A further program: wireguard-go=, mlvpn=, openvpn= or fastd=PATH, or concentrator=DIRECTORY; may be repeated.",
            valueName: "kind=path"))
    var peer: [String] = []

    @Option(help: "The user whom stock MLVPN runs as; its home becomes MLVPN's root directory.")
    var mlvpnUser = "daemon"

    @Option(help: "Links of those that bond: 1 or 2, or 1,2 for this project with either number.")
    var links = "1"

    @Option(help: "This project's scheduler; may be repeated to compare several.")
    var scheduler: [String] = []

    @Option(help: "Which of \(Workload.all.map(\.name).joined(separator: ", ")), with commas.")
    var tests = Workload.all.filter { !$0.isCalls }.map(\.name).joined(separator: ",")

    @Option(help: "Seconds of each measurement.")
    var duration = 5

    @Option(help: "Measurements of each kind; the median counts.")
    var repeats = 3

    @Option(help: "UDP senders' rate as iperf3 has it; 0 sends as fast as it can, and then mostly measures loss.")
    var udpRate = "200M"

    @Option(help: "Packets per second and direction of the tests with calls.")
    var callRate = 75_000

    @Option(help: "Bytes of each of these packets, headers of IPv4 and UDP included.")
    var callSize = 100

    @Flag(help: "Compare this project's cost with that of no encryption and that of the cipher alone.")
    var costs = false

    @OptionGroup var output: OutputOptions

    func validate() throws {
        _ = try linkCounts()
        guard (1...3600).contains(duration) else { throw ValidationError("--duration is 1 to 3600.") }
        guard (1...1000).contains(repeats) else { throw ValidationError("--repeats is 1 to 1000.") }
        guard (100...1_000_000).contains(callRate) else { throw ValidationError("--call-rate is 100 to 1000000.") }
        guard (29...1400).contains(callSize) else { throw ValidationError("--call-size is 29 to 1400.") }
        if costs, programs == "none" {
            throw ValidationError("--costs is about this project; leave out --programs none.")
        }
        _ = try selectedWorkloads()
        _ = try selectedPeers()
    }

    func run() throws {
        interruptible()
        let workloads = try selectedWorkloads()
        let peers = try selectedPeers().filter { entry in
            guard let obstacle = entry.peer.obstacle else { return true }
            progress("\(entry.peer.name) left out: \(obstacle)")
            return false
        }
        guard !peers.isEmpty else {
            throw ValidationError("No program to measure; build this project's with 'swift build -c release'.")
        }
        let samples = try NetworkRig.with { rig in
            let lanes = try peers.map { entry in
                progress("starting \(entry.peer.name)")
                return try Lane(entry.peer, in: rig, links: entry.links)
            }
            return try measure(lanes, workloads)
        }
        let report = Report(links: try linkCounts(), duration: duration, samples: samples)
        let names = peers.map(\.peer.name)
        let presentation = report.presentation(
            workloads: workloads, peers: names, plain: names.contains(Self.plainName) ? Self.plainName : nil)
        try output.show(presentation, report: report)
    }

    private func measure(_ lanes: [Lane], _ workloads: [Workload]) throws -> [Sample] {
        let load = Load(seconds: duration, udpRate: udpRate, callRate: callRate, callSize: callSize)
        var samples: [Sample] = []
        for round in 1...repeats {
            for workload in workloads {
                for (place, lane) in lanes.enumerated() {
                    var cipher: Double?
                    if costs, place == 0, !workload.isCalls {
                        let cost = CryptoCost(size: lane.mtu).measure()
                        // The server opens what comes up and seals what goes down.
                        let perPacket = workload.name.hasSuffix("-up") ? cost.open : cost.seal
                        cipher = perPacket / (Double(lane.payload(of: workload)) * 8 / 1e9)
                    }
                    var sample = try lane.measure(workload, load)
                    sample.cryptoSecondsPerGigabit = cipher
                    progress("\(round)/\(repeats) \(workload.name) \(sample.summary)")
                    samples.append(sample)
                }
            }
        }
        return samples
    }

    private func selectedWorkloads() throws -> [Workload] {
        try tests.split(separator: ",").map { name in
            guard let workload = Workload.all.first(where: { $0.name == name }) else {
                let known = Workload.all.map(\.name).joined(separator: ", ")
                throw ValidationError("--tests: '\(name)' is none of \(known).")
            }
            return workload
        }
    }

    private static let plainName = "concentrator-cleartext"

    private func linkCounts() throws -> [Int] {
        let counts = try links.split(separator: ",").map { text in
            guard let count = Int(text), (1...2).contains(count) else {
                throw ValidationError("--links is 1, 2 or 1,2.")
            }
            return count
        }
        guard !counts.isEmpty, Set(counts).count == counts.count else {
            throw ValidationError("--links is 1, 2 or 1,2.")
        }
        return counts
    }

    /// What is measured, each with its number of links.
    private func selectedPeers() throws -> [(peer: any Peer, links: Int)] {
        let counts = try linkCounts()
        let most = counts.max() ?? 1
        var own: [(peer: any Peer, links: Int)] = []
        if programs != "none" {
            let path = URL(fileURLWithPath: programs).standardizedFileURL.path
            for count in counts {
                let ending = counts.count == 1 ? "" : count == 1 ? "-1-link" : "-\(count)-links"
                for scheduler in scheduler.isEmpty ? [nil] : scheduler.map(Optional.some) {
                    let name = "concentrator" + (scheduler.map { "-\($0)" } ?? "") + ending
                    own.append((Concentrator(directory: path, scheduler: scheduler, name: name), count))
                }
            }
            if costs {
                let plain = Concentrator(
                    directory: path, scheduler: scheduler.first, isCleartext: true, name: Self.plainName)
                own.append((plain, counts[0]))
            }
        }
        return own + (try otherPeers()).map { ($0, $0.bonds ? most : 1) }
    }

    private func otherPeers() throws -> [any Peer] {
        var result: [any Peer] = []
        for text in peer { result.append(try furtherPeer(text, after: result)) }
        for name in peers.split(separator: ",") where name != "none" {
            switch name {
            case "openvpn": result.append(OpenVPN())
            case "wireguard-go": result.append(WireGuardGo())
            case "fastd": result.append(Fastd())
            default: throw ValidationError("--peers: '\(name)' is none of openvpn, wireguard-go, fastd.")
            }
        }
        return result
    }

    /// A program as `--peer` names it; the second of a kind is told from the first by its number.
    private func furtherPeer(_ text: String, after others: [any Peer]) throws -> any Peer {
        guard let sign = text.firstIndex(of: "=") else {
            throw ValidationError("--peer: '\(text)' is not KIND=PATH, such as mlvpn=/usr/local/sbin/mlvpn.")
        }
        let kind = String(text[..<sign])
        let path = URL(fileURLWithPath: String(text[text.index(after: sign)...])).standardizedFileURL.path
        let taken = others.filter { $0.name.hasPrefix("\(kind)-given") }.count
        let name = "\(kind)-given\(taken == 0 ? "" : "\(taken + 1)")"
        switch kind {
        case "wireguard-go": return WireGuardGo(program: path, name: name)
        case "mlvpn": return StockMLVPN(program: path, user: mlvpnUser, name: name)
        case "openvpn": return OpenVPN(program: path, name: name)
        case "fastd": return Fastd(program: path, name: name)
        case "concentrator": return Concentrator(directory: path, scheduler: scheduler.first, name: name)
        default:
            throw ValidationError("--peer: '\(kind)' is none of wireguard-go, mlvpn, openvpn, fastd, concentrator.")
        }
    }
}
