import Testing
import TunnelCore
import TunnelModel

@Suite("BPF programs of noise")
struct BPFFuzzTests {
    private static let codes: [UInt16] = [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x14, 0x15, 0x16, 0x1c, 0x1d, 0x20, 0x24, 0x25, 0x28,
        0x2c, 0x2d,
        0x30, 0x34, 0x35, 0x3c, 0x3d, 0x40, 0x44, 0x45, 0x48, 0x4c, 0x4d, 0x50, 0x54, 0x5c, 0x60, 0x61, 0x64, 0x6c,
        0x74, 0x7c,
        0x80, 0x81, 0x84, 0x87, 0x94, 0x9c, 0xa4, 0xac, 0xb1,
    ]

    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `what is accepted runs to its end on any packet, and always the same way`(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var accepted = 0
        for _ in 0..<3000 {
            let code = program(&random)
            guard let program = try? BPFProgram(code) else { continue }
            accepted += 1
            for _ in 0..<4 {
                let packet = random.byteArray(random.number(0...64))
                let first = packet.withUnsafeBytes { program.matches($0) }
                let second = packet.withUnsafeBytes { program.matches($0) }
                #expect(first == second, "seed \(seed)")
            }
            #expect(
                !program.matches(UnsafeRawBufferPointer(start: nil, count: 0)) || code.last?.code == 0x06
                    || accepted > 0)
        }
        #expect(accepted > 300, "seed \(seed): too few programs were worth running")
    }

    @Test func `instructions of noise are refused or run`() {
        var random = SeededRandom(seed: 99)
        for _ in 0..<20_000 {
            let code = (0..<random.number(1...4)).map { _ in
                BPFInstruction(
                    code: UInt16(truncatingIfNeeded: random.next()) & 0xff, jt: UInt8(random.number(0...3)),
                    jf: UInt8(random.number(0...3)), k: UInt32(truncatingIfNeeded: random.next()))
            }
            guard let program = try? BPFProgram(code + [BPFInstruction(code: 0x16, jt: 0, jf: 0, k: 0)]) else {
                continue
            }
            let packet = random.byteArray(16)
            _ = packet.withUnsafeBytes { program.matches($0) }
        }
    }

    /// Known instructions with operands that are often in range.
    private func program(_ random: inout SeededRandom) -> [BPFInstruction] {
        let count = random.number(1...24)
        var code = (0..<count).map { index in
            let k: UInt32
            switch random.number(0...5) {
            case 0: k = UInt32(truncatingIfNeeded: random.next())
            case 1: k = .max - UInt32(random.number(0...4))
            default: k = UInt32(random.number(0...15))
            }
            let left = max(0, count - index - 1)
            let operation = Self.codes[random.number(0...Self.codes.count - 1)]
            return BPFInstruction(
                code: operation, jt: UInt8(random.number(0...left)), jf: UInt8(random.number(0...left)),
                k: operation == 0x05 ? UInt32(random.number(0...left)) : k)
        }
        code.append(BPFInstruction(code: random.oneIn(2) ? 0x16 : 0x06, jt: 0, jf: 0, k: UInt32(random.number(0...1))))
        return code
    }
}
