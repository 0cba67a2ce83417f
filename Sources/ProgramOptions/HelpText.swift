extension ProgramSyntax {
    var usage: String {
        let forms = options.dropLast().map { "[\($0.form)]" }
        return wrapped(["usage:", name] + forms, indent: 4) + "\nSee '\(name) --help' and the manual page \(name)(8)."
    }

    var helpText: String {
        var text = "\(wrapped(["usage:", name] + options.map { "[\($0.form)]" }, indent: 4))\n\n"
        text += "\(wrapped(words(abstract)))\n\n\(wrapped(words(discussion)))\n\n"
        for option in options {
            let left = "  " + (option.others + [option.form]).joined(separator: ", ")
            let help = wrapped(words(option.help), indent: Self.column)
            let padding = String(repeating: " ", count: max(0, Self.column - left.count))
            let isNarrow = left.count < Self.column - 1
            text += left + (isNarrow ? padding : "\n" + String(repeating: " ", count: Self.column)) + help + "\n"
        }
        return text
    }

    private static let column = 28
    private static let width = 80

    private func words(_ text: String) -> [String] { text.split(whereSeparator: \.isWhitespace).map(String.init) }

    /// Lines of at most ``width``; all but the first indented.
    private func wrapped(_ words: [String], indent: Int = 0) -> String {
        var text = ""
        var column = indent
        for word in words {
            if text.isEmpty {
                text = word
                column += word.count
            } else if column + 1 + word.count > Self.width {
                text += "\n" + String(repeating: " ", count: indent) + word
                column = indent + word.count
            } else {
                text += " " + word
                column += 1 + word.count
            }
        }
        return text
    }
}
