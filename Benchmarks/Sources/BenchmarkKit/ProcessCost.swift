import Foundation
import TunnelTestKit

/// What a set of processes has used of the machine.
public struct ProcessCost: Sendable {
    /// Time on a processor since their start, in seconds.
    public var cpuSeconds = 0.0
    /// Proportional set size in bytes: memory that several processes share is counted once.
    public var memory = 0.0
    /// Voluntary and involuntary context switches of all threads: how often they woke.
    public var switches = 0
    public var processes = 0
    public var threads = 0
    /// The same by name of program.
    public var programs: [String: Program] = [:]

    public struct Program: Sendable {
        public var cpuSeconds = 0.0
        public var memory = 0.0
        /// Resident set size in bytes, of all its processes together.
        public var resident = 0.0
        public var switches = 0
        public var processes = 0

        public init() {}
    }

    public init() {}

    /// Reads /proc for the processes of a namespace, except those named in `without`.
    public init(of namespace: NetworkNamespace, without excluded: Set<String> = ["iperf3", "ping", "ip"]) {
        for pid in namespace.processes {
            let root = "/proc/\(pid)"
            guard let stat = try? String(contentsOfFile: "\(root)/stat", encoding: .utf8),
                let open = stat.firstIndex(of: "("), let close = stat.lastIndex(of: ")"),
                !excluded.contains(String(stat[stat.index(after: open)..<close]))
            else { continue }
            var program = Program()
            program.processes = 1
            let sizes = ProcessCost.fields(["Pss:", "Rss:"], of: "\(root)/smaps_rollup")
            program.memory = sizes[0] * 1024
            program.resident = sizes[1] * 1024
            // After the name: state is field 3 of proc(5), utime 14, stime 15.
            let fields = stat[stat.index(after: close)...].split(separator: " ")
            var ticks = 0.0
            if fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) {
                ticks = (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
            }
            var precise = 0.0
            for thread in (try? FileManager.default.contentsOfDirectory(atPath: "\(root)/task")) ?? [] {
                threads += 1
                let counts = ProcessCost.fields(
                    ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"], of: "\(root)/task/\(thread)/status")
                program.switches += Int(counts[0] + counts[1])
                let schedule = try? String(contentsOfFile: "\(root)/task/\(thread)/schedstat", encoding: .utf8)
                precise += (schedule?.split(separator: " ").first.flatMap { Double($0) } ?? 0) / 1e9
            }
            // The scheduler's own count, where the kernel keeps one, also sees what is shorter than a tick; it forgets
            // threads that have ended.
            program.cpuSeconds = precise > 0 ? max(precise, ticks - 1) : ticks
            add(program, String(stat[stat.index(after: open)..<close]))
        }
    }

    private mutating func add(_ program: Program, _ name: String) {
        cpuSeconds += program.cpuSeconds
        memory += program.memory
        switches += program.switches
        processes += 1
        programs[name, default: Program()].cpuSeconds += program.cpuSeconds
        programs[name, default: Program()].memory += program.memory
        programs[name, default: Program()].resident += program.resident
        programs[name, default: Program()].switches += program.switches
        programs[name, default: Program()].processes += 1
    }

    /// The numbers that stand behind the given words at the beginnings of a file's lines; 0 for those missing.
    private static func fields(_ names: [String], of path: String) -> [Double] {
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        var result = [Double](repeating: 0, count: names.count)
        for line in text.split(separator: "\n") {
            for (index, name) in names.enumerated() where line.hasPrefix(name) {
                result[index] =
                    line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Double($0) } ?? 0
            }
        }
        return result
    }
}

/// Memory that the kernel keeps for itself, of the whole machine: slabs, page tables, stacks of threads, per-CPU data.
public func kernelMemory() -> Double {
    let text = (try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8)) ?? ""
    var total = 0.0
    for line in text.split(separator: "\n") {
        let parts = line.split(whereSeparator: \.isWhitespace)
        guard parts.count > 1, ["SUnreclaim:", "PageTables:", "KernelStack:", "Percpu:"].contains(parts[0]) else {
            continue
        }
        total += Double(parts[1]) ?? 0
    }
    return total * 1024
}
