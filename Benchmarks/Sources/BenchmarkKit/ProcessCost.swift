import Foundation
import TunnelTestKit

/// What a set of processes has used of the machine.
public struct ProcessCost: Sendable {
    /// User and system time since their start, in seconds.
    public var cpuSeconds = 0.0
    /// Proportional set size in bytes: memory that several processes share is counted once.
    public var memory = 0.0
    /// Voluntary and involuntary context switches of all threads: how often they woke.
    public var switches = 0
    public var processes = 0
    public var threads = 0

    public init() {}

    /// Reads /proc for the processes of a namespace, except those named in `without`.
    public init(of namespace: NetworkNamespace, without excluded: Set<String> = ["iperf3", "ping", "ip"]) {
        for pid in namespace.processes {
            let root = "/proc/\(pid)"
            guard let stat = try? String(contentsOfFile: "\(root)/stat", encoding: .utf8),
                let open = stat.firstIndex(of: "("), let close = stat.lastIndex(of: ")"),
                !excluded.contains(String(stat[stat.index(after: open)..<close]))
            else { continue }
            // After the name: state is field 3 of proc(5), utime 14, stime 15.
            let fields = stat[stat.index(after: close)...].split(separator: " ")
            guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else { continue }
            processes += 1
            cpuSeconds += (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
            memory += ProcessCost.field("Pss:", of: "\(root)/smaps_rollup") * 1024
            for thread in (try? FileManager.default.contentsOfDirectory(atPath: "\(root)/task")) ?? [] {
                threads += 1
                let status = "\(root)/task/\(thread)/status"
                switches += Int(ProcessCost.field("voluntary_ctxt_switches:", of: status))
            }
        }
    }

    private static func field(_ name: String, of path: String) -> Double {
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        for line in text.split(separator: "\n") where line.hasPrefix(name) {
            return line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Double($0) } ?? 0
        }
        return 0
    }
}
