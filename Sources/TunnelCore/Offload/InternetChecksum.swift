/// The Internet checksum, one's complement sum of 16-bit words (RFC 1071).
///
/// Words are added in the order in which they lie in memory, whatever the machine's byte order: the sum does not care
/// (RFC 1071, 2 (B)), and ``complement`` is stored as it is, without a swap. Numbers (lengths, protocols) are swapped by
/// the method that adds them.
public struct InternetChecksum {
    /// Congruent to the sum modulo 0xffff, below 2^33 between calls: no sequence of calls can overflow it.
    private var sum: UInt64

    public init() { sum = 0 }

    /// Goes on from a sum that lies in memory, such as a checksum field with the pseudo header's sum.
    public init(fieldAt address: UnsafeRawPointer) {
        sum = UInt64(address.loadUnaligned(as: UInt16.self))
    }

    /// Adds `count` bytes, any alignment. An odd count is padded with a zero byte, so only the last run may have one.
    public mutating func add(_ bytes: UnsafeRawPointer, count: Int) {
        // Four accumulators of two 32-bit sums each, so that no addition waits for another. A lane has room for 2^32 words.
        var low0 = SIMD2<UInt64>.zero
        var high0 = SIMD2<UInt64>.zero
        var low1 = SIMD2<UInt64>.zero
        var high1 = SIMD2<UInt64>.zero
        let lowHalves = SIMD2<UInt64>(repeating: 0xffff_ffff)
        var offset = 0
        while offset <= count &- 32 {
            let words0 = bytes.loadUnaligned(fromByteOffset: offset, as: SIMD2<UInt64>.self)
            let words1 = bytes.loadUnaligned(fromByteOffset: offset &+ 16, as: SIMD2<UInt64>.self)
            low0 &+= words0 & lowHalves
            high0 &+= words0 &>> 32
            low1 &+= words1 & lowHalves
            high1 &+= words1 &>> 32
            offset &+= 32
        }
        let lanes = (low0 &+ high0) &+ (low1 &+ high1)
        var total = lanes[0] &+ lanes[1]
        while offset <= count &- 4 {
            total &+= UInt64(bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            offset &+= 4
        }
        if offset <= count &- 2 {
            total &+= UInt64(bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            offset &+= 2
        }
        if offset < count {
            total &+= UInt64(UInt16(littleEndian: UInt16(bytes.load(fromByteOffset: offset, as: UInt8.self))))
        }
        addNative(total)
    }

    /// Adds one 16-bit number, given in host order, as the wire has it.
    public mutating func add(_ number: UInt16) { addNative(UInt64(number.bigEndian)) }

    /// Takes one 16-bit number away again.
    public mutating func subtract(_ number: UInt16) { addNative(UInt64(~number.bigEndian)) }

    /// Adds the addresses and the protocol of the pseudo header, without the length (RFC 9293, 3.1; RFC 768).
    ///
    /// - Parameter addresses: the source address, followed by the destination: 8 bytes.
    public mutating func addPseudoHeader4(addresses: UnsafeRawPointer, protocol number: UInt8) {
        add(addresses, count: 8)
        add(UInt16(number))
    }

    /// Adds the addresses and the protocol of the pseudo header, without the length (RFC 8200, 8.1).
    ///
    /// - Parameter addresses: the source address, followed by the destination: 32 bytes.
    public mutating func addPseudoHeader6(addresses: UnsafeRawPointer, protocol number: UInt8) {
        add(addresses, count: 32)
        add(UInt16(number))
    }

    /// The sum in 16 bits, in memory order: what a checksum field holds when only the pseudo header is in it.
    public var folded: UInt16 {
        var value = (sum & 0xffff_ffff) &+ (sum >> 32)
        value = (value & 0xffff) &+ (value >> 16)
        value = (value & 0xffff) &+ (value >> 16)
        value = (value & 0xffff) &+ (value >> 16)
        return UInt16(truncatingIfNeeded: value)
    }

    /// The checksum, in memory order.
    public var complement: UInt16 { ~folded }

    /// Whether bytes that contained their own checksum are intact.
    public var isValid: Bool { folded == 0xffff }

    private mutating func addNative(_ words: UInt64) {
        let total = sum &+ words
        sum = (total & 0xffff_ffff) &+ (total >> 32)
    }
}

extension InternetChecksum {
    /// A checksum after one 16-bit word under it changed (RFC 1624, equation 3). All three in the same byte order.
    public static func updated(_ checksum: UInt16, from old: UInt16, to new: UInt16) -> UInt16 {
        var sum = UInt32(~checksum) &+ UInt32(~old) &+ UInt32(new)
        sum = (sum & 0xffff) &+ (sum >> 16)
        sum = (sum & 0xffff) &+ (sum >> 16)
        return ~UInt16(truncatingIfNeeded: sum)
    }
}
