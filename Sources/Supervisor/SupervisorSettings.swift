import Helper
import LinuxSystem
import ProcessChannel
import TunnelModel

/// Everything that the supervisor is told at its start.
public struct SupervisorSettings: Sendable {
    /// Holds the database; its owner is control's user. Nil without a database.
    public var stateDirectory: String?
    public var runDirectory = "/run/mlvpn"
    /// Status commands run only from there; nil: from any directory that is root's alone.
    public var scriptDirectory: String?
    public var engineUser = "mlvpn"
    public var controlUser = "mlvpn-control"
    public var adminGroup = "mlvpn-admin"
    /// Of the engine; 0: one for each processor.
    public var workers: UInt32 = 0
    /// Of the engine; nil: realtime if that leaves others a processor, high if not.
    public var priority: ProcessorPriority?
    public var log = LogSettings()
    /// What ``Log/bootstrap(_:)`` returned.
    public var logDescriptor: Int32?
    /// Given to control besides what the supervisor adds.
    public var controlArguments: [String] = []
    public var helperTitle = HelperSettings.Title.links
    /// What the engine shows in `ps`, for a single tunnel.
    public var engineTitle: String?
    /// -D of the command line, for every tunnel.
    public var debugTokens: DebugTokens = []
    /// Whether children write to our standard error; else to nowhere.
    public var childrenShareStandardError = true

    public init() {}

    /// Workers to start: as many as were asked for, or as there are processors for us.
    var workerCount: UInt32 {
        workers > 0 ? workers : UInt32(min(availableProcessors(), 64))
    }

    var enginePriority: ProcessorPriority {
        priority ?? (Int(workerCount) < availableProcessors() ? .realtime : .high)
    }
}

/// Where tunnels are defined.
public enum TunnelSource {
    /// In a database: control says.
    case control
    /// In one file, read now and at SIGHUP. Throws what is wrong with it.
    case file(() throws -> CompiledTunnel)
}

/// Why the supervisor does not start; its description says what to do.
public struct StartFailure: Error, Equatable, Sendable, CustomStringConvertible {
    public var description: String
    public init(_ description: String) { self.description = description }
}
