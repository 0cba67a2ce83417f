import LinuxSystem

/// Whether the wall clock can be believed when something is to be forgotten for its age: a clock that is wrong for a minute
/// must not cost the history of years.
struct ClockCheck: Sendable {
    /// Both clocks (milliseconds) when they were last looked at.
    private var last: (wall: Int64, system: Int64)?
    /// Since when they have gone alike.
    private var evenSince: Int64 = 0

    /// How far one may have gone from the other between two looks.
    private static let tolerance: Int64 = 86_400_000
    /// For how long they must have gone alike.
    private static let probation: Int64 = 3_600_000

    /// Looks at the clocks, as is to be done every minute.
    mutating func isBelievable(wall: Int64, system: Int64 = Int64(Clock.now() / 1_000_000)) -> Bool {
        let drift = last.map { (wall - $0.wall) - (system - $0.system) }
        last = (wall, system)
        guard let drift, abs(drift) <= Self.tolerance else {
            evenSince = system
            return false
        }
        return system - evenSince >= Self.probation
    }
}
