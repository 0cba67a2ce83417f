import LinuxSystem
import Store

/// When the engine gave its last sign of life, by the wall clock as it is set now (ms since 1970).
///
/// The engine writes the wall clock's time, which may be set; its age is measured by clocks that nobody sets. So an engine
/// that runs on is alive whatever is done to the clock, and one that slept with the machine was not.
struct LifeSign: Sendable {
    private var heartbeat: Int64 = 0
    private var alive: Int64 = 0
    private var last: Clocks?

    /// Milliseconds of three clocks, read at once.
    struct Clocks: Sendable {
        var wall: Int64
        /// Since the system's start, sleep included, and without.
        var system: Int64
        var awake: Int64

        static func read() -> Clocks {
            Clocks(
                wall: Clock.wallMilliseconds(), system: Int64(Clock.now() / 1_000_000),
                awake: Int64(Clock.awake() / 1_000_000))
        }
    }

    /// A clock that leaps further says nothing of the time in between.
    private static let farthestStep: Int64 = 86_400_000

    /// Looks at the heartbeat, as is to be done every second; 0 without one.
    mutating func look(heartbeat: Int64, _ clocks: Clocks) -> Int64 {
        defer {
            self.heartbeat = heartbeat
            last = clocks
        }
        guard heartbeat > 0 else { return 0 }
        guard let last, alive > 0 else {
            alive = min(heartbeat, clocks.wall)
            return alive
        }
        let passed = clocks.system - last.system
        let step = clocks.wall - last.wall - passed
        let slept = passed - (clocks.awake - last.awake)
        if step > Self.farthestStep || slept > HistoryWriter.silence { return alive }
        alive = heartbeat == self.heartbeat ? alive + step : clocks.wall
        return alive
    }
}
