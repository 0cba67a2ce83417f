import Glibc
import TunnelTestKit

let usage = """
    usage: link-emulator A B [--ab SETTINGS] [--ba SETTINGS] [--both SETTINGS] [--timeline FILE] [--seed N] [--commands]
    Forwards Ethernet frames between the interfaces A and B as a line would. SETTINGS: "rate=50mbit delay=10ms loss=1%".
    Keys: rate overhead queue delay jitter loss burst duplicate reorder reorder-delay mtu blackhole.
    A timeline holds lines "AT_MS ab|ba|both key=value…" and may end with "AT_MS loop".
    --commands reads lines "ab|ba|both key=value…", "stats" and "quit" from standard input and ends with it.
    """

func fail(_ reason: String, code: Int32) -> Never {
    let text = Array("link-emulator: \(reason)\n".utf8)
    _ = text.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    exit(code)
}

func readFile(_ path: String) -> String {
    guard let file = fopen(path, "r") else {
        fail("\(path): \(String(cString: strerror(errno)))", code: 1)
    }
    defer { fclose(file) }
    var text: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while case let count = fread(&buffer, 1, buffer.count, file), count > 0 {
        text += buffer.prefix(count)
    }
    return String(decoding: text, as: UTF8.self)
}

func parse(_ arguments: [String]) throws(EmulationTextError) -> LinkEmulator.Options {
    let positional = arguments.prefix { !$0.hasPrefix("--") }
    guard positional.count == 2 else { fail(usage, code: 2) }
    var options = LinkEmulator.Options(interfaceA: positional[0], interfaceB: positional[1])
    var rest = arguments.dropFirst(2)
    while let flag = rest.popFirst() {
        if flag == "--commands" {
            options.commands = STDIN_FILENO
            continue
        }
        guard let value = rest.popFirst() else { fail("\(flag) needs a value\n\(usage)", code: 2) }
        switch flag {
        case "--ab": options.ab = try PathConditions(value)
        case "--ba": options.ba = try PathConditions(value)
        case "--both":
            options.ab = try PathConditions(value)
            options.ba = options.ab
        case "--timeline": options.timeline = try EmulationTimeline(readFile(value))
        case "--seed":
            guard let seed = UInt64(value) else { fail("--seed: '\(value)' is not a whole number", code: 2) }
            options.seed = seed
        default: fail("unknown flag \(flag)\n\(usage)", code: 2)
        }
    }
    return options
}

do {
    let options = try parse(Array(CommandLine.arguments.dropFirst()))
    try LinkEmulator(options).run()
} catch let error as EmulationTextError {
    fail("\(error)", code: 2)
} catch {
    fail("\(error)", code: 1)
}
