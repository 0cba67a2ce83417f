import Glibc
import Logging

/// The log of every process of ours: one event, one line.
public enum Log {
    /// Once, at the start of a process, before chroot. The label of a `Logger` names the process: `supervisor`.
    ///
    /// - Returns: the descriptor, if any, that a forked child must keep in order to log, besides standard error.
    @discardableResult
    public static func bootstrap(_ settings: LogSettings) -> Int32? {
        let sink = LogSink(settings)
        LoggingSystem.bootstrap { label in
            LineLogHandler(label: label, settings: settings, sink: sink, metadata: [:], logLevel: settings.level)
        }
        return sink.descriptor
    }

    /// Whether syslog could not be reached since this was last asked.
    public static func takeLoss() -> Bool { LogSink.takeLoss() }

    /// Looks for the log daemon again, for all processes that share this descriptor; whether there is one.
    public static func reconnect(_ descriptor: Int32) -> Bool { LogSink.reconnect(descriptor) }
}

struct LineLogHandler: LogHandler {
    let label: String
    let settings: LogSettings
    let sink: LogSink
    var metadata: Logger.Metadata
    var logLevel: Logger.Level

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var fields = metadata
        for (key, value) in event.metadata ?? [:] { fields[key] = value }
        if let error = event.error { fields["error"] = "\(error)" }
        let sorted = fields.sorted { $0.key < $1.key }.map { ($0.key, LogText.cut("\($0.value)")) }
        sink.write(line(event.level, "\(event.message)", sorted))
    }

    private func line(_ level: Logger.Level, _ message: String, _ fields: [(String, String)]) -> String {
        let text = LogText.line(label: label, message: message, fields: fields)
        switch sink.destination {
        case .syslog:
            // Facility daemon (3); the form that /dev/log's readers agree on (RFC 3164, section 4.1).
            return "<\(24 + level.syslogPriority)>\(LogText.syslogTime()) \(settings.ident)[\(getpid())]: \(text)"
        case .standardError:
            let time = Clock.wallMilliseconds()
            if settings.format == .json {
                let text = LogText.json(
                    time: time, level: level.rawValue, label: label, message: message, fields: fields)
                // journald takes the priority away.
                return (sink.isJournal ? "<\(level.syslogPriority)>" : "") + text + "\n"
            }
            if sink.isJournal { return "<\(level.syslogPriority)>\(text)\n" }
            return "\(LogText.timestamp(time)) \(level.rawValue) \(text)\n"
        }
    }
}

extension Logger.Level {
    var syslogPriority: Int {
        switch self {
        case .critical: 2
        case .error: 3
        case .warning: 4
        case .notice: 5
        case .info: 6
        case .debug, .trace: 7
        }
    }
}
