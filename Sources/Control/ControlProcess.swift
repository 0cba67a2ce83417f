import Foundation
import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import Store
import Synchronization
import TunnelModel

/// What mlvpn-control is started with.
public struct ControlOptions: Sendable {
    public var stateDirectory: String
    public var user: String
    public var adminGroup: String
    /// mlvpnd.conf; nil: the defaults.
    public var configFile: String?
    /// Whether there must be a database already: one that is new and empty would end all that runs.
    public var needsDatabase: Bool
    public var isStandalone: Bool
    public var log: LogSettings

    public init(
        stateDirectory: String, user: String, adminGroup: String, configFile: String?, needsDatabase: Bool,
        isStandalone: Bool, log: LogSettings
    ) {
        self.stateDirectory = stateDirectory
        self.user = user
        self.adminGroup = adminGroup
        self.configFile = configFile
        self.needsDatabase = needsDatabase
        self.isStandalone = isStandalone
        self.log = log
    }
}

/// The process `mlvpn-control`: started by the supervisor as root, it gives root up before anything else happens.
public enum ControlProcess {
    /// The descriptor of the channel to the supervisor.
    private static let channelDescriptor: Int32 = 3

    /// Runs until the supervisor ends it; the process's exit code.
    public static func run(_ options: ControlOptions) -> Int32 {
        Log.bootstrap(options.log)
        let logger = Logger(label: "control")
        signal(SIGPIPE, SIG_IGN)
        umask(0o077)
        do {
            // The supervisor says what comes of them. Before any thread starts.
            let signals = try SignalFD([SIGTERM, SIGINT, SIGQUIT, SIGHUP])
            let settings = ControlSettings(options, logger)
            let adminGroup = Account.groupID(named: options.adminGroup)
            if getuid() == 0 { try dropPrivileges(options) }
            if !options.isStandalone { ProcessTitle.set("mlvpn-control") }
            let welcome = try SupervisorLink.connect(OwnedDescriptor(owning: channelDescriptor), signals: signals)
            let link = welcome.link
            let state = StateReader(state: welcome.state)
            if options.isStandalone {
                return wait(logger) { try await StandaloneMonitor(link: link, state: state, logger: logger).run() }
            }
            let listener = Descriptor(welcome.listener)
            let store = try Store(
                path: options.stateDirectory + "/mlvpn.db", mustExist: options.needsDatabase
            ) { AuditLog.write($0, to: logger) }
            let service = ControlService(
                link: link, state: state, store: store, adminGroup: adminGroup, settings: settings,
                stateDirectory: options.stateDirectory, logger: logger)
            return wait(logger) { try await service.run(listener: listener) }
        } catch {
            fail(error, logger)
            return 1
        }
    }

    /// Logs what ends this process, and tells the supervisor, which may be waiting for it to start.
    private static func fail(_ error: any Error, _ logger: Logger) {
        logger.critical("\(error)")
        guard let descriptor = try? OwnedDescriptor(duplicating: channelDescriptor) else { return }
        try? Channel(descriptor).send(ControlRequest.cannotStart(reason: "\(error)"))
    }

    private static func dropPrivileges(_ options: ControlOptions) throws {
        guard let account = Account(user: options.user) else {
            throw ControlError("there is no user \(quoted(options.user)); create it: useradd --system \(options.user)")
        }
        try Privileges.drop(to: account, chroot: nil)
    }

    /// Blocks the first thread until `body` has ended.
    private static func wait(_ logger: Logger, _ body: @escaping @Sendable () async throws -> Void) -> Int32 {
        let done = DispatchSemaphore(value: 0)
        let failure = FailureBox()
        Task.detached {
            do { try await body() } catch {
                fail(error, logger)
                failure.hasFailed = true
            }
            done.signal()
        }
        done.wait()
        return failure.hasFailed ? 1 : 0
    }
}

/// Written before the semaphore is signalled, read after it was waited for.
private final class FailureBox: @unchecked Sendable {
    var hasFailed = false
}

/// A descriptor that is taken once, by whoever serves it.
final class Descriptor: Sendable {
    private let descriptor: Mutex<Int32>

    init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = Mutex(descriptor.release()) }
    deinit { _ = take() }

    func take() -> OwnedDescriptor? {
        descriptor.withLock { raw in
            defer { raw = -1 }
            return raw >= 0 ? OwnedDescriptor(owning: raw) : nil
        }
    }
}
