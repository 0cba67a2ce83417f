/// The daemon's own settings: mlvpnd.conf, and the long flags of `mlvpnd`, which are the same keys with dashes.
public struct DaemonConfig: Equatable, Sendable {
    public var stateDir = "/var/lib/mlvpn"
    public var runDir = "/run/mlvpn"
    /// The only directory whose scripts are run as root.
    public var scriptDir = "/etc/mlvpn"
    /// Whom the engine runs as.
    public var user = "mlvpn"
    /// Whom control runs as: another, since a process may trace those of its own user, and control holds the passwords.
    public var controlUser = "mlvpn-control"
    /// Whose members may use the control socket.
    public var adminGroup = "mlvpn-admin"
    public var foreground = false
    /// Worker threads of the engine; nil: one for each processor.
    public var workers: Int?
    public var priority = Priority.auto
    public var logFormat = LogFormat.text
    /// 0: what an operator needs to know; each step tells more.
    public var verbose = 0

    /// Where the API listens on TCP as well; nil: on the control socket only.
    public var apiListen: HostPort?
    /// Holds the token that the API asks for on TCP.
    public var apiTokenFile: String?
    /// PEM files.
    public var apiTLSCertificate: String?
    public var apiTLSKey: String?

    /// Days that measurements are kept as taken, by the hour, and by the day.
    public var historySamplesDays = 7
    public var historyHourlyDays = 90
    public var historyDailyDays = 1830

    public init() {}

    public static let defaultPath = "/etc/mlvpn/mlvpnd.conf"
    public var databasePath: String { stateDir + "/mlvpn.db" }
    public var controlSocketPath: String { runDir + "/control.sock" }

    /// How readily the engine gets a processor. Auto: realtime if that leaves others one, high if not.
    public enum Priority: String, Sendable, CaseIterable { case auto, realtime, high, normal }

    public enum LogFormat: String, Sendable, CaseIterable { case text, json }

    /// Every key, as the file spells it.
    public static let keys = [
        "state_dir", "run_dir", "script_dir", "user", "control_user", "admin_group", "foreground", "workers",
        "priority", "log_format", "verbose", "api_listen", "api_token_file", "api_tls_certificate", "api_tls_key",
        "history_samples_days", "history_hourly_days", "history_daily_days",
    ]
}

extension DaemonConfig {
    /// Lines `key = value`, `#` before comments, double quotes as one likes, `-` for `_` in keys.
    ///
    /// - Throws: every error, by line. ``problems`` is empty otherwise.
    public static func parse(_ text: some Collection<UInt8>) throws(ConfError) -> DaemonConfig {
        var config = DaemonConfig()
        var report = ConfReport()
        var lines: [String: Int] = [:]
        for line in try ConfText(text).lines {
            if report.isHopeless {
                report.fail(line.number, "the rest is not read, so much is wrong; is this file an mlvpnd.conf?")
                break
            }
            switch line.content {
            case .fault(let text, _): report.fail(line.number, text)
            case .section:
                report.fail(
                    line.number, "mlvpnd.conf has no sections; remove the line (tunnels are added by mlvpn-admin)")
            case .entry(let written, let value):
                let key = normalized(written)
                do throws(DefinitionError) {
                    if let first = lines[key] { throw DefinitionError(key, "is set on line \(first) already") }
                    if value.hasOpenQuote { throw DefinitionError(key, "a double quote is not closed") }
                    try config.set(key, to: value.spaced)
                    lines[key] = line.number
                } catch {
                    report.fail(line.number, error.description)
                }
            }
        }
        for problem in config.problems { report.fail(lines[problem.field], problem.description) }
        return try report.finish(config).value
    }

