import LinuxSystem
import Logging
import TunnelModel

/// Keeps the monitoring sockets that definitions ask for open.
actor TunnelMonitors {
    private let directory: TunnelDirectory
    private let logger: Logger
    private var running: [Int64: Running] = [:]

    private struct Running {
        var monitoring: Monitoring
        var sockets: MonitorSockets
        var problem: String?
    }

    init(directory: TunnelDirectory, logger: Logger) {
        self.directory = directory
        self.logger = logger
    }

    /// Opens and closes what has changed, and tries again what failed; called every second.
    func update() async {
        let entries = await directory.entries
        for (id, old) in running where entries[id]?.wantedMonitoring != old.monitoring {
            await old.sockets.stop()
            running[id] = nil
            if old.problem != nil { await directory.setMonitoringProblem(nil, of: id) }
        }
        for (id, entry) in entries {
            guard let monitoring = entry.wantedMonitoring else { continue }
            var monitor = running[id] ?? start(monitoring, of: id)
            let problem = await monitor.sockets.proceed()
            if problem != monitor.problem {
                await directory.setMonitoringProblem(problem, of: id)
                if let problem {
                    logger.error("tunnel \(entry.definition.name): \(problem)")
                } else {
                    logger.notice("tunnel \(entry.definition.name): the monitoring sockets are open")
                }
            }
            monitor.problem = problem
            running[id] = monitor
        }
    }

    private func start(_ monitoring: Monitoring, of id: Int64) -> Running {
        let directory = directory
        let sockets = MonitorSockets(monitoring) {
            guard let snapshot = await directory.snapshot(of: id) else { return nil }
            return MonitorFormat(
                snapshot: snapshot, uptime: SupervisorIdentity.uptime(), reloadedAt: snapshot.entry.reloadedAt)
        }
        return Running(monitoring: monitoring, sockets: sockets)
    }

    func stop() async {
        for (_, monitor) in running { await monitor.sockets.stop() }
        running = [:]
    }
}

extension TunnelEntry {
    /// Nil for a tunnel that is disabled, or asks for none.
    var wantedMonitoring: Monitoring? {
        definition.enabled && definition.monitoring.isWanted ? definition.monitoring : nil
    }
}
