import Foundation

/// Where and when a result was measured.
public struct Machine: Encodable, Sendable {
    public var date: String
    public var processor: String
    public var cores: Int
    public var kernel: String
    public var commandLine: String

    public init() {
        date = ISO8601DateFormatter().string(from: Date())
        cores = ProcessInfo.processInfo.processorCount
        let information = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
        processor =
            information.split(separator: "\n").first { $0.hasPrefix("model name") }?
            .split(separator: ":").last?.trimmingCharacters(in: .whitespaces) ?? "unknown"
        kernel = ((try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8)) ?? "unknown")
            .trimmingCharacters(in: .whitespacesAndNewlines)
        let program = CommandLine.arguments.first.map { ($0 as NSString).lastPathComponent } ?? ""
        commandLine = ([program] + CommandLine.arguments.dropFirst()).joined(separator: " ")
    }

    /// When and where, in one line.
    public var place: String { "\(date), \(cores) × \(processor), Linux \(kernel)" }

    public var text: String { "\(place)\n\(commandLine)" }
}
