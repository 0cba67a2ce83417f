/// What is wrong with a definition, where, and what to do about it.
///
/// `field` is the name that the operator used (a flag, a key of mlvpn.conf, a column), `problem` says what is wrong and
/// ends with what would be right.
public struct DefinitionError: Error, Equatable, Sendable, CustomStringConvertible {
    public var field: String
    public var problem: String

    public init(_ field: String, _ problem: String) {
        self.field = field
        self.problem = problem
    }

    public var description: String { field.isEmpty ? problem : "\(field): \(problem)" }

    /// The same error, told of a place inside a larger thing: `link adsl1: bind: …`.
    public func within(_ outer: String) -> DefinitionError {
        DefinitionError(field.isEmpty ? outer : "\(outer): \(field)", problem)
    }
}

/// Text as it may be shown to an operator: control characters and quotes escaped, cut to 80 bytes.
public func quoted(_ text: some StringProtocol) -> String {
    var out = "\""
    var bytes = 0
    for scalar in text.unicodeScalars {
        if bytes >= 80 {
            out += "…"
            break
        }
        bytes += 1
        switch scalar {
        case "\"", "\\": out += "\\\(scalar)"
        case _ where scalar.value < 0x20 || scalar.value == 0x7f || !scalar.isASCII:
            out += "\\u{\(String(scalar.value, radix: 16))}"
        default: out.unicodeScalars.append(scalar)
        }
    }
    return out + "\""
}
