/// The direction of an emulated link between its ends a and b.
public enum PathDirection: String, Sendable, Equatable {
    case ab
    case ba
    case both
}

/// Settings for one direction or both: `ab blackhole=on`, `both rate=50mbit delay=10ms`.
public struct PathChange: Sendable, Equatable {
    public var direction: PathDirection
    public var settings: [PathSetting]

    public init(_ direction: PathDirection, _ settings: [PathSetting]) {
        self.direction = direction
        self.settings = settings
    }

    /// Reads `DIRECTION key=value…`.
    public init(_ text: some StringProtocol) throws(EmulationTextError) {
        let words = text.split(maxSplits: 1, whereSeparator: \.isWhitespace)
        guard let first = words.first, let direction = PathDirection(rawValue: String(first)) else {
            throw .badValue(word: String(words.first ?? ""), expected: "a direction: ab, ba or both")
        }
        self.init(direction, try PathSetting.parse(words.count > 1 ? String(words[1]) : ""))
    }
}

/// Changes of a link's conditions over time.
///
/// One change a line, `AT_MS DIRECTION key=value…`, in the order of time; `#` begins a comment. A last line `AT_MS loop`
/// begins again from the first line at that time.
///
///     0     both rate=20mbit delay=10ms
///     5000  both rate=10mbit
///     10000 loop
public struct EmulationTimeline: Sendable, Equatable {
    public struct Entry: Sendable, Equatable {
        /// Nanoseconds from the start.
        public var at: UInt64
        public var change: PathChange
    }

    public private(set) var entries: [Entry] = []
    /// The length of one round in nanoseconds; nil when the timeline does not repeat.
    public private(set) var period: UInt64?

    public init(_ text: some StringProtocol) throws(EmulationTextError) {
        var number = 0
        for line in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
            number += 1
            let content = line.prefix { $0 != "#" }
            let words = content.split(maxSplits: 1, whereSeparator: \.isWhitespace)
            guard let first = words.first else { continue }
            do {
                try add(time: String(first), rest: words.count > 1 ? String(words[1]) : "")
            } catch {
                throw .badLine(number: number, reason: "\(error)")
            }
        }
    }

    private mutating func add(time: String, rest: String) throws(EmulationTextError) {
        guard let milliseconds = UInt64(time), milliseconds <= 86_400_000 else {
            throw .badValue(word: time, expected: "milliseconds from the start, at most one day")
        }
        let at = milliseconds * 1_000_000
        guard period == nil, at >= entries.last?.at ?? 0 else {
            throw .badValue(word: time, expected: "a time not before that of the line above, and nothing after 'loop'")
        }
        if rest.trimmingPrefix(while: \.isWhitespace).prefix(while: { !$0.isWhitespace }) == "loop" {
            guard at > 0 else {
                throw .badValue(word: time, expected: "a time above 0 for 'loop'")
            }
            period = at
        } else {
            entries.append(Entry(at: at, change: try PathChange(rest)))
        }
    }

    /// The place of a reader in the timeline.
    public struct Cursor: Sendable {
        fileprivate var next = 0
        fileprivate var round: UInt64 = 0

        public init() {}
    }

    /// When the change after `cursor` is due, in nanoseconds from the start; nil at the end.
    public func nextTime(_ cursor: Cursor) -> UInt64? {
        if cursor.next < entries.count {
            return cursor.round * (period ?? 0) + entries[cursor.next].at
        }
        guard let period, let first = entries.first else { return nil }
        return (cursor.round + 1) * period + first.at
    }

    /// Takes the next change if it is due `elapsed` nanoseconds after the start.
    public func take(_ cursor: inout Cursor, elapsed: UInt64) -> PathChange? {
        guard let due = nextTime(cursor), due <= elapsed else { return nil }
        if cursor.next == entries.count {
            cursor.next = 0
            cursor.round += 1
        }
        defer { cursor.next += 1 }
        return entries[cursor.next].change
    }
}
