import Glibc

/// Times as the API and the database's views write them: ISO 8601 in UTC, with milliseconds.
public enum Timestamp {
    /// `2025-03-01T12:00:00.000Z` of milliseconds since 1970.
    public static func text(_ milliseconds: Int64) -> String {
        let (seconds, rest) = milliseconds.quotientAndRemainder(dividingBy: 1000)
        var time = time_t(seconds)
        var parts = tm()
        gmtime_r(&time, &parts)
        func pad(_ number: some BinaryInteger, _ width: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        return "\(pad(parts.tm_year + 1900, 4))-\(pad(parts.tm_mon + 1, 2))-\(pad(parts.tm_mday, 2))"
            + "T\(pad(parts.tm_hour, 2)):\(pad(parts.tm_min, 2)):\(pad(parts.tm_sec, 2)).\(pad(abs(rest), 3))Z"
    }

    /// Nil for 0, which is never.
    public static func optionalText(_ milliseconds: Int64) -> String? { milliseconds > 0 ? text(milliseconds) : nil }

    /// Milliseconds since 1970 of what an operator writes: `2025-03-01`, `2025-03-01T12:00[:00[.000]][Z]` (a space serves
    /// for the T), or a time ago: `90s`, `15m`, `36h`, `7d`. Nil for anything else.
    public static func parse(_ text: String, now: Int64) -> Int64? {
        if let unit = text.last, let number = Int64(text.dropLast()), number >= 0, number < 1_000_000,
            let factor = ["s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000][unit] as Int64?
        {
            return now - number * factor
        }
        return parseDate(text)
    }

    private static func parseDate(_ text: String) -> Int64? {
        let text = text.hasSuffix("Z") ? text.dropLast() : Substring(text)
        let halves = text.split(maxSplits: 1, omittingEmptySubsequences: false) { $0 == "T" || $0 == " " }
        guard let date = numbers(halves[0], "-", widths: [4, 2, 2]) else { return nil }
        guard (1970...9999).contains(date[0]), (1...12).contains(date[1]), (1...31).contains(date[2]) else {
            return nil
        }
        var parts = tm()
        parts.tm_year = Int32(date[0] - 1900)
        parts.tm_mon = Int32(date[1] - 1)
        parts.tm_mday = Int32(date[2])
        var milliseconds: Int64 = 0
        if halves.count == 2 {
            let clock = halves[1].split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
            let time =
                numbers(clock[0], ":", widths: [2, 2, 2]) ?? numbers(clock[0], ":", widths: [2, 2]).map { $0 + [0] }
            guard let time, time[0] < 24, time[1] < 60, time[2] < 60 else { return nil }
            if clock.count == 2 {
                guard let fraction = numbers(clock[1], "-", widths: [3]) else { return nil }
                milliseconds = Int64(fraction[0])
            }
            parts.tm_hour = Int32(time[0])
            parts.tm_min = Int32(time[1])
            parts.tm_sec = Int32(time[2])
        }
        let seconds = timegm(&parts)
        // The 31st of a short month would be another date.
        guard Int(parts.tm_mday) == date[2] else { return nil }
        return Int64(seconds) * 1000 + milliseconds
    }

    private static func numbers(_ text: Substring, _ separator: Character, widths: [Int]) -> [Int]? {
        let parts = text.split(separator: separator, omittingEmptySubsequences: false)
        guard parts.count == widths.count else { return nil }
        var numbers: [Int] = []
        for (part, width) in zip(parts, widths) {
            guard part.utf8.count == width, part.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let number = Int(part)
            else { return nil }
            numbers.append(number)
        }
        return numbers
    }
}
