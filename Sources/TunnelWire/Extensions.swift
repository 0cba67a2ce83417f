// What our own peers tell each other in the bodies of AUTH, AUTH_OK and KEEPALIVE, which are encrypted and authenticated
// and which stock peers ignore (wire-v1.md, What v1 leaves open: Extensions). Little endian.

/// What a peer can do; follows `AU` or `OK`: 0xC1, 1 (format), flags (16 bits).
@frozen
public struct Capabilities: OptionSet, Sendable, BitwiseCopyable {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Understands ``ReceiverReport``s and sends them.
    public static let receiverReports = Capabilities(rawValue: 1)
    /// Drops redundant copies by their data_seq.
    public static let redundantCopies = Capabilities(rawValue: 2)
    /// Answers packet trains: ``TrainPlace`` with ``TrainResult``.
    public static let packetTrains = Capabilities(rawValue: 4)

    public static let encodedSize = 4
    private static let tag: UInt8 = 0xc1

    /// Writes ``encodedSize`` bytes.
    public func write(to bytes: UnsafeMutableRawPointer) {
        bytes.storeBytes(of: Self.tag, as: UInt8.self)
        bytes.storeBytes(of: 1, toByteOffset: 1, as: UInt8.self)
        bytes.storeBytes(of: rawValue.littleEndian, toByteOffset: 2, as: UInt16.self)
    }

    /// From the whole body of an AUTH or AUTH_OK; empty for a stock peer's.
    public init(body: UnsafeRawBufferPointer) {
        self.init(rawValue: 0)
        guard body.count >= 2 + Self.encodedSize, body[2] == Self.tag, body[3] == 1 else { return }
        self.init(rawValue: body.word(4))
    }
}

/// What a receiver has seen of a link's present flow: the body of a KEEPALIVE. 0xC2, 1 (format), then the fields.
public struct ReceiverReport: Equatable, Sendable, BitwiseCopyable {
    /// The highest sequence number that came.
    public var highestSequence: UInt64
    /// Authenticated datagrams and their UDP payload bytes since the flow began.
    public var packets: UInt64
    public var bytes: UInt64
    /// Receiver's clock when the last of them came, microseconds mod 2^32.
    public var time: UInt32
    /// Receiver's clock less the sender's timestamp, ms mod 65536, of the last datagram and the least since the report
    /// before: only differences mean anything.
    public var delay: UInt16
    public var minimumDelay: UInt16

    public static let encodedSize = 34
    private static let tag: UInt8 = 0xc2

    public init(
        highestSequence: UInt64, packets: UInt64, bytes: UInt64, time: UInt32, delay: UInt16, minimumDelay: UInt16
    ) {
        self.highestSequence = highestSequence
        self.packets = packets
        self.bytes = bytes
        self.time = time
        self.delay = delay
        self.minimumDelay = minimumDelay
    }

    /// Writes ``encodedSize`` bytes.
    public func write(to out: UnsafeMutableRawPointer) {
        out.storeBytes(of: Self.tag, as: UInt8.self)
        out.storeBytes(of: 1, toByteOffset: 1, as: UInt8.self)
        out.storeBytes(of: highestSequence.littleEndian, toByteOffset: 2, as: UInt64.self)
        out.storeBytes(of: packets.littleEndian, toByteOffset: 10, as: UInt64.self)
        out.storeBytes(of: bytes.littleEndian, toByteOffset: 18, as: UInt64.self)
        out.storeBytes(of: time.littleEndian, toByteOffset: 26, as: UInt32.self)
        out.storeBytes(of: delay.littleEndian, toByteOffset: 30, as: UInt16.self)
        out.storeBytes(of: minimumDelay.littleEndian, toByteOffset: 32, as: UInt16.self)
    }

    /// Whether a KEEPALIVE's body begins with one.
    static func isFirst(in body: UnsafeRawBufferPointer) -> Bool {
        body.count >= encodedSize && body[0] == tag && body[1] == 1
    }

    /// From the body of a KEEPALIVE; nil when it carries none.
    public init?(body: UnsafeRawBufferPointer) {
        guard Self.isFirst(in: body) else { return nil }
        highestSequence = body.word(2)
        packets = body.word(10)
        bytes = body.word(18)
        time = body.word(26)
        delay = body.word(30)
        minimumDelay = body.word(32)
    }
}

