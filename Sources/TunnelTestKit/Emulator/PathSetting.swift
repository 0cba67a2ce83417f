/// One `key=value` of the emulator's language.
///
/// | key | value |
/// |---|---|
/// | `rate` | bits per second: `50mbit`, `800kbit`, `1gbit`, `64000`; `0` is no limit |
/// | `overhead` | bytes per packet |
/// | `queue` | `64000` (bytes), `50p` (packets) or `100ms` (at the rate) |
/// | `delay`, `jitter`, `reorder-delay` | `10ms`, `250us`, `1.5s` |
/// | `loss`, `duplicate`, `reorder` | percent: `5%`, `0.1%` |
/// | `burst` | `ENTER:LEAVE[:LOSS-WHILE-BAD[:LOSS-WHILE-GOOD]]` in percent per packet, or `off` |
/// | `mtu` | largest IP packet in bytes that passes; `0` is no limit |
/// | `blackhole` | `on` or `off` |
public enum PathSetting: Sendable, Equatable {
    case rate(UInt64)
    case overhead(Int)
    case queue(QueueLimit)
    case delay(UInt64)
    case jitter(UInt64)
    case loss(Double)
    case burstLoss(BurstLoss?)
    case duplicate(Double)
    case reorder(Double)
    case reorderDelay(UInt64)
    case mtu(Int)
    case blackhole(Bool)

    static let keys = [
        "rate", "overhead", "queue", "delay", "jitter", "loss", "burst", "duplicate", "reorder", "reorder-delay",
        "mtu", "blackhole",
    ]

    /// Reads words separated by spaces or commas.
    public static func parse(_ text: some StringProtocol) throws(EmulationTextError) -> [PathSetting] {
        var settings: [PathSetting] = []
        for word in text.split(whereSeparator: { $0.isWhitespace || $0 == "," }) {
            settings.append(try PathSetting(word: String(word)))
        }
        return settings
    }

    init(word: String) throws(EmulationTextError) {
        let halves = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard halves.count == 2 else {
            throw .notASetting(word)
        }
        let value = halves[1]
        switch halves[0] {
        case "rate": self = .rate(try Quantity.rate(value, in: word))
        case "overhead": self = .overhead(try Quantity.count(value, in: word))
        case "queue": self = .queue(try Quantity.queue(value, in: word))
        case "delay": self = .delay(try Quantity.duration(value, in: word))
        case "jitter": self = .jitter(try Quantity.duration(value, in: word))
        case "loss": self = .loss(try Quantity.percent(value, in: word))
        case "burst": self = .burstLoss(try Quantity.burst(value, in: word))
        case "duplicate": self = .duplicate(try Quantity.percent(value, in: word))
        case "reorder": self = .reorder(try Quantity.percent(value, in: word))
        case "reorder-delay": self = .reorderDelay(try Quantity.duration(value, in: word))
        case "mtu": self = .mtu(try Quantity.count(value, in: word))
        case "blackhole": self = .blackhole(try Quantity.toggle(value, in: word))
        default: throw .unknownKey(halves[0])
        }
    }
}

/// Why text for the emulator was refused.
public enum EmulationTextError: Error, Equatable, CustomStringConvertible {
    case notASetting(String)
    case unknownKey(String)
    case badValue(word: String, expected: String)
    case badLine(number: Int, reason: String)

    public var description: String {
        switch self {
        case .notASetting(let word):
            "'\(word)' is not of the form key=value"
        case .unknownKey(let key):
            "unknown key '\(key)'; known are \(PathSetting.keys.joined(separator: ", "))"
        case .badValue(let word, let expected):
            "'\(word)': expected \(expected)"
        case .badLine(let number, let reason):
            "line \(number): \(reason)"
        }
    }
}

/// Numbers with units.
private enum Quantity {
    static func rate(_ text: String, in word: String) throws(EmulationTextError) -> UInt64 {
        let units = ["gbit": 1e9, "mbit": 1e6, "kbit": 1e3, "bit": 1]
        return try scaled(text, units, upTo: 1e12, word, "a rate such as 50mbit, 800kbit or 0")
    }

    static func duration(_ text: String, in word: String) throws(EmulationTextError) -> UInt64 {
        let units = ["ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9]
        return try scaled(text, units, upTo: 3.6e12, word, "a time up to an hour such as 10ms, 250us or 1.5s")
    }

    static func count(_ text: String, in word: String) throws(EmulationTextError) -> Int {
        guard let value = Int(text), (0...1_000_000_000).contains(value) else {
            throw .badValue(word: word, expected: "a whole number from 0 to 1000000000")
        }
        return value
    }

    static func percent(_ text: String, in word: String) throws(EmulationTextError) -> Double {
        let number = text.hasSuffix("%") ? String(text.dropLast()) : text
        guard let value = Double(number), (0...100).contains(value) else {
            throw .badValue(word: word, expected: "a percentage from 0% to 100%")
        }
        return value / 100
    }

    static func toggle(_ text: String, in word: String) throws(EmulationTextError) -> Bool {
        switch text {
        case "on": return true
        case "off": return false
        default: throw .badValue(word: word, expected: "on or off")
        }
    }

    static func queue(_ text: String, in word: String) throws(EmulationTextError) -> QueueLimit {
        if text.hasSuffix("p") {
            return .packets(try count(String(text.dropLast()), in: word))
        }
        if text.hasSuffix("s") {
            return .duration(try duration(text, in: word))
        }
        return .bytes(try count(text, in: word))
    }

    static func burst(_ text: String, in word: String) throws(EmulationTextError) -> BurstLoss? {
        if text == "off" {
            return nil
        }
        var parts: [Double] = []
        for part in text.split(separator: ":", omittingEmptySubsequences: false) {
            parts.append(try percent(String(part), in: word))
        }
        guard (2...4).contains(parts.count) else {
            throw .badValue(word: word, expected: "ENTER:LEAVE[:LOSS-WHILE-BAD[:LOSS-WHILE-GOOD]] in percent, or off")
        }
        return BurstLoss(
            enter: parts[0], leave: parts[1], lossWhileBad: parts.count > 2 ? parts[2] : 1,
            lossWhileGood: parts.count > 3 ? parts[3] : 0)
    }

    /// A decimal number with one of the units; without a unit only the smallest unit's whole numbers.
    private static func scaled(
        _ text: String, _ units: [String: Double], upTo limit: Double, _ word: String, _ expected: String
    ) throws(EmulationTextError) -> UInt64 {
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        let unit = String(text.dropFirst(digits.count))
        let scale = unit.isEmpty ? 1 : units[unit]
        guard let number = Double(digits), let scale, number * scale <= limit else {
            throw .badValue(word: word, expected: expected)
        }
        return UInt64((number * scale).rounded())
    }
}
