import LinuxSystem
import Logging
import Synchronization

/// Lets a stranger cause so many lines of log in a minute and no more; the next line tells how many there were beyond.
final class LogLimiter: Sendable {
    private let limit: Int
    private let state = Mutex(State())

    private struct State {
        var windowStart: UInt64 = 0
        var written = 0
        var suppressed = 0
    }

    private static let window: UInt64 = 60_000_000_000

    init(perMinute limit: Int) { self.limit = limit }

    /// How many lines were left out before the one that may be written now; nil: not this one either.
    func admit(now: UInt64 = Clock.now()) -> Int? {
        state.withLock { state in
            if now - state.windowStart >= Self.window {
                state.windowStart = now
                state.written = 0
            }
            guard state.written < limit else {
                state.suppressed += 1
                return nil
            }
            state.written += 1
            defer { state.suppressed = 0 }
            return state.suppressed
        }
    }

    func warning(_ logger: Logger, _ text: String, metadata: Logger.Metadata = [:]) {
        guard let suppressed = admit() else { return }
        var metadata = metadata
        if suppressed > 0 { metadata["suppressed"] = "\(suppressed)" }
        logger.warning("\(text)", metadata: metadata)
    }
}
