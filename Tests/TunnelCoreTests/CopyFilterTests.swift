import Testing
import TunnelCore

struct CopyFilterTests {
    @Test func theSecondCopyIsToldFromTheFirst() {
        var filter = CopyFilter()
        var copies: [Bool] = []
        for sequence in [7, 8, 7, 10, 9, 9, 10, 8] as [UInt64] { copies.append(filter.isCopy(sequence)) }
        #expect(copies == [false, false, true, false, false, true, true, true])
    }

    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func itAgreesWithASetInsideTheWindow(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var filter = CopyFilter()
        var seen: Set<UInt64> = []
        var highest: UInt64 = 1_000_000
        for _ in 0..<50_000 {
            let ahead = UInt64(random.number(0...100) == 0 ? random.number(0...40_000) : random.number(0...3))
            let behind = UInt64(random.number(0...20_000))
            let sequence = random.oneIn(2) ? highest + ahead : highest - behind
            let isOld = sequence <= highest && highest - sequence >= CopyFilter.width
            let isCopy = filter.isCopy(sequence)
            #expect(isCopy == (!isOld && seen.contains(sequence)), "seed \(seed), \(sequence) after \(highest)")
            if !isOld { seen.insert(sequence) }
            highest = max(highest, sequence)
        }
    }

    @Test func theEndsOfTheNumbersAreNoTrouble() {
        var filter = CopyFilter()
        var copies: [Bool] = []
        // 0 is older than the window and counts as new.
        for sequence in [.max, .max, 0, 0] as [UInt64] { copies.append(filter.isCopy(sequence)) }
        #expect(copies == [false, true, false, false])
        filter.restart()
        copies = []
        for sequence in [0, 0, .max, .max] as [UInt64] { copies.append(filter.isCopy(sequence)) }
        #expect(copies == [false, true, false, true])
    }
}
