import TunnelModel

/// An option of a program's command line.
public struct ProgramOption: Sendable {
    /// Names ``ParsedOptions``' values; `--key` is how it is written.
    let key: String
    /// Other ways to write it, dashes included.
    let others: [String]
    /// What follows it; nil: nothing does.
    let valueName: String?
    let help: String

    public init(_ key: String, or others: [String] = [], value valueName: String? = nil, help: String) {
        self.key = key
        self.others = others
        self.valueName = valueName
        self.help = help
    }

    var spellings: [String] { others + ["--\(key)"] }
    var form: String { valueName.map { "--\(key) <\($0)>" } ?? "--\(key)" }
}

/// What a program's command line may hold: options, in any order, and nothing else unless it takes operands. As with
/// getopt_long(3), the beginning of a long name will do where only one begins so.
///
/// For the programs that run as root all their life and whose memory every helper shares: the argument parser that
/// mlvpn-admin uses would bring Foundation into them.
public struct ProgramSyntax: Sendable {
    public let name: String
    let abstract: String
    let discussion: String
    let options: [ProgramOption]
    let takesOperands: Bool

    /// - Parameter takesOperands: whether arguments that are no options are ``ParsedOptions/operands`` instead of misuse.
    public init(
        name: String, abstract: String, discussion: String, options: [ProgramOption], takesOperands: Bool = false
    ) {
        self.takesOperands = takesOperands
        self.name = name
        self.abstract = abstract
        self.discussion = discussion
        self.options = options + [ProgramOption("help", or: ["-h"], help: "Show this.")]
    }

    /// Why a command line is not understood.
    public struct Misuse: Error, Equatable, CustomStringConvertible {
        public let description: String
    }

    public func parse(_ arguments: some Collection<String>) throws(Misuse) -> ParsedOptions {
        var parsed = ParsedOptions()
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            if let option = options.first(where: { $0.spellings.contains(argument) }) {
                parsed.add(option, try value(of: option, argument, from: &rest))
            } else if argument.hasPrefix("--"), let equals = argument.firstIndex(of: "=") {
                let option = try known(String(argument[..<equals]))
                guard option.valueName != nil else { throw Misuse(description: "\(option.form) takes no value") }
                parsed.add(option, String(argument[argument.index(after: equals)...]))
            } else if argument.hasPrefix("-"), !argument.hasPrefix("--"), argument.count > 1 {
                try parseCluster(argument, &rest, &parsed)
            } else if takesOperands, argument == "--" {
                parsed.operands += rest
                break
            } else if argument.hasPrefix("-"), argument != "-" {
                let option = try known(argument)
                parsed.add(option, try value(of: option, argument, from: &rest))
            } else if takesOperands {
                parsed.operands.append(argument)
            } else {
                throw Misuse(description: "unexpected argument \(quoted(argument))")
            }
        }
        return parsed
    }

    /// `-vv`, `-cFILE`, `-vcFILE`.
    private func parseCluster<Rest: Collection<String>>(
        _ argument: String, _ rest: inout Rest, _ parsed: inout ParsedOptions
    ) throws(Misuse) where Rest.SubSequence == Rest {
        var letters = argument.dropFirst()
        while let letter = letters.popFirst() {
            guard let option = options.first(where: { $0.others.contains("-\(letter)") }) else {
                throw unknown(argument.count == 2 ? argument : "-\(letter)")
            }
            if option.valueName == nil {
                parsed.add(option, nil)
            } else if letters.isEmpty {
                parsed.add(option, try value(of: option, "-\(letter)", from: &rest))
            } else {
                parsed.add(option, String(letters))
                return
            }
        }
    }

    private func value<Rest: Collection<String>>(
        of option: ProgramOption, _ spelling: String, from rest: inout Rest
    ) throws(Misuse) -> String? where Rest.SubSequence == Rest {
        guard let valueName = option.valueName else { return nil }
        // A value that begins with a dash is another option more often than not.
        guard let value = rest.first, value == "-" || !value.hasPrefix("-") else {
            throw Misuse(description: "\(spelling) <\(valueName)> has no value")
        }
        rest = rest.dropFirst()
        return value
    }

    private func known(_ spelling: String) throws(Misuse) -> ProgramOption {
        if let option = options.first(where: { $0.spellings.contains(spelling) }) { return option }
        let meant = spelling == "--" ? [] : options.filter { "--\($0.key)".hasPrefix(spelling) }
        if meant.count > 1 {
            let names = meant.map { "--\($0.key)" }.joined(separator: ", ")
            throw Misuse(description: "\(quoted(spelling)) may be any of \(names)")
        }
        guard let option = meant.first else { throw unknown(spelling) }
        return option
    }

    private func unknown(_ spelling: String) -> Misuse {
        let hint = suggestion(for: spelling, among: options.map { "--\($0.key)" })
        return Misuse(description: "\(quoted(spelling)) is no option\(hint)")
    }
}

/// The options of a command line.
public struct ParsedOptions: Sendable {
    private var given: [(key: String, value: String?)] = []
    /// What is no option, in order.
    public internal(set) var operands: [String] = []

    mutating func add(_ option: ProgramOption, _ value: String?) { given.append((option.key, value)) }

    public func has(_ key: String) -> Bool { count(key) > 0 }
    public func count(_ key: String) -> Int { given.count { $0.key == key } }
    public func values(_ key: String) -> [String] { given.filter { $0.key == key }.compactMap(\.value) }
    /// The last one counts.
    public func value(_ key: String) -> String? { values(key).last }
}
