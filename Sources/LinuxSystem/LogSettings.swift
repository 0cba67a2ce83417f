import Logging

/// Where a process of ours logs, how, and how much; passed on to the processes that it starts.
public struct LogSettings: Equatable, Sendable {
    public enum Format: String, Sendable, CaseIterable {
        /// One line for a person, on standard error.
        case text
        /// One JSON object a line, on standard error.
        case json
        /// To syslog(3)'s socket, /dev/log.
        case syslog
    }

    public var format: Format
    public var level: Logger.Level
    /// What syslog files the messages under.
    public var ident: String

    public init(format: Format = .text, level: Logger.Level = .notice, ident: String = "mlvpnd") {
        self.format = format
        self.level = level
        self.ident = ident
    }

    /// From the arguments that ``arguments`` makes; others are passed over.
    public init(arguments: some Sequence<String>) {
        self.init()
        var flag = ""
        for argument in arguments {
            switch flag {
            case "--log-format": format = Format(rawValue: argument) ?? format
            case "--log-level": level = Logger.Level(rawValue: argument) ?? level
            case "--log-ident": ident = argument
            default: break
            }
            flag = argument
        }
    }

    public var arguments: [String] {
        ["--log-format", format.rawValue, "--log-level", level.rawValue, "--log-ident", ident]
    }

    /// As many steps louder than the default as `-v` was given, quieter for negative ones.
    public static func level(verbosity: Int) -> Logger.Level {
        switch verbosity {
        case ..<(-1): .error
        case -1: .warning
        case 0: .notice
        case 1: .info
        case 2: .debug
        default: .trace
        }
    }
}
