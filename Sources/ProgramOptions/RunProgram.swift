import Glibc

/// Runs a program's command line. Returns its exit code: 0 done, 1 refused or failed with the reason on standard error,
/// 2 usage.
public func runProgram(_ syntax: ProgramSyntax, _ body: (ParsedOptions) throws -> Int32) -> Int32 {
    let options: ParsedOptions
    do {
        options = try syntax.parse(CommandLine.arguments.dropFirst())
    } catch {
        write("\(syntax.name): \(error)\n\(syntax.usage)\n", to: STDERR_FILENO)
        return 2
    }
    if options.has("help") {
        write(syntax.helpText, to: STDOUT_FILENO)
        return 0
    }
    do {
        return try body(options)
    } catch {
        for line in "\(error)".split(separator: "\n") { write("\(syntax.name): \(line)\n", to: STDERR_FILENO) }
        return 1
    }
}

private func write(_ text: String, to descriptor: Int32) {
    let bytes = Array(text.utf8)
    var sent = 0
    while sent < bytes.count {
        let count = bytes[sent...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        if count <= 0 { return }
        sent += count
    }
}
