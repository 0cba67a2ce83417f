/// The 28 bytes in front of every datagram (wire-v1.md, Datagram).
///
/// Reading never fails: what a header means, and whether its body is as long as it says, is ``Datagram/parse(_:)``.
@frozen
public struct DatagramHeader: Equatable, Sendable, BitwiseCopyable {
    /// Bytes that follow the header, MAC included.
    public var length: UInt16
    /// The flags word as it stands on the wire: version, type, reorder and unused bits.
    public var flags: UInt16
    /// The sender's clock, ms mod 65536; never 65535.
    public var timestamp: UInt16
    /// The receiver's last timestamp, advanced by how long it was held; ``noTimestamp`` for none.
    public var timestampReply: UInt16
    /// Random per link and start of the sender.
    public var flowID: UInt32
    /// Per link, +1 for each datagram.
    public var sequence: UInt64
    /// Per tunnel, +1 for each datagram that is to be reordered.
    public var dataSequence: UInt64

    public static let size = 28
    public static let noTimestamp: UInt16 = 0xffff
    public static let currentVersion: UInt8 = 1

    @inlinable
    public init(
        type: DatagramType, reorder: Bool, length: UInt16, timestamp: UInt16, timestampReply: UInt16, flowID: UInt32,
        sequence: UInt64, dataSequence: UInt64
    ) {
        self.length = length
        flags = UInt16(Self.currentVersion) | UInt16(type.rawValue) << 4 | (reorder ? Self.reorderBit : 0)
        self.timestamp = timestamp
        self.timestampReply = timestampReply
        self.flowID = flowID
        self.sequence = sequence
        self.dataSequence = dataSequence
    }

    /// Reads ``size`` bytes.
    @inlinable
    public init(reading bytes: UnsafeRawPointer) {
        length = UInt16(bigEndian: bytes.loadUnaligned(as: UInt16.self))
        flags = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        timestamp = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self))
        timestampReply = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 6, as: UInt16.self))
        flowID = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
        sequence = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 12, as: UInt64.self))
        dataSequence = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 20, as: UInt64.self))
    }

    /// Writes ``size`` bytes.
    @inlinable
    public func write(to bytes: UnsafeMutableRawPointer) {
        bytes.storeBytes(of: length.bigEndian, as: UInt16.self)
        bytes.storeBytes(of: flags.littleEndian, toByteOffset: 2, as: UInt16.self)
        bytes.storeBytes(of: timestamp.bigEndian, toByteOffset: 4, as: UInt16.self)
        bytes.storeBytes(of: timestampReply.bigEndian, toByteOffset: 6, as: UInt16.self)
        bytes.storeBytes(of: flowID.bigEndian, toByteOffset: 8, as: UInt32.self)
        bytes.storeBytes(of: sequence.bigEndian, toByteOffset: 12, as: UInt64.self)
        bytes.storeBytes(of: dataSequence.bigEndian, toByteOffset: 20, as: UInt64.self)
    }

    @usableFromInline static let reorderBit: UInt16 = 1 << 10

    /// 0 (MLVPN 2.0 and 2.1) or 1; others are read as 1.
    @inlinable public var version: UInt8 { UInt8(flags & 0xf) }

    /// Nil for a number that version 1 does not know.
    @inlinable public var type: DatagramType? { DatagramType(rawValue: UInt8(flags >> 4 & 0x3f)) }

    /// Whether ``dataSequence`` counts. Version 0 leaves both without meaning.
    @inlinable public var reorder: Bool { flags & Self.reorderBit != 0 && version != 0 }

    /// Bits 11 to 15, zero in version 1.
    @inlinable public var unusedBits: UInt8 { UInt8(flags >> 11) }
}

/// What a datagram carries (wire-v1.md, Datagram).
@frozen
public enum DatagramType: UInt8, Sendable, CaseIterable {
    case auth = 0
    case authOK = 1
    case keepalive = 2
    case data = 3
    case disconnect = 4
}
