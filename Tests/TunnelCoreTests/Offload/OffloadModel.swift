import TunnelCore

/// A packet as numbers, from which its bytes are built the slow and obvious way: nothing here is shared with the code
/// under test.
struct ModelPacket: Equatable {
    enum Transport: Equatable {
        case tcp(sequence: UInt32, acknowledgement: UInt32, flags: UInt8, window: UInt16, options: [UInt8])
        case udp
    }

    /// Ethernet header with VLAN tags, without the EtherType.
    var link: [UInt8] = []
    var isIPv6 = false
    var trafficClass: UInt8 = 0
    var flowLabel: UInt32 = 0
    var hopLimit: UInt8 = 64
    var identification: UInt16 = 0
    var dontFragment = true
    var source: [UInt8] = [192, 0, 2, 1]
    var destination: [UInt8] = [198, 51, 100, 7]
    /// IPv4 options, a multiple of 4 bytes.
    var ipOptions: [UInt8] = []
    /// IPv6 extension headers, each with its own next header byte still 0.
    var extensionHeaders: [(type: UInt8, body: [UInt8])] = []
    /// Of the pseudo header, where a routing header makes it another than `destination`.
    var finalDestination: [UInt8]?
    var sourcePort: UInt16 = 40000
    var destinationPort: UInt16 = 443
    var transport: Transport = .udp
    var payload: [UInt8] = []

    static func == (a: ModelPacket, b: ModelPacket) -> Bool { a.bytes() == b.bytes() }

    var isTCP: Bool { if case .tcp = transport { true } else { false } }
    var transportNumber: UInt8 { isTCP ? 6 : 17 }
    var networkOffset: Int { link.isEmpty ? 0 : link.count + 2 }
    var transportOffset: Int {
        networkOffset + (isIPv6 ? 40 + extensionHeaders.reduce(0) { $0 + $1.body.count } : 20 + ipOptions.count)
    }
    var headerLength: Int {
        if case .tcp(_, _, _, _, let options) = transport {
            transportOffset + 20 + options.count
        } else {
            transportOffset + 8
        }
    }
    var checksumOffset: Int { isTCP ? 16 : 6 }

    /// Complete, or with the pseudo header's sum in the checksum field.
    func bytes(partialChecksum: Bool = false) -> [UInt8] {
        var segment = transportHeader() + payload
        let pseudo =
            source + (finalDestination ?? destination)
            + (isIPv6
                ? big32(UInt32(segment.count)) + big32(UInt32(transportNumber))
                : [0, transportNumber] + big16(segment.count))
        var checksum = partialChecksum ? ~slowChecksum(pseudo) : slowChecksum(pseudo + segment)
        if checksum == 0 && !isTCP && !partialChecksum { checksum = 0xffff }
        segment.replaceSubrange(checksumOffset..<checksumOffset + 2, with: big16(Int(checksum)))
        let etherType = link.isEmpty ? [] : big16(isIPv6 ? 0x86dd : 0x0800)
        return link + etherType + (isIPv6 ? header6(segment.count) : header4(segment.count)) + segment
    }

    /// What a device hands over for this packet, to be split into payloads of `size`.
    func virtioHeader(size: Int) -> VirtioNetHeader {
        var header = VirtioNetHeader()
        header.flags = VirtioNetHeader.needsChecksum
        header.gsoType =
            isTCP
            ? (isIPv6 ? VirtioNetHeader.gsoTCPv6 : VirtioNetHeader.gsoTCPv4) : VirtioNetHeader.gsoUDPSegmentation
        header.headerLength = UInt16(headerLength)
        header.gsoSize = UInt16(size)
        header.checksumStart = UInt16(transportOffset)
        header.checksumOffset = UInt16(checksumOffset)
        return header
    }

    /// The packets that splitting must give.
    func segments(size: Int) -> [ModelPacket] {
        var result: [ModelPacket] = []
        var rest = payload[...]
        repeat {
            var piece = self
            piece.payload = Array(rest.prefix(size))
            rest = rest.dropFirst(size)
            piece.identification = identification &+ UInt16(result.count)
            if case .tcp(let sequence, let acknowledgement, var flags, let window, let options) = transport {
                if !result.isEmpty { flags &= 0x7f }
                if !rest.isEmpty { flags &= ~0x09 }
                piece.transport = .tcp(
                    sequence: sequence &+ UInt32(result.count * size), acknowledgement: acknowledgement, flags: flags,
                    window: window, options: options)
            }
            result.append(piece)
        } while !rest.isEmpty
        return result
    }

    private func transportHeader() -> [UInt8] {
        let ports = big16(Int(sourcePort)) + big16(Int(destinationPort))
        switch transport {
        case .udp: return ports + big16(8 + payload.count) + [0, 0]
        case .tcp(let sequence, let acknowledgement, let flags, let window, let options):
            return ports + big32(sequence) + big32(acknowledgement) + [UInt8((20 + options.count) / 4) << 4, flags]
                + big16(Int(window)) + [0, 0, 0, 0] + options
        }
    }

    private func header4(_ length: Int) -> [UInt8] {
        var header: [UInt8] = [UInt8(0x45 + ipOptions.count / 4), trafficClass]
        header += big16(20 + ipOptions.count + length) + big16(Int(identification))
        header += [dontFragment ? 0x40 : 0, 0, hopLimit, transportNumber, 0, 0] + source + destination + ipOptions
        header.replaceSubrange(10..<12, with: big16(Int(slowChecksum(header))))
        return header
    }

