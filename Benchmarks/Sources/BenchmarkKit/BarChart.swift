/// Grouped horizontal bars as an SVG document, without help from any other program.
public struct BarChart {
    public var title: String
    /// Of the values.
    public var unit: String
    public var series: [String]
    public var groups: [Group]

    public struct Group {
        public var name: String
        /// One for each series; nil leaves its place empty.
        public var values: [Double?]

        public init(_ name: String, _ values: [Double?]) {
            self.name = name
            self.values = values
        }
    }

    public init(title: String, unit: String, series: [String], groups: [Group] = []) {
        self.title = title
        self.unit = unit
        self.series = series
        self.groups = groups
    }

    private static let barHeight = 16.0
    private static let groupGap = 14.0
    private static let plotWidth = 520.0
    private static let labelWidth = 190.0
    /// Told apart by those who see fewer colours, too.
    private static let colours = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999"]

    public var svg: String {
        let most = groups.flatMap(\.values).compactMap(\.self).filter(\.isFinite).max() ?? 0
        let step = Self.step(covering: most)
        let limit = step * max(1, (most / step).rounded(.up))
        let groupHeight = Self.barHeight * Double(series.count) + Self.groupGap
        let top = 64.0
        let bottom = top + groupHeight * Double(groups.count)
        let width = Self.labelWidth + Self.plotWidth + 90
        var lines = [
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(width.text(0))\" height=\"\((bottom + 44).text(0))\" "
                + "font-family=\"sans-serif\" font-size=\"12\">",
            "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
            Self.label(title, x: 12, y: 22, extra: "font-size=\"15\" font-weight=\"bold\""),
        ]
        var left = 12.0
        for (index, name) in series.enumerated() {
            lines.append(Self.bar(x: left, y: 34, width: 12, height: 12, colour: colour(index)))
            lines.append(Self.label(name, x: left + 17, y: 44))
            left += 40 + 7 * Double(name.count)
        }
        for tick in 0...Int((limit / step).rounded()) {
            let value = step * Double(tick)
            let x = Self.labelWidth + Self.plotWidth * value / limit
            lines.append(
                "<path d=\"M\(x.text(1)) \(top.text(1))V\(bottom.text(1))\" stroke=\"#dddddd\" fill=\"none\"/>")
            lines.append(
                Self.label(
                    value.text(step < 0.1 ? 2 : step < 1 ? 1 : 0), x: x, y: bottom + 16,
                    extra: "text-anchor=\"middle\""))
        }
        lines.append(Self.label(unit, x: Self.labelWidth, y: bottom + 34))
        for (row, group) in groups.enumerated() {
            let y = top + groupHeight * Double(row) + Self.groupGap / 2
            let middle = y + Self.barHeight * Double(series.count) / 2 + 4
            lines.append(Self.label(group.name, x: Self.labelWidth - 8, y: middle, extra: "text-anchor=\"end\""))
            for (index, value) in group.values.enumerated() {
                guard let value, value.isFinite else { continue }
                let barY = y + Self.barHeight * Double(index)
                let length = Self.plotWidth * max(0, value) / limit
                lines.append(
                    Self.bar(
                        x: Self.labelWidth, y: barY, width: length, height: Self.barHeight - 2, colour: colour(index)))
                lines.append(
                    Self.label(
                        value.text(value < 10 ? 2 : value < 100 ? 1 : 0), x: Self.labelWidth + length + 4, y: barY + 11,
                        extra: "font-size=\"10\""))
            }
        }
        lines.append("</svg>\n")
        return lines.joined(separator: "\n")
    }

    private func colour(_ index: Int) -> String { Self.colours[index % Self.colours.count] }

    /// 1, 2 or 5 times a power of ten, so that about five steps cover the range.
    private static func step(covering most: Double) -> Double {
        guard most.isFinite, most > 0 else { return 1 }
        var step = 1.0
        while step * 5 > most { step /= 10 }
        while step * 50 <= most { step *= 10 }
        return [1.0, 2, 5, 10].map { $0 * step }.first { $0 * 6 >= most } ?? step * 10
    }

    private static func bar(x: Double, y: Double, width: Double, height: Double, colour: String) -> String {
        "<rect x=\"\(x.text(1))\" y=\"\(y.text(1))\" width=\"\(width.text(1))\" height=\"\(height.text(1))\" "
            + "fill=\"\(colour)\"/>"
    }

    private static func label(_ text: String, x: Double, y: Double, extra: String = "") -> String {
        let escaped = text.map { character in
            switch character {
            case "<": "&lt;"
            case ">": "&gt;"
            case "&": "&amp;"
            default: String(character)
            }
        }.joined()
        return "<text x=\"\(x.text(1))\" y=\"\(y.text(1))\"\(extra.isEmpty ? "" : " \(extra)")>\(escaped)</text>"
    }
}
