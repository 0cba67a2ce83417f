import Glibc
import TunnelCrypto

/// One target of each decoder that reads bytes from another host or process, and of the state machines behind them.
enum FuzzTarget: String, CaseIterable {
    case bpf, coalescer, conf, copies, link, messages, queue, resequencer, superpacket

    func run(_ input: inout FuzzInput) {
        switch self {
        case .bpf: fuzzBPF(&input)
        case .coalescer: fuzzCoalescer(&input)
        case .conf: fuzzConf(&input)
        case .copies: fuzzCopies(&input)
        case .link: fuzzLink(&input)
        case .messages: fuzzMessages(&input)
        case .queue: fuzzQueue(&input)
        case .resequencer: fuzzResequencer(&input)
        case .superpacket: fuzzSuperPacket(&input)
        }
    }
}

/// Set once, before libFuzzer calls for the first time.
nonisolated(unsafe) private var target = FuzzTarget.link

/// libFuzzer's main calls it first: the target's name is taken off the arguments.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(
    _ count: UnsafeMutablePointer<Int32>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>
) -> Int32 {
    let vector = arguments.pointee
    guard count.pointee > 1, let name = vector[1], let chosen = FuzzTarget(rawValue: String(cString: name)) else {
        let targets = FuzzTarget.allCases.map(\.rawValue).joined(separator: "|")
        fail("usage: fuzz \(targets) [-max_total_time=SECONDS | libFuzzer's other flags] [CORPUS...]", code: 2)
    }
    guard SessionCipher.start() else { fail("fuzz: libsodium cannot be started", code: 1) }
    target = chosen
    // The program's own name, then what follows the target's.
    vector[1] = vector[0]
    arguments.pointee = vector + 1
    count.pointee -= 1
    return 0
}

/// libFuzzer calls it for each input.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = FuzzInput(UnsafeRawBufferPointer(start: bytes, count: count))
    target.run(&input)
    return 0
}

private func fail(_ text: String, code: Int32) -> Never {
    let line = Array("\(text)\n".utf8)
    _ = write(STDERR_FILENO, line, line.count)
    exit(code)
}

/// Ends the run with what does not hold; libFuzzer keeps the input.
func check(_ holds: Bool, _ what: @autoclosure () -> String) {
    if !holds { fatalError(what()) }
}