    private func header6(_ length: Int) -> [UInt8] {
        var header = big32(6 << 28 | UInt32(trafficClass) << 20 | flowLabel)
        header += big16(length + extensionHeaders.reduce(0) { $0 + $1.body.count })
        header += [extensionHeaders.first?.type ?? transportNumber, hopLimit] + source + destination
        for (index, item) in extensionHeaders.enumerated() {
            let next = index + 1 < extensionHeaders.count ? extensionHeaders[index + 1].type : transportNumber
            header += [next] + item.body.dropFirst()
        }
        return header
    }
}

/// TCP's fields by name; a UDP packet has none, and setting one changes nothing.
extension ModelPacket {
    var sequence: UInt32 {
        get { if case .tcp(let value, _, _, _, _) = transport { value } else { 0 } }
        set {
            if case .tcp(_, let b, let c, let d, let e) = transport {
                transport = .tcp(sequence: newValue, acknowledgement: b, flags: c, window: d, options: e)
            }
        }
    }
    var acknowledgement: UInt32 {
        get { if case .tcp(_, let value, _, _, _) = transport { value } else { 0 } }
        set {
            if case .tcp(let a, _, let c, let d, let e) = transport {
                transport = .tcp(sequence: a, acknowledgement: newValue, flags: c, window: d, options: e)
            }
        }
    }
    var flags: UInt8 {
        get { if case .tcp(_, _, let value, _, _) = transport { value } else { 0 } }
        set {
            if case .tcp(let a, let b, _, let d, let e) = transport {
                transport = .tcp(sequence: a, acknowledgement: b, flags: newValue, window: d, options: e)
            }
        }
    }
    var window: UInt16 {
        get { if case .tcp(_, _, _, let value, _) = transport { value } else { 0 } }
        set {
            if case .tcp(let a, let b, let c, _, let e) = transport {
                transport = .tcp(sequence: a, acknowledgement: b, flags: c, window: newValue, options: e)
            }
        }
    }
    var options: [UInt8] {
        get { if case .tcp(_, _, _, _, let value) = transport { value } else { [] } }
        set {
            if case .tcp(let a, let b, let c, let d, _) = transport {
                transport = .tcp(sequence: a, acknowledgement: b, flags: c, window: d, options: newValue)
            }
        }
    }
}

func big16(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 255), UInt8(value & 255)] }
func big32(_ value: UInt32) -> [UInt8] { big16(Int(value >> 16)) + big16(Int(value & 0xffff)) }

/// RFC 1071 word by word, carries added at once.
func slowChecksum(_ bytes: [UInt8]) -> UInt16 {
    bytes.withUnsafeBufferPointer { bytes in
        var sum: UInt32 = 0
        var index = 0
        while index < bytes.count {
            sum &+= UInt32(bytes[index]) << 8 | (index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0)
            if sum > 0xffff { sum &-= 0xffff }
            index &+= 2
        }
        return ~UInt16(sum)
    }
}

/// SplitMix64: the seed replays the run.
struct OffloadRandom: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count + 8) { buffer, used in
            var index = 0
            while index < count {
                UnsafeMutableRawPointer(buffer.baseAddress! + index).storeBytes(of: next(), as: UInt64.self)
                index &+= 8
            }
            used = count
        }
    }
    mutating func chance(_ oneIn: Int) -> Bool { Int.random(in: 0..<oneIn, using: &self) == 0 }
    mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }

    /// A flow's packet with random headers and no payload.
    mutating func packet(tap: Bool = .random(), options: Bool = true) -> ModelPacket {
        var packet = ModelPacket()
        if tap {
            packet.link = bytes(12)
            if options { for _ in 0..<number(0...2) { packet.link += [0x81, 0x00] + bytes(2) } }
        }
        packet.isIPv6 = chance(2)
        packet.trafficClass = UInt8.random(in: 0...255, using: &self)
        packet.hopLimit = UInt8.random(in: 1...255, using: &self)
        packet.identification = UInt16.random(in: 0...0xffff, using: &self)
        packet.dontFragment = chance(2)
        packet.flowLabel = UInt32.random(in: 0...0xfffff, using: &self)
        packet.source = bytes(packet.isIPv6 ? 16 : 4)
        packet.destination = bytes(packet.isIPv6 ? 16 : 4)
        packet.sourcePort = UInt16.random(in: 0...0xffff, using: &self)
        packet.destinationPort = UInt16.random(in: 0...0xffff, using: &self)
        if options && packet.isIPv6 && chance(3) {
            packet.extensionHeaders = [(0, [0, 0] + bytes(6)), (60, [0, 1] + bytes(14))]
        }
        if options && !packet.isIPv6 && chance(3) { packet.ipOptions = bytes(4 * number(1...10)) }
        if chance(3) { return packet }
        packet.transport = .tcp(
            sequence: UInt32.random(in: 0 ... .max, using: &self),
            acknowledgement: UInt32.random(in: 0 ... .max, using: &self), flags: 0x10,
            window: UInt16.random(in: 0...0xffff, using: &self), options: bytes(4 * number(0...10)))
        return packet
    }
}

extension [UInt8] {
    /// A packet from its hexadecimal digits.
    init(packetHex digits: String) {
        let digits = Array<Character>(digits)
        self = stride(from: 0, to: digits.count, by: 2).map { UInt8(String(digits[$0...$0 + 1]), radix: 16)! }
    }
}
