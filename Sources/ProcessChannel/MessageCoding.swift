/// A message that does not decode. The channel that carried it is not to be trusted any more.
public struct MalformedMessage: Error, Equatable, Sendable, CustomStringConvertible {
    public var what: String
    public init(_ what: String) { self.what = what }
    public var description: String { "malformed message: \(what)" }
}

/// Appends fields to a message: integers little endian, byte strings behind a 32-bit length.
public struct MessageWriter: ~Copyable {
    public private(set) var bytes: [UInt8] = []

    public init(kind: UInt8) { bytes.append(kind) }

    public mutating func integer<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    public mutating func boolean(_ value: Bool) { bytes.append(value ? 1 : 0) }

    public mutating func byteString(_ value: some Collection<UInt8>) {
        integer(UInt32(value.count))
        bytes.append(contentsOf: value)
    }

    public mutating func text(_ value: some StringProtocol) { byteString(Array(value.utf8)) }

    public mutating func optional<T>(_ value: T?, _ write: (inout MessageWriter, T) -> Void) {
        boolean(value != nil)
        if let value { write(&self, value) }
    }

    public mutating func list<T>(_ values: some Collection<T>, _ write: (inout MessageWriter, T) -> Void) {
        integer(UInt32(values.count))
        for value in values { write(&self, value) }
    }
}

/// Takes fields off a message, in the order in which they were written; every length is checked against what is there.
public struct MessageReader: ~Copyable {
    private let bytes: [UInt8]
    private var offset = 1
    /// The first byte: which message it is.
    public let kind: UInt8

    public init(_ bytes: [UInt8]) throws(MalformedMessage) {
        guard let first = bytes.first else { throw MalformedMessage("empty") }
        kind = first
        self.bytes = bytes
    }

    public mutating func integer<T: FixedWidthInteger>(_ type: T.Type = T.self) throws(MalformedMessage) -> T {
        let size = MemoryLayout<T>.size
        guard bytes.count - offset >= size else { throw MalformedMessage("kind \(kind) ends inside an integer") }
        let value = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: T.self) }
        offset += size
        return T(littleEndian: value)
    }

    public mutating func boolean() throws(MalformedMessage) -> Bool {
        switch try integer(UInt8.self) {
        case 0: return false
        case 1: return true
        case let other: throw MalformedMessage("kind \(kind) has \(other) for a boolean")
        }
    }

    public mutating func byteString() throws(MalformedMessage) -> [UInt8] {
        let count = Int(try integer(UInt32.self))
        guard bytes.count - offset >= count else { throw MalformedMessage("kind \(kind) ends inside a string") }
        defer { offset += count }
        return Array(bytes[offset..<offset + count])
    }

    public mutating func text() throws(MalformedMessage) -> String {
        guard let text = String(validating: try byteString(), as: UTF8.self) else {
            throw MalformedMessage("kind \(kind) has text that is not UTF-8")
        }
        return text
    }

    public mutating func optional<T>(
        _ read: (inout MessageReader) throws(MalformedMessage) -> T
    ) throws(MalformedMessage) -> T? {
        try boolean() ? try read(&self) : nil
    }

    public mutating func list<T>(
        _ read: (inout MessageReader) throws(MalformedMessage) -> T
    ) throws(MalformedMessage) -> [T] {
        let count = Int(try integer(UInt32.self))
        // Every element takes a byte at least: a count that cannot be true reserves nothing.
        guard count <= bytes.count - offset else { throw MalformedMessage("kind \(kind) claims \(count) elements") }
        var values: [T] = []
        values.reserveCapacity(count)
        for _ in 0..<count { values.append(try read(&self)) }
        return values
    }

    public consuming func finish() throws(MalformedMessage) {
        guard offset == bytes.count else {
            throw MalformedMessage("kind \(kind) has \(bytes.count - offset) bytes too many")
        }
    }
}
