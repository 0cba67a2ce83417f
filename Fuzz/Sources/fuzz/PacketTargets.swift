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
    while !input.isEmpty, packets.count < 80 {
        if let last = packets.last, input.flag() {
            packets.append(continuation(of: last, linkHeaderLength, &input))
        } else {
            packets.append(input.bytes(Int(input.byte())))
        }
    }
    packets.removeAll(where: \.isEmpty)
    var buffers = packets
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
    let memory = buffers.indices.map { index in
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: buffers[index].count, alignment: 1)
        bytes.copyBytes(from: buffers[index])
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

/// The packet that could follow `packet` in its TCP flow, checksums left to luck: libFuzzer does not compute them.
private func continuation(of packet: [UInt8], _ linkHeaderLength: Int, _ input: inout FuzzInput) -> [UInt8] {
    var next = packet
    let change = input.byte()
    if !next.isEmpty, change & 1 != 0 { next[Int(input.byte()) % next.count] ^= input.byte() }
    if change & 2 != 0 { next.removeLast(min(next.count, Int(input.byte() & 31))) }
    return next
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
