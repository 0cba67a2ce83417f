import Glibc
import TunnelCore
import TunnelModel

/// A program of arbitrary instructions over an arbitrary packet: refused, or run to its end.
func fuzzBPF(_ input: inout FuzzInput) {
    let count = Int(input.byte() & 31)
    let code = (0..<count).map { _ in
        BPFInstruction(
            code: UInt16(input.byte()), jt: input.byte() & 31, jf: input.byte() & 31,
            k: input.flag() ? input.integer() : UInt32(input.byte()))
    }
    guard let program = try? BPFProgram(code) else { return }
    let packet = input.remainder()
    packet.withUnsafeBytes { check(program.matches($0) == program.matches($0), "the same packet, another answer") }
}

/// One read from a device, taken apart; and everything else that parses packets.
func fuzzSuperPacket(_ input: inout FuzzInput) {
    let linkHeaderLength = input.flag() ? 14 : 0
    var header = VirtioNetHeader()
    header.flags = input.byte()
    header.gsoType = input.byte() & 0x87
    header.gsoSize = input.integer()
    header.checksumStart = UInt16(input.byte())
    header.checksumOffset = UInt16(input.byte())
    let packet = input.remainder()
    _ = split(packet, header, linkHeaderLength: linkHeaderLength)

    var copy = packet
    copy.withUnsafeMutableBytes { bytes in
        _ = flowHash(UnsafeRawBufferPointer(bytes), linkHeaderLength: linkHeaderLength)
        var answer = [UInt8](repeating: 0, count: maximumTooBigLength)
        let length = answer.withUnsafeMutableBytes { makeTooBig(UnsafeRawBufferPointer(bytes), mtu: 1400, into: $0) }
        check((0...maximumTooBigLength).contains(length), "an answer of \(length) bytes")
        clampMSS(bytes, linkHeaderLength: linkHeaderLength, maximumSegment4: 1360, maximumSegment6: 1340)
        _ = markCongestion(bytes, linkHeaderLength: linkHeaderLength)
    }
}

/// Packets through the coalescer: what is written, split as the kernel does it, is what went in.
func fuzzCoalescer(_ input: inout FuzzInput) {
    let linkHeaderLength = input.flag() ? 14 : 0
    var packets: [[UInt8]] = []
    var segments = SegmentMaker()
    while !input.isEmpty, packets.count < 200 {
        let kind = input.byte()
        var packet = kind & 7 == 0 ? input.bytes(Int(input.byte())) : segments.make(linkHeaderLength, &input)
        if kind & 0xf0 == 0xf0, !packet.isEmpty { packet[Int(input.byte()) % packet.count] ^= input.byte() }
        packets.append(packet)
    }
    packets.removeAll(where: \.isEmpty)
    let vectors = UnsafeMutableBufferPointer<iovec>.allocate(capacity: Coalescer.vectorCapacity)
    let virtioHeader = UnsafeMutableRawPointer.allocate(byteCount: VirtioNetHeader.size, alignment: 2)
    defer {
        vectors.deallocate()
        virtioHeader.deallocate()
    }
    var coalescer = Coalescer(
        vectors: vectors, virtioHeader: virtioHeader, linkHeaderLength: linkHeaderLength, coalescesTCP: true,
        coalescesUDP: true)
    var written: [[UInt8]] = []
    let memory = packets.map { packet in
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: packet.count, alignment: 1)
        bytes.copyBytes(from: packet)
        return bytes
    }
    defer { for bytes in memory { bytes.deallocate() } }
    func write(_ parts: UnsafeBufferPointer<iovec>) {
        guard parts.count > 0, let base = parts[0].iov_base else { return }
        let bytes = parts.dropFirst().flatMap { UnsafeRawBufferPointer(start: $0.iov_base, count: $0.iov_len) }
        written += split(bytes, VirtioNetHeader(reading: base), linkHeaderLength: linkHeaderLength) ?? [bytes]
    }
    for bytes in memory where coalescer.append(bytes) == .flushFirst {
        write(coalescer.finish())
        check(coalescer.append(bytes) == .started, "an empty coalescer refuses a packet")
    }
    write(coalescer.finish())
    check(written == packets, "not the packets that went in")
}

