/// One thing that a configuration file says wrong, or that its author should know.
public struct ConfNotice: Equatable, Sendable, CustomStringConvertible {
    /// Counted from 1; nil: the file as a whole.
    public var line: Int?
    /// What is wrong and what to do.
    public var text: String

    public init(line: Int?, text: String) {
        self.line = line
        self.text = text
    }

    public var description: String {
        if let line { "line \(line): \(text)" } else { text }
    }
}

/// Why a configuration file is refused: every reason found, in the order of its lines.
public struct ConfError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Never empty.
    public var problems: [ConfNotice]

    public init(problems: [ConfNotice]) { self.problems = problems }

    /// One problem a line.
    public var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// What is wrong and what is to be known of one file, bounded: a file of garbage must not make a report of its own size.
struct ConfReport {
    private static let maximumTold = 100
    private static let maximumCounted = 1000

    private(set) var warnings: [ConfNotice] = []
    private(set) var errors: [ConfNotice] = []

    /// More is wrong than is worth reading on for.
    var isHopeless: Bool { warnings.count + errors.count >= Self.maximumCounted }

    mutating func warn(_ line: Int?, _ text: String) { warnings.append(ConfNotice(line: line, text: text)) }
    mutating func fail(_ line: Int?, _ text: String) { errors.append(ConfNotice(line: line, text: text)) }

    /// What was read and the warnings in the order of their lines; or what is wrong, for which `value` may be nil.
    func finish<Value>(_ value: Value?) throws(ConfError) -> (value: Value, warnings: [ConfNotice]) {
        guard let value, errors.isEmpty else { throw ConfError(problems: inOrder(errors)) }
        return (value, inOrder(warnings))
    }

    private func inOrder(_ notices: [ConfNotice]) -> [ConfNotice] {
        let sorted = notices.enumerated().sorted {
            ($0.element.line ?? .max, $0.offset) < ($1.element.line ?? .max, $1.offset)
        }.map(\.element)
        if sorted.count <= Self.maximumTold { return sorted }
        let untold = ConfNotice(line: nil, text: "and \(sorted.count - Self.maximumTold) more of this kind")
        return sorted.prefix(Self.maximumTold) + [untold]
    }
}

/// The lines of a configuration text: what mlvpn.conf and mlvpnd.conf have in common.
///
/// `#` starts a comment outside double quotes; carriage returns vanish; `[name]` opens a section; anything else is
/// `key = value` with the value left as it is written, since what quotes and spaces mean depends on the key.
struct ConfText {
    static let maximumBytes = 1 << 20

    struct Line {
        var number: Int
        var content: Content
    }

    enum Content {
        /// The text between the brackets.
        case section(String, trailingText: Bool)
        case entry(key: String, value: RawValue)
        /// What is wrong with the line, and the key that it would have set, where that can be told.
        case fault(String, key: String? = nil)
    }

    private(set) var lines: [Line] = []

