import LinuxSystem
import Logging
import TunnelModel

/// Keeps the monitoring sockets that definitions ask for open.
actor TunnelMonitors {
    private let directory: TunnelDirectory
    private let logger: Logger
    private let startedAt = Clock.wallMilliseconds()
    private var running: [Int64: (monitoring: Monitoring, server: MonitorServer)] = [:]

    init(directory: TunnelDirectory, logger: Logger) {
        self.directory = directory
        self.logger = logger
    }

    /// Opens and closes what has changed; called every second.
    func update() async {
        let entries = await directory.entries
        for (id, old) in running where entries[id]?.wantedMonitoring != old.monitoring {
            await old.server.stop()
            running[id] = nil
        }
        for (id, entry) in entries {
            guard running[id] == nil, let monitoring = entry.wantedMonitoring else { continue }
            let (directory, startedAt) = (directory, startedAt)
            let (server, problems) = await MonitorServer.start(monitoring) {
                guard let snapshot = await directory.snapshot(of: id) else { return nil }
                return MonitorFormat(
                    snapshot: snapshot, startedAt: startedAt, reloadedAt: 0, now: Clock.wallMilliseconds())
            }
            running[id] = (monitoring, server)
            for problem in problems { logger.error("tunnel \(entry.definition.name): \(problem)") }
        }
    }

    func stop() async {
        for (_, monitor) in running { await monitor.server.stop() }
        running = [:]
    }
}

extension TunnelEntry {
    /// Nil for a tunnel that is disabled, or asks for none.
    var wantedMonitoring: Monitoring? {
        definition.enabled && definition.monitoring.isWanted ? definition.monitoring : nil
    }
}