/// A TCP segment or UDP datagram over IPv4 that may continue the one before: few flows, lengths and flags, true checksums.
/// libFuzzer alone would never compute one.
private struct SegmentMaker {
    private var sequence: UInt32 = 1
    private var identification: UInt16 = 1

    mutating func make(_ linkHeaderLength: Int, _ input: inout FuzzInput) -> [UInt8] {
        let kind = input.byte()
        let isTCP = kind & 1 == 0
        let payload = 4 * Int(input.byte() & 15) + Int(kind >> 1 & 1)
        let transport = isTCP ? 20 : 8
        var ip: [UInt8] = [0x45, 0, 0, 0, 0, 0, kind & 4, 0, 64, isTCP ? 6 : 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
        put(UInt16(ip.count + transport + payload), at: 2, in: &ip)
        put(identification, at: 4, in: &ip)
        var sum = InternetChecksum()
        ip.withUnsafeBytes { bytes in if let base = bytes.baseAddress { sum.add(base, count: bytes.count) } }
        store(sum.complement, at: 10, in: &ip)

        var segment = [UInt8](repeating: kind >> 5, count: transport + payload)
        put(1000 + UInt16(kind >> 6), at: 0, in: &segment)
        put(2000, at: 2, in: &segment)
        if isTCP {
            put(UInt16(sequence >> 16), at: 4, in: &segment)
            put(UInt16(truncatingIfNeeded: sequence), at: 6, in: &segment)
            for offset in 8..<12 { segment[offset] = 0 }
            segment[12] = 0x50
            segment[13] = 0x10 | (kind & 8)
            put(512, at: 14, in: &segment)
        } else {
            put(UInt16(segment.count), at: 4, in: &segment)
        }
        let field = isTCP ? 16 : 6
        put(0, at: field, in: &segment)
        if isTCP { put(0, at: 18, in: &segment) }
        var check = InternetChecksum()
        ip.withUnsafeBytes { bytes in
            if let base = bytes.baseAddress { check.addPseudoHeader4(addresses: base + 12, protocol: isTCP ? 6 : 17) }
        }
        check.add(UInt16(segment.count))
        segment.withUnsafeBytes { bytes in if let base = bytes.baseAddress { check.add(base, count: bytes.count) } }
        store(check.complement == 0 && !isTCP ? 0xffff : check.complement, at: field, in: &segment)

        sequence &+= UInt32(payload)
        identification &+= 1
        if kind & 16 != 0 { identification &+= UInt16(input.byte()) }
        let link: [UInt8] = linkHeaderLength == 0 ? [] : [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]
        return link + ip + segment
    }

    private func put(_ value: UInt16, at offset: Int, in bytes: inout [UInt8]) {
        bytes[offset] = UInt8(value >> 8)
        bytes[offset + 1] = UInt8(truncatingIfNeeded: value)
    }

    /// A checksum as ``InternetChecksum`` gives it: in the order of memory.
    private func store(_ value: UInt16, at offset: Int, in bytes: inout [UInt8]) {
        bytes.withUnsafeMutableBytes { $0.storeBytes(of: value, toByteOffset: offset, as: UInt16.self) }
    }
}

/// The segments of one read; nil when it is refused.
private func split(_ bytes: [UInt8], _ header: VirtioNetHeader, linkHeaderLength: Int) -> [[UInt8]]? {
    // Exactly as long as the packet, so that the address sanitizer sees what is beyond.
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: bytes)
    do throws(SuperPacket.Refusal) {
        var packet = try SuperPacket(header, packet: memory, linkHeaderLength: linkHeaderLength)
        return (0..<packet.segmentCount).map { Array(packet.segment($0)) }
    } catch {
        return nil
    }
}