    /// Refuses what is no text of bearable size; everything else is told line by line.
    init(_ bytes: some Collection<UInt8>) throws(ConfError) {
        if bytes.count > Self.maximumBytes {
            throw ConfError(problems: [
                ConfNotice(
                    line: nil,
                    text: "the file has \(bytes.count) bytes, more than the \(Self.maximumBytes) that are read; "
                        + "is it a configuration file?")
            ])
        }
        var number = 0
        for line in Self.withoutByteOrderMark(bytes).split(
            separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        {
            number += 1
            if line.contains(0) {
                throw ConfError(problems: [
                    ConfNotice(line: number, text: "holds a NUL byte; this is no text file")
                ])
            }
            if let content = Self.content(of: line.filter { $0 != UInt8(ascii: "\r") }) {
                lines.append(Line(number: number, content: content))
            }
        }
    }

    private static func withoutByteOrderMark(_ bytes: some Collection<UInt8>) -> ArraySlice<UInt8> {
        let all = Array(bytes)
        return all.starts(with: [0xef, 0xbb, 0xbf]) ? all.dropFirst(3) : all[...]
    }

    /// nil: nothing but space and comment.
    private static func content(of line: [UInt8]) -> Content? {
        let (text, separator) = withoutComment(line)
        guard let start = text.firstIndex(where: { !isBlank($0) }) else { return nil }
        if text[start] == UInt8(ascii: "[") { return section(text[(start + 1)...]) }
        guard let separator else {
            let words = text.split(whereSeparator: isBlank).map { String(decoding: $0, as: UTF8.self) }
            let hint = words.count == 2 ? "; write \(quoted("\(words[0]) = \(words[1])"))" : ""
            return .fault("has no '='\(hint)")
        }
        let keyBytes = trimmed(text[..<separator]).filter { $0 != UInt8(ascii: "\"") }
        let key = String(decoding: keyBytes, as: UTF8.self)
        if key.isEmpty { return .fault("has nothing before its '='") }
        if text.contains(where: { $0 >= 0x80 }) {
            return .fault("holds bytes that are not ASCII; write ASCII only", key: key)
        }
        return .entry(key: key, value: RawValue(bytes: text[(separator + 1)...]))
    }

    /// The line up to its comment, and where its first `=` outside quotes is.
    private static func withoutComment(_ line: [UInt8]) -> (ArraySlice<UInt8>, separator: Int?) {
        var inQuotes = false
        var separator: Int?
        for (index, byte) in line.enumerated() {
            switch byte {
            case UInt8(ascii: "\""): inQuotes.toggle()
            case UInt8(ascii: "#") where !inQuotes: return (line[..<index], separator)
            case UInt8(ascii: "=") where !inQuotes && separator == nil: separator = index
            default: break
            }
        }
        return (line[...], separator)
    }

    private static func section(_ afterBracket: ArraySlice<UInt8>) -> Content {
        guard let end = afterBracket.firstIndex(of: UInt8(ascii: "]")) else {
            return .fault("opens a section with '[' but has no ']'")
        }
        let name = afterBracket[..<end]
        if name.count > 255 { return .fault("names a section with more than 255 bytes") }
        if name.contains(where: { $0 >= 0x80 }) {
            return .fault("names a section with bytes that are not ASCII; write ASCII only")
        }
        if trimmed(name).isEmpty { return .fault("names no section; write [general], [filters] or [LINK]") }
        return .section(
            String(decoding: trimmed(name), as: UTF8.self), trailingText: !trimmed(afterBracket[(end + 1)...]).isEmpty)
    }

    static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

    static func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        guard let first = bytes.firstIndex(where: { !isBlank($0) }),
            let last = bytes.lastIndex(where: { !isBlank($0) })
        else { return [] }
        return bytes[first...last]
    }
}

/// The right side of `key = value`, ASCII, without its comment, quotes still in place.
struct RawValue {
    let bytes: ArraySlice<UInt8>

    var hasOpenQuote: Bool { bytes.count { $0 == UInt8(ascii: "\"") } % 2 == 1 }

    /// A second `=` outside quotes, for which stock ignores the line.
    var hasBareEqualsSign: Bool {
        var inQuotes = false
        for byte in bytes {
            if byte == UInt8(ascii: "\"") { inQuotes.toggle() }
            if byte == UInt8(ascii: "=") && !inQuotes { return true }
        }
        return false
    }

    /// The value with its bare spaces kept: quotes vanish, tabs are spaces, the ends are trimmed.
    var spaced: String {
        let bare = bytes.filter { $0 != UInt8(ascii: "\"") }.map { $0 == 0x09 ? 0x20 : $0 }
        return String(decoding: ContiguousArray(ConfText.trimmed(bare[...])), as: UTF8.self)
    }

    /// The value as stock reads it: spaces outside quotes vanish, and leading and trailing ones within; quotes vanish.
    /// Tabs are bytes as any other.
    var packed: [UInt8] {
        var inQuotes = false
        var value: [UInt8] = []
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "\""): inQuotes.toggle()
            case 0x20 where !inQuotes || value.isEmpty: break
            default: value.append(byte)
            }
        }
        while value.last == 0x20 { value.removeLast() }
        return value
    }

    /// The value of a key that holds one word: packed, and tabs vanish too.
    var word: String { String(decoding: packed.filter { $0 != 0x09 }, as: UTF8.self) }
}
