import LinuxSystem
import Logging
import ProcessChannel
import Store
import TunnelModel

/// mlvpn-control for `mlvpn -c`: no database and no API, only MLVPN's monitoring sockets of the one tunnel.
actor StandaloneMonitor {
    private let link: SupervisorLink
    private let state: StateReader
    private let logger: Logger
    private var reloadedAt: Int64 = 0
    private var entry: TunnelEntry?
    private var sockets: MonitorSockets?
    private var opening: Task<Void, Never>?

    init(link: SupervisorLink, state: StateReader, logger: Logger) {
        self.link = link
        self.state = state
        self.logger = logger
    }

    /// Until the supervisor says stop, or is gone.
    func run() async throws {
        for await event in link.events {
            switch event {
            case .notice(.stopping), .ended:
                return await close()
            case .notice(.standalone(let tunnel)): await define(tunnel.definition)
            case .notice(.assigned(_, let generation, let slot, let linkSlots)):
                entry?.slot = slot
                entry?.linkSlots = Dictionary(linkSlots.map { ($0.link, $0.slot) }) { first, _ in first }
                entry?.acknowledged = generation
            case .notice, .engineEvents: break
            }
        }
    }

    private func define(_ definition: TunnelDefinition) async {
        let old = entry
        if old != nil { reloadedAt = Clock.wallMilliseconds() }
        entry = TunnelEntry(stored: StoredTunnel(id: 0, version: 0, definition: definition))
        entry?.slot = old?.slot
        entry?.linkSlots = old?.linkSlots ?? [:]
        guard old?.definition.monitoring != definition.monitoring else { return }
        await close()
        let sockets = MonitorSockets(definition.monitoring) { await self.format() }
        self.sockets = sockets
        opening = Task { [logger] in
            var told: String?
            while !Task.isCancelled {
                let problem = await sockets.proceed()
                if problem != told {
                    if let problem {
                        logger.error("monitoring: \(problem)")
                    } else {
                        logger.notice("monitoring: the sockets are open")
                    }
                }
                told = problem
                if problem == nil { return }
                try? await Task.sleep(for: .seconds(1))
            }
        }
    }

    private func close() async {
        opening?.cancel()
        await opening?.value
        await sockets?.stop()
        sockets = nil
    }

    private func format() -> MonitorFormat? {
        guard let entry else { return nil }
        return MonitorFormat(
            snapshot: TunnelSnapshot(entry, state), uptime: SupervisorIdentity.uptime(), reloadedAt: reloadedAt)
    }
}
