import Glibc

/// How readily a process gets a processor when others want one as well.
public enum ProcessorPriority: String, CaseIterable, Sendable {
    /// As it was started.
    case normal
    /// Niceness -10: where all processors are busy, ten times the share of another process (sched(7)).
    case high
    /// Round robin at real-time priority 1: whenever it has something to do, before all others.
    case realtime

    private static let process = __priority_which_t(PRIO_PROCESS.rawValue)
    private static let highNiceness: Int32 = -10

    /// That of this thread, from -20 to 19.
    public static var niceness: Int32 { getpriority(process, 0) }

    /// Takes effect for this thread and those it starts. Needs root or CAP_SYS_NICE.
    public func take() throws(SystemError) {
        switch self {
        case .normal: break
        case .high:
            if setpriority(Self.process, 0, Self.highNiceness) < 0 {
                throw .last("take niceness \(Self.highNiceness)")
            }
        case .realtime:
            var parameters = sched_param()
            parameters.sched_priority = 1
            if sched_setscheduler(0, SCHED_RR, &parameters) < 0 { throw .last("take real-time priority 1") }
        }
    }
}
