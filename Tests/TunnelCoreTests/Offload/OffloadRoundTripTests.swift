import Testing
import TunnelCore

@Suite("Splitting and merging are each other's inverse")
struct OffloadRoundTripTests {
    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func `split, merge, split gives the same packets`(seed: UInt64) throws {
        var random = OffloadRandom(seed: seed)
        var packet = random.packet(tap: random.chance(2), options: false)
        let linkHeaderLength = packet.link.isEmpty ? 0 : 14
        packet.payload = random.bytes(random.number(2000...60000))
        if packet.isTCP && random.chance(2) { packet.flags |= 0x08 }
        let size = random.number(900...1448)
        let first = try split(
            packet.bytes(partialChecksum: true), packet.virtioHeader(size: size), linkHeaderLength: linkHeaderLength)
        let device = CoalescingDevice(linkHeaderLength: linkHeaderLength)
        for segment in first { device.append(segment) }
        device.flush()
        #expect(device.writes.map(\.packetCount) == chunks(of: 64, first.count))
        #expect(try device.resplit() == first)
    }

    /// The total property: whatever comes in, the kernel delivers the same packets in the same order.
    @Test(arguments: 1...60 as ClosedRange<UInt64>)
    func `any stream, damaged or not, comes out as it went in`(seed: UInt64) throws {
        var random = OffloadRandom(seed: seed)
        let tap = random.chance(2)
        var flows = (0..<3).map { _ in random.packet(tap: tap) }
        var stream: [[UInt8]] = []
        while stream.count < 400 {
            let flow = random.number(0...2)
            let size = random.number(1...1400)
            for _ in 0..<random.number(1...20) {
                flows[flow].payload = random.bytes(random.chance(8) ? random.number(0...size) : size)
                if flows[flow].isTCP { flows[flow].flags = random.chance(8) ? 0x18 : 0x10 }
                var bytes = flows[flow].bytes()
                if random.chance(10) { bytes[random.number(0...bytes.count - 1)] ^= 1 << UInt8(random.number(0...7)) }
                if random.chance(20) { bytes.removeLast(random.number(0...bytes.count - 1)) }
                stream.append(bytes)
                if !random.chance(15) {
                    flows[flow].sequence &+= UInt32(flows[flow].payload.count)
                    flows[flow].identification &+= 1
                }
            }
        }
        let device = CoalescingDevice(linkHeaderLength: tap ? 14 : 0)
        for packet in stream { device.append(packet, against: random.chance(2) ? .low : .high) }
        device.flush()
        let output = try device.resplit()
        #expect(output.count == stream.count)
        #expect(zip(output, stream).allSatisfy { sameButAtomicID($0, $1, linkHeaderLength: tap ? 14 : 0) })
    }

    /// Equal bytes; under DF the ID, and so the IPv4 header's checksum, may be another (RFC 6864).
    private func sameButAtomicID(_ a: [UInt8], _ b: [UInt8], linkHeaderLength: Int) -> Bool {
        if a == b { return true }
        var a = a
        var b = b
        let ip =
            linkHeaderLength == 0 ? 0 : (stride(from: 12, to: a.count - 1, by: 4).first { a[$0] == 0x08 } ?? 12) + 2
        guard a.count == b.count, a.count >= ip + 20, a[ip] == 0x45, a[ip + 6] & 0x40 != 0 else { return false }
        for index in [4, 5, 10, 11] {
            a[ip + index] = 0
            b[ip + index] = 0
        }
        return a == b
    }

    private func chunks(of size: Int, _ count: Int) -> [Int] {
        stride(from: 0, to: count, by: size).map { min(size, count - $0) }
    }
}
