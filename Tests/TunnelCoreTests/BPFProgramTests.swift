import Testing
import TunnelCore
import TunnelModel

@Suite("BPF programs")
struct BPFProgramTests {
    private let accept = BPFInstruction(code: 0x06, jt: 0, jf: 0, k: 0xffff)

    // MARK: Programs that are refused

    @Test func `an empty program is refused`() {
        #expect(throws: BPFProgram.Invalid.empty) { try BPFProgram([]) }
    }

    @Test func `more than 4096 instructions are refused`() throws {
        let most = [BPFInstruction](repeating: accept, count: 4096)
        #expect(try matches(most, []))
        #expect(throws: BPFProgram.Invalid.tooLong) { try BPFProgram(most + [accept]) }
    }

    @Test func `a program that may run off its end is refused`() {
        #expect(throws: BPFProgram.Invalid.doesNotReturn) { try BPFProgram([op(0x28, 12)]) }
        #expect(throws: BPFProgram.Invalid.doesNotReturn) { try BPFProgram([accept, op(0x00, 1)]) }
    }

    @Test func `jumps out of the program are refused`() {
        let jumps = [
            op(0x05, 1), op(0x05, .max), op(0x15, 0, jt: 1), op(0x15, 0, jf: 1), op(0x25, 0, jt: 255),
            op(0x4d, 0, jf: 255),
        ]
        for jump in jumps {
            #expect(throws: BPFProgram.Invalid.instruction(1)) { try BPFProgram([op(0x28, 0), jump, accept]) }
        }
    }

    @Test func `memory that is not there, division by zero and wide shifts are refused`() {
        for bad in [
            op(0x60, 16), op(0x61, 16), op(0x02, 16), op(0x03, .max), op(0x34, 0), op(0x94, 0), op(0x64, 32),
            op(0x74, 99),
        ] {
            #expect(throws: BPFProgram.Invalid.instruction(0)) { try BPFProgram([bad, accept]) }
        }
    }

    @Test func `codes that are no instruction are refused`() {
        let known: Set<UInt16> = [
            0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x14, 0x15, 0x16, 0x1c, 0x1d, 0x20, 0x24, 0x25, 0x28,
            0x2c,
            0x2d, 0x30, 0x34, 0x35, 0x3c, 0x3d, 0x40, 0x44, 0x45, 0x48, 0x4c, 0x4d, 0x50, 0x54, 0x5c, 0x60, 0x61, 0x64,
            0x6c,
            0x74, 0x7c, 0x80, 0x81, 0x84, 0x87, 0x94, 0x9c, 0xa4, 0xac, 0xb1,
        ]
        for code in 0...0xffff as ClosedRange<UInt16> where code < 0x200 || code % 251 == 0 {
            let isAccepted = (try? BPFProgram([op(code, 1), accept, accept])) != nil
            #expect(isAccepted == known.contains(code), "\(code)")
        }
    }

    // MARK: Instructions

