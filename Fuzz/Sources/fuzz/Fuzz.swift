import CFuzzer
import Glibc
import TunnelCrypto

/// One target of each decoder that reads bytes from another host or process, and of the state machines behind them.
enum FuzzTarget: String, CaseIterable {
    case bpf, coalescer, conf, link, messages, queue, resequencer, superpacket

    func run(_ input: inout FuzzInput) {
        switch self {
        case .bpf: fuzzBPF(&input)
        case .coalescer: fuzzCoalescer(&input)
        case .conf: fuzzConf(&input)
        case .link: fuzzLink(&input)
        case .messages: fuzzMessages(&input)
        case .queue: fuzzQueue(&input)
        case .resequencer: fuzzResequencer(&input)
        case .superpacket: fuzzSuperPacket(&input)
        }
    }
}

/// Set once, before libFuzzer starts: its callback carries no context.
nonisolated(unsafe) private var target = FuzzTarget.link

@main
enum Fuzz {
    static func main() {
        guard CommandLine.arguments.count > 1, let chosen = FuzzTarget(rawValue: CommandLine.arguments[1]) else {
            let targets = FuzzTarget.allCases.map(\.rawValue).joined(separator: "|")
            fputs("usage: fuzz \(targets) [-max_total_time=SECONDS | libFuzzer's other flags] [CORPUS...]\n", stderr)
            exit(2)
        }
        guard SessionCipher.start() else {
            fputs("fuzz: libsodium cannot be started\n", stderr)
            exit(1)
        }
        target = chosen
        var count = CommandLine.argc - 1
        // The program's own name, then what follows the target's.
        var arguments: [UnsafeMutablePointer<CChar>?] =
            ([CommandLine.arguments[0]] + CommandLine.arguments.dropFirst(2)).map { strdup($0) } + [nil]
        let status = arguments.withUnsafeMutableBufferPointer { buffer in
            var vector = buffer.baseAddress
            return LLVMFuzzerRunDriver(&count, &vector) { bytes, size in
                var input = FuzzInput(UnsafeRawBufferPointer(start: bytes, count: size))
                target.run(&input)
                return 0
            }
        }
        exit(status)
    }
}

/// Ends the run with what does not hold; libFuzzer keeps the input.
func check(_ holds: Bool, _ what: @autoclosure () -> String) {
    if !holds { fatalError(what()) }
}
