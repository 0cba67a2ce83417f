import Glibc

/// An emulated line between two namespaces: a veth pair from each end into a namespace of its own, where the program
/// `link-emulator` forwards between them.
public final class EmulatedLink {
    public let emulator: RunningProcess
    private let name: String
    private var answersRead = 1

    /// Lays the line and waits until it carries packets.
    ///
    /// - Parameters:
    ///   - program: what runs the emulator: the path of `link-emulator`, or of a program that calls
    ///     ``LinkEmulator/runCommandLine(_:)`` with the words that make it do so.
    ///   - ab: conditions from `a` to `b`, in the emulator's words; likewise `ba`.
    ///   - timeline: lines as of ``EmulationTimeline``, counted from now.
    ///   - seed: each line needs its own: lines with one seed lose the same packets.
    public init(
        in rig: NetworkRig, program: [String], name: String, a: WireEnd, b: WireEnd, ab: String = "", ba: String = "",
        timeline: String? = nil, seed: UInt64
    ) throws(RigError) {
        self.name = name
        let middle = try rig.namespace("line-\(name)")
        try rig.wire(a, WireEnd(middle, "a"))
        try rig.wire(b, WireEnd(middle, "b"))
        for end in [a, b] {
            // Offloads would put packets on the line that are larger than any line carries, or lack checksums.
            try rig.run(
                ["ethtool", "-K", end.interface, "tx", "off", "sg", "off", "tso", "off", "gso", "off", "gro", "off"],
                in: end.namespace)
        }
        for interface in ["a", "b"] {
            try rig.ip(middle, "link", "set", "dev", interface, "addrgenmode", "none")
        }
        var command = program + ["a", "b", "--ab", ab, "--ba", ba, "--seed", "\(seed)", "--commands"]
        if let timeline {
            command += ["--timeline", try rig.file("timeline-\(name)", timeline)]
        }
        let emulator = try rig.start(command, in: middle, withInput: true)
        self.emulator = emulator
        try waitUntil("the emulator of \(name)", within: .seconds(10)) { () throws(RigError) -> Bool in
            if let status = emulator.exitStatus {
                throw .commandFailed(command: command.joined(separator: " "), status: status, output: emulator.output)
            }
            return emulator.output.hasPrefix("ready\n")
        }
    }

    /// Changes the line now: `both blackhole=on`, `ab loss=5%`. Returns when the change holds.
    public func set(_ change: String) throws(RigError) {
        let answer = try ask(change, lines: 1)[0]
        guard answer == "ok" else {
            throw .unexpected("link-emulator of \(name), '\(change)': \(answer)")
        }
    }

    /// The emulator's counters, by direction (`ab`, `ba`) and name (`delivered`, `lost`, `overflowed`, …).
    public func counters() throws(RigError) -> [String: [String: Int]] {
        var result: [String: [String: Int]] = [:]
        for line in try ask("stats", lines: 3).dropLast() {
            let words = line.split(separator: " ")
            let pairs = words.dropFirst().compactMap { word -> (String, Int)? in
                let halves = word.split(separator: "=")
                return halves.count == 2 ? Int(halves[1]).map { (String(halves[0]), $0) } : nil
            }
            result[String(words[0])] = Dictionary(uniqueKeysWithValues: pairs)
        }
        return result
    }

    /// Sends a command and returns its answer of so many lines.
    private func ask(_ command: String, lines: Int) throws(RigError) -> [String] {
        try emulator.send(line: command)
        let answer = try poll("the answer to '\(command)'", within: .seconds(10)) { () throws(RigError) -> [String]? in
            if let status = emulator.exitStatus {
                throw .commandFailed(command: "link-emulator \(name)", status: status, output: emulator.output)
            }
            let whole = emulator.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
            return whole.count >= answersRead + lines ? whole[answersRead..<answersRead + lines].map(String.init) : nil
        }
        answersRead += lines
        return answer
    }
}