    @Test func `loads take big-endian words, and what is not there ends the program`() throws {
        let packet: [UInt8] = [1, 2, 3, 4, 5]
        for (load, value) in [
            (op(0x20, 1), 0x0203_0405 as UInt32), (op(0x28, 3), 0x0405), (op(0x30, 4), 5), (op(0x80, 0), 5),
            (op(0x00, 77), 77),
        ] { #expect(try result([load], packet) == value) }
        for load in [op(0x20, 2), op(0x28, 4), op(0x30, 5), op(0x20, .max), op(0x28, .max), op(0x30, .max - 1)] {
            #expect(try result([load, op(0x00, 1)], packet) == nil)
        }
    }

    @Test func `indirect loads do not wrap around`() throws {
        let packet: [UInt8] = [9, 8, 7, 6, 5, 4]
        #expect(try result([op(0x01, 2), op(0x40, 0)], packet) == 0x0706_0504)
        #expect(try result([op(0x01, 2), op(0x48, 1)], packet) == 0x0605)
        #expect(try result([op(0x01, 5), op(0x50, 0)], packet) == 4)
        for load in [op(0x40, .max), op(0x48, .max), op(0x50, .max)] {
            #expect(try result([op(0x01, 1), load, op(0x00, 1)], packet) == nil)
        }
    }

    @Test func `the header length of IPv4 is four times its low nibble`() throws {
        #expect(try result([op(0xb1, 0), op(0x87, 0)], [0x45, 0]) == 20)
        #expect(try result([op(0xb1, 1), op(0x87, 0)], [0, 0xff]) == 60)
        #expect(try result([op(0xb1, 2), op(0x00, 1)], [0, 0]) == nil)
    }

    @Test func `arithmetic is that of 32 bits`() throws {
        let cases: [(UInt16, UInt32, UInt32, UInt32?)] = [
            (0x04, .max, 2, 1), (0x14, 1, 2, .max), (0x24, 1 << 31, 2, 0), (0x34, 7, 2, 3), (0x44, 5, 2, 7),
            (0x54, 6, 3, 2),
            (0x64, 1, 31, 1 << 31), (0x74, 1 << 31, 31, 1), (0x94, 7, 4, 3), (0xa4, 5, 1, 4), (0x84, 1, 0, .max),
        ]
        for (code, a, b, expected) in cases {
            #expect(try result([op(0x00, a), op(code, b)], []) == expected, "\(code) with k")
            if code == 0x84 { continue }
            #expect(try result([op(0x01, b), op(0x00, a), op(code | 8, 0)], []) == expected, "\(code) with X")
        }
        // What only a packet's contents bring about.
        #expect(try result([op(0x01, 0), op(0x00, 7), op(0x3c, 0), op(0x00, 1)], []) == nil)
        #expect(try result([op(0x01, 0), op(0x00, 7), op(0x9c, 0), op(0x00, 1)], []) == nil)
        #expect(try result([op(0x01, 32), op(0x00, 7), op(0x6c, 0)], []) == 0)
        #expect(try result([op(0x01, .max), op(0x00, 7), op(0x7c, 0)], []) == 0)
    }

    @Test func `jumps go where the comparison says`() throws {
        let cases: [(UInt16, UInt32, UInt32, Bool)] = [
            (0x15, 5, 5, true), (0x15, 5, 6, false), (0x25, 6, 5, true), (0x25, 5, 5, false), (0x35, 5, 5, true),
            (0x35, 4, 5, false), (0x45, 6, 2, true), (0x45, 4, 3, false), (0x25, .max, 1, true),
        ]
        for (code, a, b, holds) in cases {
            let ends = [op(0x06, 0), op(0x06, 1)]
            #expect(try matches([op(0x00, a), op(code, b, jt: 1, jf: 0)] + ends, []) == holds)
            #expect(try matches([op(0x01, b), op(0x00, a), op(code | 8, 0, jt: 1, jf: 0)] + ends, []) == holds)
        }
        #expect(try matches([op(0x05, 1), op(0x06, 0), op(0x06, 1)], []))
    }

    @Test func `memory and the two registers keep what they are given`() throws {
        for cell in 0..<16 as Range<UInt32> {
            #expect(try result([op(0x00, 99), op(0x02, cell), op(0x00, 1), op(0x60, cell)], []) == 99)
            #expect(try result([op(0x01, 98), op(0x03, cell), op(0x61, cell), op(0x87, 0)], []) == 98)
        }
        #expect(try result([op(0x00, 97), op(0x07, 0), op(0x00, 1), op(0x87, 0)], []) == 97)
        #expect(try result([op(0x81, 0), op(0x87, 0)], [1, 2, 3]) == 3)
        // Neither starts with anything.
        #expect(try result([], []) == 0)
        #expect(try result([op(0x60, 3)], []) == 0)
        #expect(try result([op(0x87, 0)], []) == 0)
    }

    // MARK: Compiled filters

    /// tcpdump -d -y RAW 'udp port 53'
    private var udpPort53: [BPFInstruction] {
        [
            op(0x30, 0), op(0x54, 0xf0), op(0x15, 0x60, jt: 0, jf: 6), op(0x30, 6), op(0x15, 0x11, jt: 0, jf: 17),
            op(0x28, 40), op(0x15, 53, jt: 14, jf: 0), op(0x28, 42), op(0x15, 53, jt: 12, jf: 13), op(0x30, 0),
            op(0x54, 0xf0), op(0x15, 0x40, jt: 0, jf: 10), op(0x30, 9), op(0x15, 0x11, jt: 0, jf: 8), op(0x28, 6),
            op(0x45, 0x1fff, jt: 6, jf: 0), op(0xb1, 0), op(0x48, 0), op(0x15, 53, jt: 2, jf: 0), op(0x48, 2),
            op(0x15, 53, jt: 0, jf: 1), op(0x06, 0x40000), op(0x06, 0),
        ]
    }

    @Test func `a compiled filter finds its packets and no others`() throws {
        let program = try BPFProgram(udpPort53)
        func run(_ packet: [UInt8]) -> Bool { packet.withUnsafeBytes { program.matches($0) } }
        func ipv4(_ proto: UInt8, _ from: UInt16, _ to: UInt16, options: Int = 0, fragment: UInt8 = 0) -> [UInt8] {
            [0x45 + UInt8(options), 0, 0, 0, 0, 0, 0, fragment, 64, proto]
                + [UInt8](repeating: 0, count: 10 + 4 * options)
                + [UInt8(from >> 8), UInt8(from & 0xff), UInt8(to >> 8), UInt8(to & 0xff)]
        }
        #expect(run(ipv4(17, 53, 4000)))
        #expect(run(ipv4(17, 4000, 53)))
        #expect(run(ipv4(17, 4000, 53, options: 3)))
        #expect(run([0x60, 0, 0, 0, 0, 8, 17, 64] + [UInt8](repeating: 0, count: 32) + [0, 53, 1, 1]))
        #expect(!run(ipv4(6, 53, 53)))
        #expect(!run(ipv4(17, 4000, 5353)))
        #expect(!run(ipv4(17, 53, 53, fragment: 1)))
        #expect(!run([]))
        let packet = ipv4(17, 4000, 53)
        for count in 0..<packet.count { #expect(!run(Array(packet.prefix(count)))) }
    }

    private func op(_ code: UInt16, _ k: UInt32, jt: UInt8 = 0, jf: UInt8 = 0) -> BPFInstruction {
        BPFInstruction(code: code, jt: jt, jf: jf, k: k)
    }

    private func matches(_ code: [BPFInstruction], _ packet: [UInt8]) throws -> Bool {
        let program = try BPFProgram(code)
        return packet.withUnsafeBytes { program.matches($0) }
    }

    /// What stands in A after `code`, found bit by bit; nil when the program ended before.
    private func result(_ code: [BPFInstruction], _ packet: [UInt8]) throws -> UInt32? {
        guard try matches(code + [op(0x06, 1)], packet) else { return nil }
        var value: UInt32 = 0
        for bit in 0..<32 as Range<UInt32> {
            let test = [op(0x45, 1 << bit, jt: 0, jf: 1), op(0x06, 1), op(0x06, 0)]
            if try matches(code + test, packet) { value |= 1 << bit }
        }
        return value
    }
}
