import ArgumentParser
import Glibc

/// Runs a program's command line. Returns its exit code: 0 done, 1 refused or failed with the reason on standard error,
/// 2 usage.
public func runProgram<Command: ParsableCommand>(
    _ type: Command.Type, _ body: (inout Command) throws -> Int32
) -> Int32 {
    var command: Command
    do {
        command = try Command.parse()
    } catch {
        let isHelp = Command.exitCode(for: error) == .success
        write(Command.fullMessage(for: error) + "\n", to: isHelp ? 1 : 2)
        return isHelp ? 0 : 2
    }
    do {
        return try body(&command)
    } catch {
        let name = Command.configuration.commandName ?? "mlvpn"
        for line in "\(error)".split(separator: "\n") { write("\(name): \(line)\n", to: 2) }
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
