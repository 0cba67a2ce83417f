/// Single values, with what stock makes of bad ones.
extension MlvpnConfReader {
    func isSet(_ key: String, in section: Section) -> Bool {
        section.entries[key].map { !$0.value.word.isEmpty } ?? false
    }

    /// The key's entry, unless it is absent or empty, which is the same to stock.
    mutating func present(_ key: String, in section: Section, mandatory: String? = nil) -> Entry? {
        if let entry = section.entries[key], !entry.value.word.isEmpty { return entry }
        guard let mandatory else { return nil }
        if let entry = section.entries[key] {
            file.report.fail(entry.line, "\(key) is empty; \(mandatory)")
        } else if let line = section.ignored[key] {
            // In strict reading the line has its own error.
            if file.strictness == .lenient {
                file.report.fail(line, "\(key) cannot be read from this line; put the value in double quotes, in ASCII")
            }
        } else {
            file.report.fail(section.line, "[\(section.name)] has no \(key); \(mandatory)")
        }
        return nil
    }

    mutating func value<Value>(
        _ key: String, in section: Section, otherwise: String = "it is ignored",
        _ parse: (String) throws(DefinitionError) -> Value
    ) -> Value? {
        guard let entry = present(key, in: section) else { return nil }
        do throws(DefinitionError) {
            return try parse(entry.value.word)
        } catch {
            file.fault(entry.line, error.description, lenient: otherwise)
            return nil
        }
    }

    /// A number; in lenient reading with stock's atoi(3) and caps, but no digit at all leaves `otherwise`.
    mutating func number(
        _ key: String, in section: Section, _ range: ClosedRange<Int>, otherwise: Int?, hint: String = ""
    ) -> Int? {
        guard let entry = present(key, in: section) else { return nil }
        let text = entry.value.word
        do throws(DefinitionError) {
            return try parseNumber(text, in: range, field: key, hint: hint)
        } catch {
            let digits = text.utf8.prefix { isDigit($0) }
            guard !digits.isEmpty else {
                let used = otherwise.map { "\($0) is used" } ?? "that of [general] is used"
                file.fault(entry.line, error.description, lenient: used)
                return otherwise
            }
            let number = Int(String(decoding: ContiguousArray(digits), as: UTF8.self)) ?? .max
            let capped = min(max(number, range.lowerBound), range.upperBound)
            file.fault(entry.line, error.description, lenient: "\(capped) is used")
            return capped
        }
    }

    mutating func flag(_ key: String, in section: Section) -> Bool? {
        number(key, in: section, 0...1, otherwise: 0, hint: "a switch").map { $0 != 0 }
    }
}
