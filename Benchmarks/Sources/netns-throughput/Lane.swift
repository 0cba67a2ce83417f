import BenchmarkKit
import Foundation
import TunnelTestKit

/// What is sent through a tunnel in one measurement.
struct Workload {
    enum Kind {
        case tcp
        case udp
        /// Small datagrams at a fixed rate, in these directions.
        case calls(up: Bool, down: Bool)
    }

    var name: String
    var kind = Kind.tcp
    /// For iperf3.
    var flags: [String] = []

    var isCalls: Bool {
        if case .calls = kind { true } else { false }
    }

    static let all = [
        Workload(name: "tcp1-up"),
        Workload(name: "tcp1-down", flags: ["-R"]),
        Workload(name: "tcp4-up", flags: ["-P", "4"]),
        Workload(name: "tcp4-down", flags: ["-P", "4", "-R"]),
        Workload(name: "udp-up", kind: .udp),
        Workload(name: "udp-down", kind: .udp, flags: ["-R"]),
        Workload(name: "calls-up", kind: .calls(up: true, down: false)),
        Workload(name: "calls-down", kind: .calls(up: false, down: true)),
        Workload(name: "calls-both", kind: .calls(up: true, down: true)),
    ]
}

/// How hard and how long.
struct Load {
    var seconds: Int
    var udpRate: String
    /// Packets per second and direction.
    var callRate: Int
    /// Bytes of a packet with its headers.
    var callSize: Int
}

/// One program's tunnel, with an iperf3 server at its server's end.
struct Lane {
    let peer: any Peer
    private let site: Site
    private static let callPort = 7001

    init(_ peer: any Peer, in rig: NetworkRig, links: Int) throws {
        self.peer = peer
        site = try Site(in: rig, name: peer.name, links: links)
        try peer.start(at: site)
        let server = try rig.start(["iperf3", "-s", "--forceflush"], in: site.server)
        try waitUntil("iperf3", within: .seconds(10)) { server.output.contains("listening") }
    }

    var mtu: Int { site.mtu }

    /// Bytes in a full packet of the tunnel: without 20 of IPv4 and 8 of UDP, or 20 of TCP and 12 of its timestamps.
    func payload(of workload: Workload) -> Int {
        if case .udp = workload.kind { mtu - 28 } else { mtu - 52 }
    }

    func measure(_ workload: Workload, _ load: Load) throws -> Sample {
        var command = ["iperf3", "-c", site.serverAddress, "-t", "\(load.seconds)", "-J"] + workload.flags
        switch workload.kind {
        case .tcp: break
        case .udp:
            // The largest datagram that fits into one packet of the tunnel: 20 bytes of IPv4 and 8 of UDP.
            command += ["-u", "-b", load.udpRate, "-l", "\(site.mtu - 28)"]
        case .calls(let up, let down): return try measureCalls(workload, load, up: up, down: down)
        }
        let before = ProcessCost(of: site.server)
        let output = try site.rig.run(command, in: site.client, within: .seconds(load.seconds + 30))
        let after = ProcessCost(of: site.server)
        let iperf = try Iperf(json: output)
        return Sample(
            peer: peer.name, workload: workload.name, gigabitsPerSecond: iperf.receivedBitsPerSecond / 1e9,
            cpuSecondsPerGigabit: (after.cpuSeconds - before.cpuSeconds) / (iperf.receivedBytes * 8 / 1e9),
            megabytes: after.memory / 1e6, retransmits: iperf.retransmits, lostPercent: iperf.lostPercent)
    }

    private func measureCalls(_ workload: Workload, _ load: Load, up: Bool, down: Bool) throws -> Sample {
        let program = try BuiltProgram.path("netns-throughput")
        let ends = [
            up ? (from: site.client, to: site.server, address: site.serverAddress) : nil,
            down ? (from: site.server, to: site.client, address: site.clientAddress) : nil,
        ].compactMap(\.self)
        let sinks = try ends.map { end in
            let sink = try site.rig.start(
                [program, "datagram-sink", "--bind", end.address, "--port", "\(Lane.callPort)"], in: end.to)
            try waitUntil("the sink", within: .seconds(10)) { sink.output.contains("ready") }
            return sink
        }
        // Named as the kernel cuts it.
        let excluded: Set = ["iperf3", String("netns-throughput".prefix(15))]
        let before = ProcessCost(of: site.server, without: excluded)
        let sources = try ends.map { end in
            // A sender that waits for a processor would send bursts that no call does.
            try site.rig.start(
                [
                    "nice", "-n", "-10", program, "datagram-source", "--to", end.address, "--port", "\(Lane.callPort)",
                    "--rate", "\(load.callRate)", "--size", "\(load.callSize - 28)", "--seconds", "\(load.seconds)",
                ], in: end.from)
        }
        func number(_ word: String, _ process: RunningProcess) throws -> Int {
            _ = try process.waitForExit(within: .seconds(load.seconds + 40))
            let words = process.output.split(whereSeparator: \.isWhitespace)
            guard let place = words.firstIndex(of: word[...]), place + 1 < words.endIndex,
                let value = Int(words[place + 1])
            else { throw RigError.unexpected("no '\(word)' in '\(process.output)'") }
            return value
        }
        let sent = try sources.map { try number("sent", $0) }.reduce(0, +)
        let late = try sources.map { try number("late", $0) }.max() ?? 0
        let received = try sinks.map { try number("received", $0) }.reduce(0, +)
        let after = ProcessCost(of: site.server, without: excluded)
        let cpu = after.cpuSeconds - before.cpuSeconds
        let gigabits = Double(received * (load.callSize - 28) * 8) / 1e9
        return Sample(
            peer: peer.name, workload: workload.name, gigabitsPerSecond: gigabits / Double(load.seconds),
            cpuSecondsPerGigabit: cpu / gigabits, megabytes: after.memory / 1e6,
            lostPercent: Double(sent - received) / Double(max(1, sent)) * 100,
            calls: Sample.Calls(
                packetsPerSecond: Double(received) / Double(load.seconds), lost: sent - received,
                microsecondsPerPacket: cpu / Double(max(1, received)) * 1e6,
                cpuPercent: cpu / Double(load.seconds) * 100, latestMilliseconds: Double(late) / 1000))
    }
}

/// One measurement.
struct Sample: Encodable {
    /// Small packets at a rate, all directions together.
    struct Calls: Encodable {
        var packetsPerSecond: Double
        var lost: Int
        /// Of the processor, at the server's end.
        var microsecondsPerPacket: Double
        var cpuPercent: Double
        /// How long after its time the sender sent a packet, at most: nothing of the tunnel's.
        var latestMilliseconds: Double
    }

    var peer: String
    var workload: String
    var gigabitsPerSecond: Double
    var cpuSecondsPerGigabit: Double
    var megabytes: Double
    var retransmits: Int?
    var lostPercent: Double?
    var calls: Calls?
    /// With `--costs`: what the cipher alone takes for as much, measured just before.
    var cryptoSecondsPerGigabit: Double?

    var summary: String {
        if let calls {
            return "\(peer): \(calls.packetsPerSecond.text(0)) packets/s, \(calls.lost) lost, "
                + "\(calls.microsecondsPerPacket.text(2)) us/packet, sender late by \(calls.latestMilliseconds.text(1)) ms"
        }
        let loss = lostPercent.map { ", \($0.text(1)) % lost" } ?? ""
        return
            "\(peer): \(gigabitsPerSecond.text(3)) Gbit/s, \(cpuSecondsPerGigabit.text(3)) s/Gbit, "
            + "\(megabytes.text(1)) MB\(loss)"
    }
}
