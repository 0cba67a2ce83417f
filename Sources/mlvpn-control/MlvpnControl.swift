import ArgumentParser
import Control
import LinuxSystem

/// Started by mlvpnd and mlvpn, with the channel to them as descriptor 3.
@main
struct MlvpnControl: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mlvpn-control",
        abstract: "Definitions, history and the API of mlvpnd. It is started by mlvpnd, not by hand.")

    @Option(help: "Where the database is.")
    var stateDir = "/var/lib/mlvpn"
    @Option(help: "Whom to run as.")
    var user = "mlvpn-control"
    @Option(help: "Where status commands may lie.")
    var scriptDir = "/etc/mlvpn"
    @Option(help: "Whose members may use the control socket.")
    var adminGroup = "mlvpn-admin"
    @Option(help: "mlvpnd.conf.")
    var config: String?
    @Flag(help: "Refuse to start with a new database.")
    var existingDatabase = false
    @Flag(help: "Serve the monitoring sockets of one tunnel, without a database.")
    var standalone = false
    @Option(help: .hidden)
    var logFormat = "text"
    @Option(help: .hidden)
    var logLevel = "notice"
    @Option(help: .hidden)
    var logIdent = "mlvpnd"

    func run() throws {
        let log = LogSettings(
            arguments: ["--log-format", logFormat, "--log-level", logLevel, "--log-ident", logIdent])
        throw ExitCode(
            ControlProcess.run(
                ControlOptions(
                    stateDirectory: stateDir, user: user, adminGroup: adminGroup, configFile: config,
                    needsDatabase: existingDatabase, isStandalone: standalone, log: log)))
    }
}
