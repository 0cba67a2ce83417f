import Testing
import TunnelCore

@Suite("Internet checksum and virtio header")
struct OffloadChecksumTests {
    @Test func `the example of RFC 1071 sums to 0xddf2`() {
        let sum = checksum([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])
        #expect(UInt16(bigEndian: sum.folded) == 0xddf2)
        #expect(UInt16(bigEndian: sum.complement) == 0x220d)
    }

    @Test func `a known IPv4 header is valid, and is not with any bit flipped`() {
        let header: [UInt8] = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8,
            0x00, 0xc7,
        ]
        #expect(checksum(header).isValid)
        for bit in 0..<header.count * 8 {
            var damaged = header
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(!checksum(damaged).isValid, "bit \(bit)")
        }
    }

    @Test func `every length and alignment equals the slow sum, and no byte outside is read`() {
        var random = OffloadRandom(seed: 1)
        let memory = GuardedMemory(capacity: 4096)
        for length in 0...200 {
            for bytes in [random.bytes(length), [UInt8](repeating: 0xff, count: length)] {
                for side in GuardedMemory.Side.allCases {
                    let placed = memory.place(bytes, against: side)
                    var sum = InternetChecksum()
                    if let base = placed.baseAddress { sum.add(base, count: length) }
                    #expect(UInt16(bigEndian: sum.complement) == slowChecksum(bytes), "length \(length)")
                }
            }
        }
    }

    @Test func `a sum may be taken in parts of even length`() {
        var random = OffloadRandom(seed: 2)
        for _ in 0..<200 {
            let bytes = random.bytes(random.number(2...1500))
            let cut = random.number(0...bytes.count / 2) * 2
            var sum = InternetChecksum()
            bytes.withUnsafeBytes {
                sum.add($0.baseAddress!, count: cut)
                sum.add($0.baseAddress! + cut, count: bytes.count - cut)
            }
            #expect(UInt16(bigEndian: sum.complement) == slowChecksum(bytes))
        }
    }

    @Test func `64 KB of ones, many times over, do not overflow`() {
        let ones = [UInt8](repeating: 0xff, count: 65536)
        var sum = InternetChecksum()
        for _ in 0..<2000 { ones.withUnsafeBytes { sum.add($0.baseAddress!, count: $0.count) } }
        #expect(sum.folded == 0xffff)
    }

    @Test func `what is subtracted is as if never added`() {
        var random = OffloadRandom(seed: 3)
        for _ in 0..<200 {
            let bytes = random.bytes(40)
            let number = UInt16.random(in: 0...0xffff, using: &random)
            var sum = checksum(bytes)
            sum.add(number)
            sum.subtract(number)
            #expect(sum.folded == checksum(bytes).folded)
        }
    }

    @Test func `the incremental update of RFC 1624's example gives 0, not 0xffff`() {
        #expect(InternetChecksum.updated(0xdd2f, from: 0x5555, to: 0x3285) == 0x0000)
    }

    @Test func `an incremental update equals a sum from scratch`() {
        var random = OffloadRandom(seed: 4)
        for _ in 0..<500 {
            var bytes = random.bytes(20)
            let old = slowChecksum(bytes)
            let position = random.number(0...9) * 2
            let before = UInt16(bytes[position]) << 8 | UInt16(bytes[position + 1])
            let after = UInt16.random(in: 0...0xffff, using: &random)
            bytes.replaceSubrange(position..<position + 2, with: big16(Int(after)))
            #expect(InternetChecksum.updated(old, from: before, to: after) == slowChecksum(bytes))
        }
    }

    @Test func `the virtio header's fields lie where virtio puts them`() {
        var header = VirtioNetHeader()
        header.flags = 1
        header.gsoType = 4
        header.headerLength = 74
        header.gsoSize = 1388
        header.checksumStart = 54
        header.checksumOffset = 16
        let memory = GuardedMemory(capacity: 10)
        for side in GuardedMemory.Side.allCases {
            let placed = memory.place([UInt8](repeating: 0, count: VirtioNetHeader.size), against: side)
            header.write(to: placed.baseAddress!)
            var expected: [UInt8] = [1, 4]
            for field in [UInt16(74), 1388, 54, 16] { withUnsafeBytes(of: field) { expected += $0 } }
            #expect([UInt8](placed) == expected)
            #expect(VirtioNetHeader(reading: placed.baseAddress!) == header)
            #expect(memory.isIntact)
        }
    }

    private func checksum(_ bytes: [UInt8]) -> InternetChecksum {
        var sum = InternetChecksum()
        bytes.withUnsafeBytes { sum.add($0.baseAddress!, count: $0.count) }
        return sum
    }
}
