/// The middle value, or the mean of the two middle ones; nil for none.
public func median(_ values: [Double]) -> Double? {
    guard !values.isEmpty else { return nil }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

extension Double {
    /// With so many digits after the point; a dash for what is no number.
    public func text(_ digits: Int) -> String {
        guard isFinite else { return "-" }
        let scale = (0..<digits).reduce(1.0) { scale, _ in scale * 10 }
        let whole = Int((magnitude * scale).rounded())
        let sign = self < 0 && whole > 0 ? "-" : ""
        guard digits > 0 else { return sign + String(whole) }
        let fraction = String(whole % Int(scale))
        return "\(sign)\(whole / Int(scale)).\(String(repeating: "0", count: digits - fraction.count))\(fraction)"
    }
}

/// A table for the terminal: the first column to the left, the others to the right.
public struct TextTable {
    private var rows: [[String]]

    public init(_ header: [String]) {
        rows = [header]
    }

    public mutating func add(_ row: [String]) {
        rows.append(row)
    }

    public var text: String {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in
            rows.compactMap { column < $0.count ? $0[column].count : nil }.max() ?? 0
        }
        return rows.map { row in
            row.enumerated().map { index, cell in
                let padding = String(repeating: " ", count: widths[index] - cell.count)
                return index == 0 ? cell + padding : padding + cell
            }.joined(separator: "  ")
        }.joined(separator: "\n")
    }

    /// As a table of GitHub-flavoured Markdown.
    public var markdown: String {
        guard let header = rows.first else { return "" }
        let rule = header.indices.map { $0 == 0 ? "---" : "---:" }
        return ([header, rule] + rows.dropFirst()).map { row in
            "| " + row.map { $0.isEmpty ? " " : $0 }.joined(separator: " | ") + " |"
        }.joined(separator: "\n")
    }
}