/// Says that a link rests: what was sent on it before is all, until it carries DATA again. In the body of a KEEPALIVE, alone
/// or behind a report: 0xC3, 1 (format).
public enum RestNotice {
    public static let encodedSize = 2
    private static let tag: UInt8 = 0xc3

    /// Writes ``encodedSize`` bytes.
    public static func write(to out: UnsafeMutableRawPointer) {
        out.storeBytes(of: tag, as: UInt8.self)
        out.storeBytes(of: 1, toByteOffset: 1, as: UInt8.self)
    }

    /// Whether the body of a KEEPALIVE has one.
    public static func isIn(body: UnsafeRawBufferPointer) -> Bool {
        let start = ReceiverReport.isFirst(in: body) ? ReceiverReport.encodedSize : 0
        return body.count >= start + encodedSize && body[start] == tag && body[start + 1] == 1
    }
}

/// One datagram of a packet train: datagrams of one size, sent at once, whose distances on arrival tell how fast the line
/// is. The body of a KEEPALIVE: 0xC4, 1 (format), the fields, and anything for the size.
public struct TrainPlace: Equatable, Sendable, BitwiseCopyable {
    /// Tells trains apart, mod 256.
    public var train: UInt8
    /// From 0, of `count`.
    public var place: UInt8
    public var count: UInt8

    public static let encodedSize = 5
    private static let tag: UInt8 = 0xc4

    public init(train: UInt8, place: UInt8, count: UInt8) {
        self.train = train
        self.place = place
        self.count = count
    }

    /// Writes ``encodedSize`` bytes.
    public func write(to out: UnsafeMutableRawPointer) {
        for (offset, byte) in [Self.tag, 1, train, place, count].enumerated() {
            out.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
        }
    }

    /// From the body of a KEEPALIVE; nil when it is none of a train, or no place in one.
    public init?(body: UnsafeRawBufferPointer) {
        guard body.count >= Self.encodedSize, body[0] == Self.tag, body[1] == 1, body[3] < body[4] else { return nil }
        self.init(train: body[2], place: body[3], count: body[4])
    }
}

/// What became of a packet train. The body of a KEEPALIVE: 0xC5, 1 (format), then the fields.
public struct TrainResult: Equatable, Sendable, BitwiseCopyable {
    public var train: UInt8
    /// Datagrams that came.
    public var received: UInt8
    /// Nanoseconds from one datagram to the next, fitted to the first half of the train and to the second; 0: too few
    /// came, or all at once.
    public var firstGap: UInt32
    public var lastGap: UInt32
    /// Standard error of the latter.
    public var gapError: UInt32

    public static let encodedSize = 16
    private static let tag: UInt8 = 0xc5

    public init(train: UInt8, received: UInt8, firstGap: UInt32, lastGap: UInt32, gapError: UInt32) {
        self.train = train
        self.received = received
        self.firstGap = firstGap
        self.lastGap = lastGap
        self.gapError = gapError
    }

    /// Writes ``encodedSize`` bytes.
    public func write(to out: UnsafeMutableRawPointer) {
        out.storeBytes(of: Self.tag, as: UInt8.self)
        out.storeBytes(of: 1, toByteOffset: 1, as: UInt8.self)
        out.storeBytes(of: train, toByteOffset: 2, as: UInt8.self)
        out.storeBytes(of: received, toByteOffset: 3, as: UInt8.self)
        out.storeBytes(of: firstGap.littleEndian, toByteOffset: 4, as: UInt32.self)
        out.storeBytes(of: lastGap.littleEndian, toByteOffset: 8, as: UInt32.self)
        out.storeBytes(of: gapError.littleEndian, toByteOffset: 12, as: UInt32.self)
    }

    /// From the body of a KEEPALIVE; nil when it carries none.
    public init?(body: UnsafeRawBufferPointer) {
        guard body.count >= Self.encodedSize, body[0] == Self.tag, body[1] == 1 else { return nil }
        self.init(
            train: body[2], received: body[3], firstGap: body.word(4), lastGap: body.word(8), gapError: body.word(12))
    }
}

extension UnsafeRawBufferPointer {
    /// A little-endian integer that begins at an offset.
    fileprivate func word<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int) -> T {
        T(littleEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
    }
}
