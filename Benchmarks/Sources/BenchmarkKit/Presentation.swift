import ArgumentParser
import Foundation

/// What a benchmark found, for a terminal, for RESULTS.md and as a picture.
public struct Presentation {
    public var machine = Machine()
    /// What the tables rest on, one line each.
    public var preface: [String]
    public var tables: [TextTable]
    public var notes: [String]
    /// For `--plot`.
    public var chart: BarChart

    public init(preface: [String] = [], tables: [TextTable], notes: [String] = [], chart: BarChart) {
        self.preface = preface
        self.tables = tables
        self.notes = notes
        self.chart = chart
    }

    var text: String {
        (([machine.text] + preface).joined(separator: "\n") + "\n\n" + tables.map(\.text).joined(separator: "\n\n")
            + (notes.isEmpty ? "" : "\n\n" + notes.joined(separator: "\n")))
    }

    var markdown: String {
        var parts = ["\(machine.place)\n\n```\n\(machine.commandLine)\n```"]
        if !preface.isEmpty { parts.append(preface.map { "- \($0)" }.joined(separator: "\n")) }
        parts += tables.map(\.markdown)
        if !notes.isEmpty { parts.append(notes.joined(separator: "\n")) }
        return parts.joined(separator: "\n\n")
    }
}

/// How a benchmark shows what it found.
public struct OutputOptions: ParsableArguments {
    @Flag(help: "Print tables in Markdown.")
    public var markdown = false

    @Option(help: ArgumentHelp("Write a plot of it, as SVG.", valueName: "file"))
    public var plot: String?

    @Flag(help: "Print one JSON document instead of tables.")
    public var json = false

    public init() {}

    /// - Parameter report: for `--json`.
    public func show(_ presentation: Presentation, report: some Encodable) throws {
        if let plot {
            do {
                try Data(presentation.chart.svg.utf8).write(to: URL(fileURLWithPath: plot))
            } catch {
                throw ValidationError("--plot: cannot write \(plot): \(error.localizedDescription)")
            }
        }
        guard json else { return print(markdown ? presentation.markdown : presentation.text) }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        print(String(decoding: try encoder.encode(report), as: UTF8.self))
    }
}

/// To the terminal, beside the result.
public func progress(_ text: String) {
    FileHandle.standardError.write(Data("\(text)\n".utf8))
}
