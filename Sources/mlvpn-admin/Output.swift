import AdminAPI
import Glibc
import Synchronization

/// What goes to standard output and standard error.
enum Output {
    private static let hasFailed = Mutex(false)

    static func line(_ text: String) { write(text, to: STDOUT_FILENO) }

    static func json(_ value: some Encodable) throws { line(String(decoding: try JSON.encode(value), as: UTF8.self)) }

    static func standardError(_ text: String) { write(text, to: STDERR_FILENO) }

    /// False once standard output has failed, for a full disk or a closed pipe: the answer is not all there.
    static var isComplete: Bool { hasFailed.withLock { !$0 } }

    /// Waits until nobody is left to read what goes to standard output, a pipe.
    static func untilUnread() async throws {
        var output = pollfd(fd: STDOUT_FILENO, events: 0, revents: 0)
        while poll(&output, 1, 0) <= 0 || output.revents & Int16(POLLERR) == 0 {
            try await Task.sleep(for: .milliseconds(500))
        }
    }

    static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

    static func bytes(_ bytes: [UInt8]) { write(bytes, to: STDOUT_FILENO) }

    private static func write(_ text: String, to descriptor: Int32) { write(Array((text + "\n").utf8), to: descriptor) }

    private static func write(_ bytes: [UInt8], to descriptor: Int32) {
        bytes.withUnsafeBytes { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = Glibc.write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                if count < 0 {
                    if errno == EINTR { continue }
                    if descriptor == STDOUT_FILENO { hasFailed.withLock { $0 = true } }
                    return
                }
                rest = rest.dropFirst(count)
            }
        }
    }
}

/// Columns of text. Numbers are set to the right.
struct TextTable {
    var header: [String]
    var rows: [[String]] = []
    var rightAligned: Set<Int> = []

    init(_ header: [String], rightAligned: Set<Int> = []) {
        self.header = header
        self.rightAligned = rightAligned
    }

    var text: String {
        let all = ([header] + rows).map { $0.map(printable) }
        let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                line += rightAligned.contains(column) ? padding + cell : cell + padding
                if column < row.count - 1 { line += "  " }
            }
            while line.last == " " { line.removeLast() }
            return line
        }.joined(separator: "\n")
    }
}

extension TextTable {
    /// The rows of a query.
    init(_ table: Table) {
        self.init(table.columns)
        rows = table.rows.map { $0.map(Self.cell) }
        rightAligned = Set(
            table.columns.indices.filter { column in
                table.rows.contains {
                    if case .integer = $0[column] { true } else if case .number = $0[column] { true } else { false }
                }
            })
    }

    private static func cell(_ value: JSONValue) -> String {
        switch value {
        case .null: "-"
        case .number(let number): decimal(number, places: 3)
        default: value.text ?? ""
        }
    }
}

/// What a terminal would take for a command, and what would end a line, as C escapes it.
func printable(_ text: String) -> String {
    // C0, DEL and C1.
    func isControl(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.generalCategory == .control }
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    return text.unicodeScalars.reduce(into: "") { out, scalar in
        switch scalar {
        case "\n": out += "\\n"
        case "\t": out += "\\t"
        case "\r": out += "\\r"
        case let scalar where isControl(scalar):
            out += "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
        default: out.unicodeScalars.append(scalar)
        }
    }
}

/// With a fixed number of decimal places.
func decimal(_ number: Double, places: Int) -> String {
    guard number.isFinite, abs(number) < 1e15 else { return "\(number)" }
    var scale = 1.0
    for _ in 0..<places { scale *= 10 }
    let scaled = Int64((abs(number) * scale).rounded())
    let digits = String(scaled)
    let padded = String(repeating: "0", count: max(0, places + 1 - digits.count)) + digits
    let sign = number < 0 && scaled != 0 ? "-" : ""
    if places == 0 { return sign + padded }
    return sign + padded.dropLast(places) + "." + padded.suffix(places)
}

/// `1.5 GB`.
func byteText(_ count: UInt64) -> String {
    var value = Double(count)
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 1000 || unit == "TB" { return unit == "B" ? "\(count) B" : "\(decimal(value, places: 1)) \(unit)" }
        value /= 1000
    }
    return "\(count) B"
}

/// `20.0 Mbit/s` of bits per second.
func rateText(_ bitsPerSecond: UInt64) -> String {
    var value = Double(bitsPerSecond)
    for unit in ["bit/s", "kbit/s", "Mbit/s"] {
        if value < 1000 { return "\(decimal(value, places: 1)) \(unit)" }
        value /= 1000
    }
    return "\(decimal(value, places: 2)) Gbit/s"
}
