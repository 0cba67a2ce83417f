import Foundation
import Logging
import Store
import TunnelModel

/// What mlvpnd.conf says to control, read while it is still root.
///
/// mlvpnd has not started with a file that is wrong: it was changed since. That is told, and ends no tunnel.
struct ControlSettings: Sendable {
    /// Where the API is served on TCP; nil: nowhere.
    var tcp: APIListener?
    var retention = Retention()
    /// What could not be followed.
    var problems: [String] = []

    init() {}

    init(_ options: ControlOptions, _ logger: Logger) {
        if options.isStandalone { return }
        do {
            let config = try Self.read(options.configFile)
            retention = Retention(
                samples: config.historySamplesDays, hourly: config.historyHourlyDays, daily: config.historyDailyDays)
            do { tcp = try APIListener(config) } catch {
                problems.append("the API is not served on TCP: \(error)")
            }
        } catch {
            // What is to be forgotten is not known.
            retention = .unlimited
            let file = options.configFile ?? DaemonConfig.defaultPath
            problems.append("\(file) is not followed, and the API is not served on TCP: \(error)")
        }
        for problem in problems { logger.error("\(problem)") }
    }

    private static func read(_ path: String?) throws -> DaemonConfig {
        guard let path, let data = FileManager.default.contents(atPath: path) else { return DaemonConfig() }
        return try DaemonConfig.parse(data)
    }
}

extension Retention {
    /// As long as mlvpnd.conf can say.
    fileprivate static let unlimited = Retention(samples: 36500, hourly: 36500, daily: 36500)
}