    /// Sets one key, spelled with `_` or `-`, as the file and the command line do.
    public mutating func set(_ key: String, to text: String) throws(DefinitionError) {
        let key = Self.normalized(key)
        guard Self.keys.contains(key) else {
            let hint = suggestion(for: key, among: Self.keys)
            throw DefinitionError("", "\(quoted(key)) is no key of mlvpnd.conf\(hint)")
        }
        if text.isEmpty { throw DefinitionError(key, "has no value; give one or remove the line") }
        switch key {
        case "state_dir": stateDir = try Self.path(text, key)
        case "run_dir": runDir = try Self.path(text, key)
        case "script_dir": scriptDir = try Self.path(text, key)
        case "user": user = try Self.account(text, key)
        case "control_user": controlUser = try Self.account(text, key)
        case "admin_group": adminGroup = try Self.account(text, key)
        case "foreground": foreground = try LinkChange.parseSwitch(text, field: key)
        case "workers":
            workers = text == "auto" ? nil : try parseNumber(text, in: 1...64, field: key, hint: "auto or a number")
        case "priority":
            guard let priority = Priority(rawValue: text) else {
                throw DefinitionError(key, "\(quoted(text)) is none of auto, realtime, high and normal")
            }
            self.priority = priority
        case "log_format":
            guard let format = LogFormat(rawValue: text) else {
                throw DefinitionError(key, "\(quoted(text)) is neither text nor json")
            }
            logFormat = format
        case "verbose": verbose = try parseNumber(text, in: 0...3, field: key)
        case "api_listen": apiListen = try HostPort(text, field: key)
        case "api_token_file": apiTokenFile = try Self.path(text, key)
        case "api_tls_certificate": apiTLSCertificate = try Self.path(text, key)
        case "api_tls_key": apiTLSKey = try Self.path(text, key)
        case "history_samples_days": historySamplesDays = try Self.days(text, key)
        case "history_hourly_days": historyHourlyDays = try Self.days(text, key)
        case "history_daily_days": historyDailyDays = try Self.days(text, key)
        default: preconditionFailure("\(key) is listed as a key, and cannot be set")
        }
    }

    /// What is wrong with the settings together; to be asked again after the command line's flags are set.
    public var problems: [DefinitionError] {
        var found: [DefinitionError] = []
        func check(_ ok: Bool, _ field: String, _ problem: String) {
            if !ok { found.append(DefinitionError(field, problem)) }
        }
        check(
            controlSocketPath.utf8.count <= maximumSocketPathBytes, "run_dir",
            "the socket's path \(quoted(controlSocketPath)) is longer than \(maximumSocketPathBytes) bytes")
        check(user != "root", "user", "may not be root; give an account of its own")
        check(controlUser != "root", "control_user", "may not be root; give an account of its own")
        check(
            controlUser != user, "control_user", "is the engine's user as well; give another, the passwords are there")
        check(
            (apiTLSCertificate == nil) == (apiTLSKey == nil),
            apiTLSKey == nil ? "api_tls_certificate" : "api_tls_key",
            "api_tls_certificate and api_tls_key go together; give both")
        if let apiListen {
            check(
                apiTokenFile != nil, "api_listen", "needs an api_token_file, so that not everyone is an administrator")
            check(
                apiListen.host.isLoopback || apiTLSCertificate != nil, "api_listen",
                "\(apiListen) is no loopback address: passwords would pass in clear text; give api_tls_certificate and "
                    + "api_tls_key, or listen on 127.0.0.1")
        }
        check(
            historySamplesDays <= historyHourlyDays, "history_hourly_days",
            "is less than history_samples_days, from which hours are made")
        check(
            historyHourlyDays <= historyDailyDays, "history_daily_days",
            "is less than history_hourly_days, from which days are made")
        return found
    }

    private static func normalized(_ key: String) -> String { String(key.map { $0 == "-" ? "_" : $0 }) }

    private static func path(_ text: String, _ key: String) throws(DefinitionError) -> String {
        if let problem = pathProblems(text, field: key).first { throw problem }
        guard let last = text.utf8.lastIndex(where: { $0 != UInt8(ascii: "/") }) else {
            throw DefinitionError(key, "may not be the root directory")
        }
        return String(text[...last])
    }

    /// As useradd(8) accepts it.
    private static func account(_ text: String, _ key: String) throws(DefinitionError) -> String {
        let isName =
            text.utf8.count <= 32
            && text.utf8.enumerated().allSatisfy { index, byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "_"): true
                case 0x30...0x39, UInt8(ascii: "-"): index > 0
                default: false
                }
            }
        guard isName else {
            throw DefinitionError(
                key, "\(quoted(text)) is no account's name: at most 32 lower-case letters, digits, '_' and '-'")
        }
        return text
    }

    private static func days(_ text: String, _ key: String) throws(DefinitionError) -> Int {
        try parseNumber(text, in: 1...36500, field: key, hint: "a number of days")
    }
}

extension Host {
    /// 127.0.0.0/8, ::1, or the name `localhost`.
    public var isLoopback: Bool {
        switch self {
        case .address(.v4(let value)): value >> 24 == 127
        case .address(.v6(let high, let low)): high == 0 && low == 1
        case .name(let name): name == "localhost"
        }
    }
}
