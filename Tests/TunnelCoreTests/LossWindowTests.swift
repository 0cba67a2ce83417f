import Testing
import TunnelCore

@Suite("Loss window")
struct LossWindowTests {
    /// The slow and obvious one: which of the last 64 numbers came since the window was last reset.
    private struct Model {
        var seen: Set<UInt64> = []
        var highest: UInt64?

        mutating func note(_ sequence: UInt64) {
            guard let top = highest, sequence <= top || sequence - top <= 64 else {
                highest = sequence
                // What came before the first is no loss.
                seen = Set((0..<64).map { sequence &- $0 })
                return
            }
            seen.insert(sequence)
            highest = max(top, sequence)
        }

        var permille: Int {
            guard let highest else { return 0 }
            return (0..<64 as Range<UInt64>).count { !seen.contains(highest &- $0) } * 1000 / 64
        }
    }

    @Test func `nothing seen is no loss`() {
        #expect(LossWindow().permille == 0)
    }

    @Test(arguments: [0, 1, 1 << 50, .max - 65, .max - 1, .max] as [UInt64])
    func `the first number is no loss`(first: UInt64) {
        var window = LossWindow()
        window.note(first)
        #expect(window.permille == 0)
    }

    @Test func `a jump of 64 loses 63, one of 65 resets`() {
        var window = LossWindow()
        window.note(1000)
        window.note(1064)
        #expect(window.permille == 63 * 1000 / 64)
        window.note(1129)
        #expect(window.permille == 0)
    }

    @Test func `what comes late is no loss, and what comes twice counts once`() {
        var window = LossWindow()
        window.note(100)
        window.note(102)
        window.note(102)
        #expect(window.permille == 1000 / 64)
        window.note(101)
        #expect(window.permille == 0)
    }

    @Test func `every second one lost is half`() {
        var window = LossWindow()
        for sequence in stride(from: 0, to: 400, by: 2) as StrideTo<UInt64> { window.note(sequence) }
        #expect(window.permille == 500)
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `agrees with a set that remembers all`(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var window = LossWindow()
        var model = Model()
        var around: UInt64 = seed % 2 == 0 ? 0 : 1 << 40
        for step in 0..<2000 {
            switch random.number(0...9) {
            case 0: around &+= UInt64(random.number(1...80))
            case 1, 2: around &+= UInt64(random.number(1...4))
            default: around &+= 1
            }
            let back = random.oneIn(5) ? UInt64(random.number(0...90)) : 0
            let sequence = around &- min(around, back)
            window.note(sequence)
            model.note(sequence)
            #expect(window.permille == model.permille, "seed \(seed), step \(step), \(sequence)")
        }
    }
}
