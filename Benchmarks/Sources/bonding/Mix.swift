import ArgumentParser
import BenchmarkKit
import TunnelTestKit

/// One line of a mix, the same in both directions.
struct Line {
    /// Mbit/s.
    var rate: Double
    /// The emulator's words beside the rate.
    var settings: String
    /// Alternates between the rate and half of it, every five seconds.
    var varies = false
    /// Its way becomes 30 ms longer, and shorter again, every five seconds.
    var moves = false

    var description: String {
        "\(rate.text(0)) Mbit/s \(settings)\(varies ? ", varying" : moves ? ", moving" : "")"
    }

    private func timeline(_ kbit: Int) throws -> String? {
        guard moves else {
            return varies ? "0 both rate=\(kbit)kbit\n5000 both rate=\(kbit / 2)kbit\n10000 loop\n" : nil
        }
        let delay = try PathConditions(settings).delay / 1_000_000
        return "0 both delay=\(delay)ms\n5000 both delay=\(delay + 30)ms\n10000 loop\n"
    }

    func lay(number: Int, a: WireEnd, b: WireEnd, rig: NetworkRig, seed: UInt64) throws -> EmulatedLink {
        let kbit = Int(rate * 1000)
        let words = "rate=\(kbit)kbit queue=100ms \(settings)"
        return try EmulatedLink(
            in: rig, program: [try BuiltProgram.path("bonding"), "emulate"], name: "\(number)", a: a, b: b, ab: words,
            ba: words,
            timeline: try timeline(kbit),
            seed: seed &+ UInt64(number))
    }
}

/// Lines to be bonded, with what the bond is to reach.
struct Mix {
    var name: String
    var lines: [Line]
    /// What the bond's goodput is compared with.
    var reference: Reference
    /// Goals for 8 streams and for 1.
    var goals: [Int: Double]

    enum Reference: String {
        /// The sum of what the tunnel carries over each line alone.
        case sum
        /// The most that it carries over one line alone.
        case best
    }

    /// Those of a list with commas.
    static func named(_ list: String) throws -> [Mix] {
        try list.split(separator: ",").map { name in
            guard let mix = all.first(where: { $0.name == name }) else {
                throw ValidationError("--mixes: '\(name)' is none of \(all.map(\.name).joined(separator: ", ")).")
            }
            return mix
        }
    }

    static let all = [
        Mix(
            name: "equal", lines: [Line(rate: 50, settings: "delay=10ms"), Line(rate: 50, settings: "delay=10ms")],
            reference: .sum, goals: [8: 0.98, 1: 0.97]),
        Mix(
            name: "unequal", lines: [Line(rate: 100, settings: "delay=5ms"), Line(rate: 20, settings: "delay=5ms")],
            reference: .sum, goals: [8: 0.96, 1: 0.95]),
        Mix(
            name: "fibre-lte",
            lines: [Line(rate: 100, settings: "delay=5ms"), Line(rate: 30, settings: "delay=30ms jitter=5ms")],
            reference: .sum, goals: [8: 0.92, 1: 0.85]),
        Mix(
            name: "dsl-satellite",
            lines: [Line(rate: 50, settings: "delay=7ms"), Line(rate: 10, settings: "delay=150ms")],
            reference: .best, goals: [8: 0.98, 1: 0.98]),
        Mix(
            name: "lossy",
            lines: [Line(rate: 50, settings: "delay=7ms"), Line(rate: 50, settings: "delay=7ms loss=5%")],
            reference: .best, goals: [8: 0.98, 1: 0.98]),
        Mix(
            name: "varying",
            lines: [40, 20, 10].map { Line(rate: $0, settings: "delay=10ms", varies: true) },
            reference: .sum, goals: [8: 0.90, 1: 0.80]),
        Mix(
            name: "moving",
            lines: [Line(rate: 50, settings: "delay=10ms", moves: true), Line(rate: 30, settings: "delay=15ms")],
            reference: .best, goals: [8: 0.98, 1: 0.98]),
        Mix(
            name: "lte",
            lines: [
                Line(rate: 40, settings: "delay=35ms jitter=15ms"), Line(rate: 30, settings: "delay=40ms jitter=20ms"),
            ],
            reference: .best, goals: [8: 0.98, 1: 0.98]),
    ]
}
