/// Data rates as an operator writes them.
public enum Rate {
    /// Bytes per second; 8 Tbit/s, which leaves room for arithmetic.
    public static let maximum: UInt64 = 1_000_000_000_000

    /// `125000` (bytes per second) or a number with a unit: `bit kbit mbit gbit` and `B kB MB GB` count in thousands,
    /// `KiB MiB GiB` in 1024; the number may have a fraction and the unit a `/s`. `Mb` and `mb`, which some read as bits
    /// and some as bytes, are refused.
    public static func parse(_ text: some StringProtocol, field: String) throws(DefinitionError) -> UInt64 {
        let bytes = Array(text.utf8)
        let numberEnd = bytes.firstIndex { !isDigit($0) && $0 != UInt8(ascii: ".") } ?? bytes.count
        guard let number = Decimal(bytes[..<numberEnd]), let unit = unit(bytes[numberEnd...]) else {
            throw DefinitionError(
                field, "\(quoted(text)) is no rate; write bytes per second, or a number with a unit: 20mbit, 2MB")
        }
        // At most 10^9 · 2^30 for a digit count that `Decimal` lets through: it fits, or the flag says so.
        let (scaled, overflow) = number.units.multipliedReportingOverflow(by: unit.multiplier)
        let rate = scaled / number.scale / unit.divisor
        guard !overflow, rate <= maximum else {
            throw DefinitionError(field, "\(quoted(text)) is more than \(maximum) bytes per second")
        }
        if rate == 0 { throw DefinitionError(field, "\(quoted(text)) is less than one byte per second") }
        return rate
    }

    /// A decimal number as `units / scale`.
    private struct Decimal {
        var units: UInt64
        var scale: UInt64 = 1

        init?(_ text: ArraySlice<UInt8>) {
            let parts = text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
            guard (1...2).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }) else { return nil }
            // A fraction beyond a millionth says nothing about a rate, and would overflow.
            let fraction = parts.count == 2 ? parts[1].prefix(6) : []
            let digits = String(decoding: parts[0] + fraction, as: UTF8.self)
            // What is too long for an integer is too much for a rate: let the caller's limit say so.
            units = UInt64(digits) ?? .max
            for _ in fraction { scale *= 10 }
        }
    }

    private static func unit(_ text: ArraySlice<UInt8>) -> (multiplier: UInt64, divisor: UInt64)? {
        var unit = String(decoding: text, as: UTF8.self)
        if unit.hasSuffix("/s") { unit.removeLast(2) }
        switch unit {
        case "": return text.isEmpty ? (1, 1) : nil
        case "B": return (1, 1)
        case "kB", "KB": return (1000, 1)
        case "MB": return (1_000_000, 1)
        case "GB": return (1_000_000_000, 1)
        default: break
        }
        switch unit.lowercased() {
        case "bit": return (1, 8)
        case "kbit": return (1000, 8)
        case "mbit": return (1_000_000, 8)
        case "gbit": return (1_000_000_000, 8)
        case "kib": return (1 << 10, 1)
        case "mib": return (1 << 20, 1)
        case "gib": return (1 << 30, 1)
        default: return nil
        }
    }
}

func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
