import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import Store
import TunnelModel

/// Everything that mlvpn-control does for mlvpnd, until the supervisor ends it.
struct ControlService: Sendable {
    let link: SupervisorLink
    let state: StateReader
    let store: Store
    let adminGroup: UInt32?
    let settings: ControlSettings
    let stateDirectory: String
    let logger: Logger

    func run(listener: Descriptor) async throws {
        Self.removeRemnants(in: stateDirectory)
        let hub = EventHub()
        let recorder = Recorder(
            store: store, instance: SupervisorIdentity.text(), retention: settings.retention, logger: logger)
        let directory = TunnelDirectory(
            store: store, state: state, recorder: recorder, hub: hub, logger: logger, send: link.send(_:passing:))
        try await directory.start(eventsRead: try await recorder.begin(now: Clock.wallMilliseconds()))
        if adminGroup == nil {
            logger.warning(
                "there is no admin group; only root may use the control socket (groupadd --system mlvpn-admin)")
        }
        guard let socket = listener.take() else { throw ControlError("the control socket was taken already") }
        let routes = APIRoutes(
            directory: directory, store: store, recorder: recorder, hub: hub, state: state, logger: logger,
            stateDirectory: stateDirectory, settingsProblems: settings.problems)
        let responder = routes.responder()
        let server = APIServer(responder: responder, access: .peers(adminGroup: adminGroup), logger: logger)
        let listening = Descriptor(socket)
        let monitors = TunnelMonitors(directory: directory, logger: logger)
        try await withThrowingTaskGroup { group in
            group.addTask {
                guard let socket = listening.take() else { return }
                try await server.run(on: socket)
            }
            if let tcp = settings.tcp {
                let server = APIServer(responder: responder, access: .tokens(tcp.tokens), logger: logger)
                group.addTask { await listen(server, tcp) }
            }
            group.addTask { try await keepTime(directory, recorder) }
            group.addTask {
                // By itself: a host's name may take its time.
                while true {
                    try await Task.sleep(for: .seconds(1))
                    await monitors.update()
                }
            }
            group.addTask { await follow(directory) }
            // Whoever ends first ends it all; normally the supervisor's word.
            try await group.next()
            group.cancelAll()
            hub.finish()
        }
        await monitors.stop()
        await directory.tick()
        await recorder.record(directory.samples(), now: Clock.wallMilliseconds())
        store.close()
    }

    /// Copies of the database, with every password, that a process before this one was killed over.
    static func removeRemnants(in directory: String) {
        guard let list = opendir(directory) else { return }
        defer { closedir(list) }
        while let entry = readdir(list) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            // With what SQLite makes beside them.
            if name.contains(".tmp"), name.hasPrefix("backup-") || name.hasPrefix("restore-") {
                unlink("\(directory)/\(name)")
            }
        }
    }

    /// On TCP; an address that is not there (yet) is tried again, and keeps nothing else from working.
    private func listen(_ server: APIServer, _ tcp: APIListener) async {
        let place: Logger.Metadata = ["api_listen": "\(tcp.host) port \(tcp.port)"]
        while !Task.isCancelled {
            do { try await server.run(host: tcp.host, port: tcp.port, tls: tcp.tls) } catch {
                if Task.isCancelled { return }
                logger.error("the API cannot listen: \(error); it is tried again in 10 seconds", metadata: place)
            }
            do { try await Task.sleep(for: .seconds(10)) } catch { return }
        }
    }

    /// Until the supervisor says stop, or is gone.
    private func follow(_ directory: TunnelDirectory) async {
        for await event in link.events {
            switch event {
            case .notice(.stopping): return
            case .notice(let notice): await directory.handle(notice)
            case .engineEvents: await directory.drainEngineEvents()
            case .ended(let reason):
                logger.error("the supervisor is gone: \(reason)")
                return
            }
        }
    }

    private func keepTime(_ directory: TunnelDirectory, _ recorder: Recorder) async throws {
        var seconds = 0
        while true {
            try await Task.sleep(for: .seconds(1))
            seconds += 1
            await directory.tick()
            if seconds % 10 == 0 { await recorder.record(directory.samples(), now: Clock.wallMilliseconds()) }
            if seconds % 60 == 0 { await recorder.rollUp(now: Clock.wallMilliseconds()) }
        }
    }
}

/// Tells one supervisor from the next: what its engine has shown is only worth continuing with the same one.
enum SupervisorIdentity {
    /// The machine's boot, and the supervisor's process and start (proc(5)).
    static func text() -> String {
        let boot = contents("/proc/sys/kernel/random/boot_id").prefix { $0 != "\n" }
        return "\(boot) \(getppid()) \(startTicks())"
    }

    /// For how many seconds it has run, whatever was done to the clock meanwhile.
    static func uptime() -> Int64 {
        var sinceBoot = timespec()
        let ticksPerSecond = Int64(sysconf(Int32(_SC_CLK_TCK)))
        guard let ticks = Int64(startTicks()), ticksPerSecond > 0, clock_gettime(CLOCK_BOOTTIME, &sinceBoot) == 0 else {
            return 0
        }
        let uptime = Int64(sinceBoot.tv_sec) * 1000 + Int64(sinceBoot.tv_nsec) / 1_000_000
        return max(0, uptime - ticks * 1000 / ticksPerSecond) / 1000
    }

    /// Since boot.
    private static func startTicks() -> String {
        // The command's name is in parentheses and may hold anything; what follows is in order, the start the 22nd field.
        let fields = contents("/proc/\(getppid())/stat").split(separator: ")").last?.split(separator: " ") ?? []
        return fields.count > 19 ? String(fields[19]) : ""
    }

    private static func contents(_ path: String) -> String {
        guard let file = fopen(path, "r") else { return "" }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
}
