import Glibc

/// How log events are spelled. Nothing that others chose (names, script output) can start a line or move a cursor.
enum LogText {
    /// `supervisor: message tunnel=home link=adsl1`
    static func line(label: String, message: String, fields: [(String, String)]) -> String {
        var text = "\(label): \(escaped(message))"
        for (key, value) in fields { text += " \(key)=\(field(value))" }
        return text
    }

    static func json(
        time: Int64, level: String, label: String, message: String, fields: [(String, String)]
    ) -> String {
        var text = "{\"time\":\"\(timestamp(time))\",\"level\":\"\(level)\",\"process\":\(jsonString(label))"
        text += ",\"message\":\(jsonString(message))"
        for (key, value) in fields { text += ",\(jsonString(key)):\(jsonString(value))" }
        return text + "}"
    }

    /// A value's beginning, so that what else an event has is not cut off.
    static func cut(_ value: String) -> String {
        let limit = 2500
        return value.utf8.count > limit ? String(decoding: value.utf8.prefix(limit), as: UTF8.self) + "…" : value
    }

    /// UTC, `2026-11-22T11:20:00.123Z`, from milliseconds since 1970.
    static func timestamp(_ milliseconds: Int64) -> String {
        var seconds = time_t(milliseconds / 1000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func padded(_ number: Int32, _ digits: Int) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
        }
        return "\(padded(parts.tm_year + 1900, 4))-\(padded(parts.tm_mon + 1, 2))-\(padded(parts.tm_mday, 2))"
            + "T\(padded(parts.tm_hour, 2)):\(padded(parts.tm_min, 2)):\(padded(parts.tm_sec, 2))"
            + ".\(padded(Int32(milliseconds % 1000), 3))Z"
    }

    /// Local time as RFC 3164 has it: `Nov 22 11:20:00`.
    static func syslogTime() -> String {
        var now = time(nil)
        var parts = tm()
        localtime_r(&now, &parts)
        var buffer = [CChar](repeating: 0, count: 32)
        let length = strftime(&buffer, buffer.count, "%b %e %H:%M:%S", &parts)
        return String(decoding: buffer.prefix(length).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func field(_ text: String) -> String {
        let needsQuotes = text.isEmpty || text.utf8.contains { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\"") }
        return needsQuotes ? "\"" + escaped(text, quotes: true) + "\"" : escaped(text)
    }

    private static func escaped(_ text: String, quotes: Bool = false) -> String {
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": out += "\\n"
            case "\t": out += "\\t"
            case "\"" where quotes: out += "\\\""
            case _ where scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value):
                out += "\\u{\(String(scalar.value, radix: 16))}"
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }

    private static func jsonString(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }
}
