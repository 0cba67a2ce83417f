import ArgumentParser
import BenchmarkKit
import Foundation
import TunnelTestKit

@main
struct Throughput: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "netns-throughput",
        abstract: "Throughput and cost of this project's tunnel beside other tunnel programs, in network namespaces.",
        discussion: """
            Each program lays a tunnel of MTU 1400 between two namespaces joined by veth pairs; iperf3 runs through it. \
            All programs run side by side and are measured in turn, so that they share whatever the machine does \
            meanwhile: compare the ratios. "up" is from the client to the server, "down" the reverse.

            Gbit/s is payload received; cpu/Gbit the CPU seconds of all processes at the server's end per Gbit of it; \
            MB their proportional set size. Ratios are to the first program of the table.
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

    @Option(help: "Links of those that bond: 1 or 2.")
    var links = 1

    @Option(help: "This project's scheduler; may be repeated to compare several.")
    var scheduler: [String] = []

    @Option(help: "Which of tcp1-up, tcp1-down, tcp4-up, tcp4-down, udp-up, udp-down, with commas.")
    var tests = Workload.all.map(\.name).joined(separator: ",")

    @Option(help: "Seconds of each measurement.")
    var duration = 5

    @Option(help: "Measurements of each kind; the median counts.")
    var repeats = 3

    @Option(help: "UDP senders' rate as iperf3 has it; 0 sends as fast as it can, and then mostly measures loss.")
    var udpRate = "200M"

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...2).contains(links) else { throw ValidationError("--links is 1 or 2.") }
        guard (1...3600).contains(duration) else { throw ValidationError("--duration is 1 to 3600.") }
        guard (1...1000).contains(repeats) else { throw ValidationError("--repeats is 1 to 1000.") }
        _ = try selectedWorkloads()
        _ = try selectedPeers()
    }

    func run() throws {
        interruptible()
        let workloads = try selectedWorkloads()
        let peers = try selectedPeers().filter { peer in
            guard let obstacle = peer.obstacle else { return true }
            progress("\(peer.name) left out: \(obstacle)")
            return false
        }
        guard !peers.isEmpty else {
            throw ValidationError("No program to measure; build this project's with 'swift build -c release'.")
        }
        let samples = try NetworkRig.with { rig in
            let lanes = try peers.map { peer in
                progress("starting \(peer.name)")
                return try Lane(peer, in: rig, links: peer.bonds ? links : 1)
            }
            return try measure(lanes, workloads)
        }
        let report = Report(links: links, duration: duration, samples: samples)
        let presentation = report.presentation(workloads: workloads.map(\.name), peers: peers.map(\.name))
        try output.show(presentation, report: report)
    }

    private func measure(_ lanes: [Lane], _ workloads: [Workload]) throws -> [Sample] {
        var samples: [Sample] = []
        for round in 1...repeats {
            for workload in workloads {
                for lane in lanes {
                    let sample = try lane.measure(workload, seconds: duration, udpRate: udpRate)
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

    private func selectedPeers() throws -> [any Peer] {
        var result: [any Peer] = []
        if programs != "none" {
            let path = URL(fileURLWithPath: programs).standardizedFileURL.path
            result.append(
                contentsOf: scheduler.isEmpty
                    ? [Concentrator(directory: path)]
                    : scheduler.map { Concentrator(directory: path, scheduler: $0, name: "concentrator-\($0)") })
        }
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
