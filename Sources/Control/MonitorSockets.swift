import LinuxSystem
import TunnelModel

/// The monitoring sockets of one tunnel. One that cannot be opened is tried again until it can, and keeps no other closed.
actor MonitorSockets {
    private let source: MonitorServer.Source
    private var parts: [Part]
    private var backoff = Backoff(first: .seconds(1), limit: .seconds(60))
    private var nextAttempt: UInt64 = 0
    private var isStopped = false

    private struct Part {
        var monitoring: Monitoring
        var server: MonitorServer?
        var problem: String?
    }

    init(_ monitoring: Monitoring, source: @escaping MonitorServer.Source) {
        self.source = source
        var parts: [Part] = []
        if let path = monitoring.unixPath { parts.append(Part(monitoring: Monitoring(unixPath: path))) }
        if let port = monitoring.bindPort {
            parts.append(Part(monitoring: Monitoring(bindHost: monitoring.bindHost, bindPort: port)))
        }
        self.parts = parts
    }

    /// Opens what is not open yet, if it is time to try; called every second. Not by two at a time.
    ///
    /// - Returns: what keeps sockets closed; nil: nothing.
    func proceed() async -> String? {
        if parts.contains(where: { $0.server == nil }), Clock.now() >= nextAttempt {
            for index in parts.indices where parts[index].server == nil && !isStopped { await open(index) }
            if parts.contains(where: { $0.server == nil }) { nextAttempt = Clock.now() + backoff.failed() }
        }
        let problems = parts.compactMap(\.problem)
        return problems.isEmpty ? nil : problems.joined(separator: "; ") + "; it is tried again"
    }

    func stop() async {
        isStopped = true
        for part in parts { await part.server?.stop() }
        parts = []
    }

    private func open(_ index: Int) async {
        let (server, problems) = await MonitorServer.start(parts[index].monitoring, source: source)
        guard problems.isEmpty, !isStopped else {
            await server.stop()
            if !isStopped { parts[index].problem = problems.joined(separator: "; ") }
            return
        }
        parts[index].server = server
        parts[index].problem = nil
    }
}
