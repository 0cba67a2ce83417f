import TunnelModel

/// Runs classic BPF programs over packets (McCanne and Jacobson 1993; the instruction set of pcap-filter).
///
/// A program is checked once; a packet that it reads beyond is not matched, as in libpcap.
public struct BPFProgram: Sendable {
    private let code: [BPFInstruction]

    public enum Invalid: Error, Equatable, Sendable {
        case empty
        case tooLong
        /// The instruction with this index is unknown, jumps out of the program, uses memory that is not there, divides by
        /// zero or shifts by more than 31.
        case instruction(Int)
        case doesNotReturn
    }

    public init(_ code: [BPFInstruction]) throws(Invalid) {
        if code.isEmpty { throw .empty }
        if code.count > BPFInstruction.maximumProgram { throw .tooLong }
        for (index, instruction) in code.enumerated() {
            guard Self.isValid(instruction, at: index, of: code.count) else { throw .instruction(index) }
        }
        guard let last = code.last, last.code & 7 == Class.ret else { throw .doesNotReturn }
        self.code = code
    }

    /// Whether the program accepts the packet. Terminates: jumps go forward only.
    public func matches(_ packet: UnsafeRawBufferPointer) -> Bool {
        code.withUnsafeBufferPointer { Self.run($0, packet) != 0 }
    }

    private enum Class {
        static let ld: UInt16 = 0, ldx: UInt16 = 1, st: UInt16 = 2, stx: UInt16 = 3
        static let alu: UInt16 = 4, jmp: UInt16 = 5, ret: UInt16 = 6, misc: UInt16 = 7
    }

    private static func isValid(_ instruction: BPFInstruction, at index: Int, of count: Int) -> Bool {
        let next = index + 1
        switch instruction.code {
        case 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x80, 0x00, 0x01, 0x81, 0xb1: return true
        case 0x60, 0x61, 0x02, 0x03: return instruction.k < 16
        case 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x6c, 0x7c, 0x84, 0x9c, 0xa4, 0xac:
            return true
        case 0x34, 0x94: return instruction.k != 0
        case 0x64, 0x74: return instruction.k < 32
        case 0x05: return UInt64(next) + UInt64(instruction.k) < UInt64(count)
        case 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d:
            return next + Int(instruction.jt) < count && next + Int(instruction.jf) < count
        case 0x06, 0x16, 0x07, 0x87: return true
        default: return false
        }
    }

    private static func load(_ packet: UnsafeRawBufferPointer, _ offset: UInt64, _ size: Int) -> UInt32? {
        guard offset <= UInt64(packet.count), packet.count - Int(offset) >= size else { return nil }
        var value: UInt32 = 0
        for index in 0..<size { value = value << 8 | UInt32(packet[Int(offset) + index]) }
        return value
    }

    private static func run(_ code: UnsafeBufferPointer<BPFInstruction>, _ packet: UnsafeRawBufferPointer) -> UInt32 {
        var a: UInt32 = 0
        var x: UInt32 = 0
        var memory = InlineArray<16, UInt32>(repeating: 0)
        var pc = 0
        while pc < code.count {
            let instruction = code[pc]
            let k = instruction.k
            pc += 1
            switch instruction.code & 7 {
            case Class.ld, Class.ldx:
                guard
                    let value = loaded(
                        instruction, a: a, x: x, memory: memory, packet: packet)
                else { return 0 }
                if instruction.code & 7 == Class.ld { a = value } else { x = value }
            case Class.st: memory[Int(k & 15)] = a
            case Class.stx: memory[Int(k & 15)] = x
            case Class.alu:
                guard let value = computed(instruction.code, a, instruction.code & 8 == 0 ? k : x) else { return 0 }
                a = value
            case Class.jmp:
                if instruction.code == 0x05 {
                    pc += Int(k)
                } else {
                    let operand = instruction.code & 8 == 0 ? k : x
                    let holds =
                        switch instruction.code & 0xf0 {
                        case 0x10: a == operand
                        case 0x20: a > operand
                        case 0x30: a >= operand
                        default: a & operand != 0
                        }
                    pc += Int(holds ? instruction.jt : instruction.jf)
                }
            case Class.ret: return instruction.code & 0x18 == 0x10 ? a : k
            default: if instruction.code & 0x80 != 0 { a = x } else { x = a }
            }
        }
        return 0
    }

    /// Nil where the packet ends before what is asked for.
    private static func loaded(
        _ instruction: BPFInstruction, a: UInt32, x: UInt32, memory: borrowing InlineArray<16, UInt32>,
        packet: UnsafeRawBufferPointer
    ) -> UInt32? {
        let k = UInt64(instruction.k)
        switch instruction.code {
        case 0x20: return load(packet, k, 4)
        case 0x28: return load(packet, k, 2)
        case 0x30: return load(packet, k, 1)
        case 0x40: return load(packet, k + UInt64(x), 4)
        case 0x48: return load(packet, k + UInt64(x), 2)
        case 0x50: return load(packet, k + UInt64(x), 1)
        case 0x80, 0x81: return UInt32(truncatingIfNeeded: packet.count)
        case 0x00, 0x01: return instruction.k
        case 0x60, 0x61: return memory[Int(instruction.k & 15)]
        case 0xb1: return load(packet, k, 1).map { ($0 & 0xf) << 2 }
        default: return nil
        }
    }

    /// Nil for a division by zero.
    private static func computed(_ code: UInt16, _ a: UInt32, _ b: UInt32) -> UInt32? {
        switch code & 0xf0 {
        case 0x00: return a &+ b
        case 0x10: return a &- b
        case 0x20: return a &* b
        case 0x30: return b == 0 ? nil : a / b
        case 0x40: return a | b
        case 0x50: return a & b
        case 0x60: return b < 32 ? a << b : 0
        case 0x70: return b < 32 ? a >> b : 0
        case 0x80: return 0 &- a
        case 0x90: return b == 0 ? nil : a % b
        default: return a ^ b
        }
    }
}
