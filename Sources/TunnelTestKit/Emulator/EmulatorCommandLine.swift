import Glibc

extension LinkEmulator {
    static let usage = """
        usage: link-emulator A B [--ab SETTINGS] [--ba SETTINGS] [--both SETTINGS] [--timeline FILE] [--seed N] [--commands]
        Forwards Ethernet frames between the interfaces A and B as a line would. SETTINGS: "rate=50mbit delay=10ms loss=1%".
        Keys: \(PathSetting.keys.joined(separator: " ")).
        A timeline holds lines "AT_MS ab|ba|both key=value…" and may end with "AT_MS loop".
        --commands reads lines "ab|ba|both key=value…", "stats" and "quit" from standard input and ends with it.
        """

    /// The emulator as a program: runs with the arguments after the program's name and ends the process.
    public static func runCommandLine(_ arguments: [String]) -> Never {
        do {
            // The line must not be slow because its users keep the machine busy.
            _ = nice(-15)
            try LinkEmulator(try Options(arguments)).run()
        } catch let error as CommandLineError {
            fail(error.description, code: 2)
        } catch {
            fail("\(error)", code: 1)
        }
        exit(0)
    }

    private static func fail(_ reason: String, code: Int32) -> Never {
        let text = Array("link-emulator: \(reason)\n".utf8)
        _ = text.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
        exit(code)
    }
}

private struct CommandLineError: Error, CustomStringConvertible {
    var description: String
}

extension LinkEmulator.Options {
    fileprivate init(_ arguments: [String]) throws {
        let interfaces = arguments.prefix { !$0.hasPrefix("--") }
        guard interfaces.count == 2 else { throw CommandLineError(description: LinkEmulator.usage) }
        self.init(interfaceA: interfaces[0], interfaceB: interfaces[1])
        var rest = arguments.dropFirst(2)
        while let flag = rest.popFirst() {
            if flag == "--commands" {
                commands = STDIN_FILENO
                continue
            }
            guard let value = rest.popFirst() else {
                throw CommandLineError(description: "\(flag) needs a value\n\(LinkEmulator.usage)")
            }
            try set(flag, to: value)
        }
    }

    private mutating func set(_ flag: String, to value: String) throws {
        do {
            switch flag {
            case "--ab": ab = try PathConditions(value)
            case "--ba": ba = try PathConditions(value)
            case "--both":
                ab = try PathConditions(value)
                ba = ab
            case "--timeline":
                guard let text = readWholeFile(value) else {
                    throw EmulatorError.system(operation: "read", object: value, code: errno)
                }
                timeline = try EmulationTimeline(text)
            case "--seed":
                guard let number = UInt64(value) else {
                    throw CommandLineError(description: "--seed: '\(value)' is not a whole number")
                }
                seed = number
            default:
                throw CommandLineError(description: "unknown flag \(flag)\n\(LinkEmulator.usage)")
            }
        } catch let error as EmulationTextError {
            throw CommandLineError(description: "\(flag): \(error)")
        }
    }
}
