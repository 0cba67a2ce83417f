import CTestKit
import Glibc

/// Forwards Ethernet frames between two interfaces as a line with given conditions would, in real time.
///
/// A bridge with two ports: what arrives at interface a goes through the path `ab` and out of b, and the reverse. The
/// model is ``EmulatedPath``; here are only the clock and the sockets. Address resolution (ARP, neighbour discovery)
/// passes at once: it belongs to the hop beside each end, not to the line, and a dead line must not look like a dead
/// neighbour.
///
/// The senders' interfaces must hand over finished packets: checksum and segmentation offload off at the far end of
/// both veth pairs (``NetworkRig`` does it). Frames with an unfinished checksum are dropped and counted.
public final class LinkEmulator {
    public struct Options {
        public var interfaceA: String
        public var interfaceB: String
        public var ab = PathConditions()
        public var ba = PathConditions()
        public var timeline: EmulationTimeline?
        public var seed: UInt64 = 1
        /// Where commands come from, one a line: `DIRECTION key=value…`, `stats`, `quit`; its end ends the emulator.
        public var commands: Int32?

        public init(interfaceA: String, interfaceB: String) {
            self.interfaceA = interfaceA
            self.interfaceB = interfaceB
        }
    }

    /// Departures are rounded up to this grid, so that one wake-up sends what is due together (nanoseconds).
    static let granularity: UInt64 = 50_000

    private var a: EmulatorPort
    private var b: EmulatorPort
    private var ab: EmulatedPath<FramePool.Frame>
    private var ba: EmulatedPath<FramePool.Frame>
    private let pool: FramePool
    private let commands: Int32
    private var commandText: [UInt8] = []
    private let timeline: EmulationTimeline?
    private var cursor = EmulationTimeline.Cursor()
    private let start: UInt64
    private var running = true

    public init(_ options: Options) throws(EmulatorError) {
        pool = FramePool(count: 32_768)
        a = try EmulatorPort(interface: options.interfaceA)
        b = try EmulatorPort(interface: options.interfaceB)
        ab = EmulatedPath(options.ab, seed: options.seed)
        ba = EmulatedPath(options.ba, seed: ~options.seed)
        timeline = options.timeline
        commands = options.commands ?? -1
        start = LinkEmulator.now()
        let result = packet_socket_exact_timers()
        guard result == 0 else {
            throw .system(operation: "prctl PR_SET_TIMERSLACK", object: "this thread", code: -result)
        }
    }

    /// Runs until the commands end or `quit`. Prints `ready` first.
    public func run() throws(EmulatorError) {
        say("ready")
        while running {
            let now = LinkEmulator.now()
            applyTimeline(now)
            try deliverDue(now)
            let readable = try wait(now)
            if readable & 1 != 0 { try receive(from: &a, into: &ab, otherPort: &b) }
            if readable & 2 != 0 { try receive(from: &b, into: &ba, otherPort: &a) }
            if readable & 4 != 0 { try readCommands() }
        }
    }

    private func applyTimeline(_ now: UInt64) {
        guard let timeline else { return }
        while let change = timeline.take(&cursor, elapsed: now - start) {
            apply(change, now)
        }
    }

    private func apply(_ change: PathChange, _ now: UInt64) {
        if change.direction != .ba { ab.apply(change.settings, at: now) }
        if change.direction != .ab { ba.apply(change.settings, at: now) }
    }

    private func deliverDue(_ now: UInt64) throws(EmulatorError) {
        ab.advance(to: now) { frame, _ in b.queue(frame) }
        ba.advance(to: now) { frame, _ in a.queue(frame) }
        try a.flush(pool)
        try b.flush(pool)
    }

    private func wait(_ now: UInt64) throws(EmulatorError) -> Int32 {
        var deadline = [ab.nextEvent, ba.nextEvent].compactMap(\.self).min()
        if let change = timeline?.nextTime(cursor) {
            deadline = min(deadline ?? .max, start + change)
        }
        var timeout: Int64 = -1
        if let deadline {
            let grid = LinkEmulator.granularity
            let rounded = (deadline + grid - 1) / grid * grid
            timeout = rounded > now ? Int64(rounded - now) : 0
        }
        let descriptors = [a.descriptor, b.descriptor, commands]
        let readable = packet_socket_wait(descriptors, 3, timeout)
        guard readable >= 0 else {
            throw .system(operation: "ppoll", object: "the interfaces", code: -readable)
        }
        return readable
    }

    private func receive(
        from port: inout EmulatorPort, into path: inout EmulatedPath<FramePool.Frame>, otherPort: inout EmulatorPort
    ) throws(EmulatorError) {
        try port.receive(pool)
        let now = LinkEmulator.now()
        for frame in port.received {
            if pool.bypassesLine(frame) {
                otherPort.queue(frame)
            } else if path.offer(frame, bytes: Int(frame.length) - FramePool.linkHeader, at: now) != .accepted {
                pool.release(frame)
            }
        }
        port.received.removeAll(keepingCapacity: true)
        try otherPort.flush(pool)
    }

    private func readCommands() throws(EmulatorError) {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(commands, &bytes, bytes.count)
        guard count > 0 else {
            running = false
            return
        }
        commandText += bytes.prefix(count)
        while let end = commandText.firstIndex(of: UInt8(ascii: "\n")) {
            execute(String(decoding: commandText[..<end], as: UTF8.self))
            commandText.removeSubrange(...end)
        }
    }

    private func execute(_ line: String) {
        switch line {
        case "": break
        case "quit": running = false
        case "stats":
            say("ab \(LinkEmulator.describe(ab.counters)) unfinished=\(a.unfinished) oversized=\(a.oversized)")
            say("ba \(LinkEmulator.describe(ba.counters)) unfinished=\(b.unfinished) oversized=\(b.oversized)")
            say("end")
        default:
            do {
                apply(try PathChange(line), LinkEmulator.now())
                say("ok")
            } catch {
                say("error \(error)")
            }
        }
    }

    private static func describe(_ c: PathCounters) -> String {
        "offered=\(c.offered) delivered=\(c.delivered) bytes=\(c.deliveredBytes) overflowed=\(c.overflowed) lost=\(c.lost)"
            + " blackholed=\(c.blackholed) toobig=\(c.tooBig) duplicated=\(c.duplicated) reordered=\(c.reordered)"
    }

    private func say(_ line: String) {
        let text = Array((line + "\n").utf8)
        _ = text.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
    }

    private static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

/// Why the emulator could not start or go on.
public enum EmulatorError: Error, CustomStringConvertible {
    case system(operation: String, object: String, code: Int32)

    public var description: String {
        switch self {
        case .system(let operation, let object, let code):
            "\(operation) on \(object): \(String(cString: strerror(code)))"
        }
    }
}
