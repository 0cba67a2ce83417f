import Glibc

/// Set by SIGINT and SIGTERM once ``interruptible()`` was called; every wait of the kit then ends with an error, so that
/// programs unwind through their clean-up.
nonisolated(unsafe) private var interrupted: sig_atomic_t = 0

/// Turns SIGINT, SIGTERM and SIGHUP into ``RigError/interrupted`` of whatever wait is under way.
public func interruptible() {
    for number in [SIGINT, SIGTERM, SIGHUP] {
        signal(number) { _ in interrupted = 1 }
    }
}

/// Calls `condition` until it gives a value; throws when `limit` has passed without one.
///
/// - Parameter what: what is waited for, for the error.
public func poll<Value>(
    _ what: String, within limit: Duration, every interval: Duration = .milliseconds(5),
    _ condition: () throws(RigError) -> Value?
) throws(RigError) -> Value {
    let clock = ContinuousClock()
    let deadline = clock.now + limit
    while true {
        if let value = try condition() { return value }
        if interrupted != 0 { throw .interrupted }
        if clock.now >= deadline { throw .timedOut(waitingFor: what, after: limit) }
        let nanoseconds = interval.components.attoseconds / 1_000_000_000
        var pause = timespec(tv_sec: Int(interval.components.seconds), tv_nsec: Int(nanoseconds))
        nanosleep(&pause, nil)
    }
}

/// Waits until `condition` holds.
public func waitUntil(
    _ what: String, within limit: Duration, _ condition: () throws(RigError) -> Bool
) throws(RigError) {
    try poll(what, within: limit) { () throws(RigError) -> Void? in try condition() ? () : nil }
}

/// Why something in a rig did not work.
public enum RigError: Error, CustomStringConvertible {
    case notRoot
    case system(operation: String, object: String, code: Int32)
    case commandFailed(command: String, status: RunningProcess.ExitStatus, output: String)
    case timedOut(waitingFor: String, after: Duration)
    case unexpected(String)
    case interrupted

    public var description: String {
        switch self {
        case .notRoot:
            "network namespaces need root; run this as root"
        case .system(let operation, let object, let code):
            "\(operation) \(object): \(String(cString: strerror(code)))"
        case .commandFailed(let command, let status, let output):
            "\(command): \(status)\n\(output.suffix(4000))"
        case .timedOut(let what, let limit):
            "waited \(limit) for \(what) in vain"
        case .unexpected(let reason):
            reason
        case .interrupted:
            "interrupted"
        }
    }
}
