import Testing
import TunnelCrypto

@Suite("Replay window")
struct ReplayWindowTests {
    /// The slow and obvious one: remembers all.
    private struct Model {
        var seen: Set<UInt64> = []
        var first: UInt64?
        var highest: UInt64?

        func isFresh(_ sequence: UInt64) -> Bool {
            guard let first, let highest else { return true }
            if sequence < first { return false }
            if sequence < highest, highest - sequence >= ReplayWindow.reach { return false }
            return !seen.contains(sequence)
        }

        mutating func accept(_ sequence: UInt64) -> Bool {
            guard isFresh(sequence) else { return false }
            seen.insert(sequence)
            first = first ?? sequence
            highest = max(highest ?? sequence, sequence)
            return true
        }
    }

    /// A window that a condition may change.
    private final class Subject {
        private var window = ReplayWindow()
        var highest: UInt64 { window.highest }
        func isFresh(_ sequence: UInt64) -> Bool { window.isFresh(sequence) }
        func accept(_ sequence: UInt64) -> Bool { window.accept(sequence) }
    }

    @Test func `nothing is accepted twice`() {
        for first in [0, 1, 63, 64, 65, 1 << 40, .max - 1, .max] as [UInt64] {
            let window = Subject()
            #expect(window.isFresh(first) == true)
            #expect(window.accept(first))
            #expect(window.isFresh(first) == false)
            #expect(!window.accept(first))
            #expect(window.highest == first)
        }
    }

    @Test func `what lies below the first is refused`() {
        for first in [0, 1, 62, 63, 64, 65, 1 << 40 + 63, .max] as [UInt64] {
            let window = Subject()
            #expect(window.accept(first))
            for distance in 1...2100 as ClosedRange<UInt64> where distance <= first {
                #expect(window.isFresh(first - distance) == false)
                #expect(!window.accept(first - distance))
            }
            for distance in 1...70 as ClosedRange<UInt64> where first <= .max - distance {
                #expect(window.isFresh(first + distance) == true)
                #expect(window.accept(first + distance))
            }
        }
    }

    @Test func `what is too old to know is refused`() {
        let window = Subject()
        #expect(window.accept(5_000))
        #expect(window.accept(10_000))
        #expect(!window.accept(10_000 - ReplayWindow.reach))
        #expect(window.accept(10_000 - ReplayWindow.reach + 1))
        #expect(!window.accept(0))
    }

    @Test func `a refused number changes nothing`() {
        let window = Subject()
        #expect(window.accept(3000))
        #expect(window.accept(5000))
        #expect(!window.accept(0))
        #expect(window.highest == 5000)
        #expect(window.accept(4999))
    }

    @Test func `the end of the numbers can be reached`() {
        let window = Subject()
        #expect(window.accept(.max - 100))
        for distance in (0..<100).reversed() as ReversedCollection<Range<UInt64>> {
            #expect(window.accept(.max - distance))
            #expect(!window.accept(.max - distance))
        }
        #expect(!window.accept(0))
    }

    @Test(arguments: 1...24 as ClosedRange<UInt64>)
    func `agrees with a set that remembers all`(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let window = Subject()
        var model = Model()
        var around = [0, 1 << 20, UInt64.max - 40_000].randomElement(using: &random)!
        for step in 0..<2000 {
            let sequence: UInt64
            switch Int.random(in: 0..<20, using: &random) {
            case 0: sequence = around &+ UInt64.random(in: 0...5000, using: &random)
            case 1: sequence = around &- min(around, UInt64.random(in: 0...4000, using: &random))
            case 2: sequence = around | 63
            case 3...9: sequence = around &- min(around, UInt64.random(in: 0...100, using: &random))
            default: sequence = around &+ 1
            }
            let isFresh = window.isFresh(sequence)
            #expect(isFresh == model.isFresh(sequence), "seed \(seed), step \(step), \(sequence)")
            let isAccepted = window.accept(sequence)
            #expect(isAccepted == model.accept(sequence), "seed \(seed), step \(step), \(sequence)")
            #expect(window.highest == model.highest)
            around = max(around, sequence)
        }
    }

    @Test func `jumps of every size forget what is out of reach and nothing else`() {
        for jump in 1...4200 as ClosedRange<UInt64> {
            let window = Subject()
            let start: UInt64 = 100_000
            for sequence in [start - 1900, start - 64, start - 1, start] { _ = window.accept(sequence) }
            #expect(window.accept(start + jump))
            for sequence in [start - 1900, start - 64, start - 1, start] {
                #expect(!window.accept(sequence), "jump \(jump)")
            }
            let unseen = start + jump - min(jump - 1, ReplayWindow.reach - 1)
            #expect(window.isFresh(unseen) == (jump > 1), "jump \(jump)")
        }
    }
}

/// Pseudo-random numbers that the seed determines (SplitMix64).
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
