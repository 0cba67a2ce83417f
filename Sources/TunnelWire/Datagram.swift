/// Limits of a datagram, and where its parts lie.
public enum Datagram {
    /// UDP payload that the reference peer reads at most.
    public static let maximumSize = 1500
    /// In front of an encrypted body.
    public static let macSize = 16
    /// Header and MAC: what encryption adds to an inner packet.
    public static let overhead = DatagramHeader.size + macSize
    /// What fits into an encrypted body.
    public static let maximumPlaintext = maximumSize - overhead

    /// Why bytes are no datagram.
    public enum Malformation: Error, Equatable, Sendable {
        /// Fewer than 28 bytes.
        case shorterThanHeader
        /// Length 0 or above 1500, or other than the bytes that came.
        case lengthMismatch
        /// A type that version 1 does not know.
        case unknownType
    }

    /// A header whose body is as long as it says: `bytes` from 28 on.
    @inlinable
    public static func parse(
        _ bytes: UnsafeRawBufferPointer
    ) throws(Malformation) -> (header: DatagramHeader, type: DatagramType) {
        guard let base = bytes.baseAddress, bytes.count >= DatagramHeader.size else { throw .shorterThanHeader }
        let header = DatagramHeader(reading: base)
        guard header.length > 0, header.length <= maximumSize,
            Int(header.length) == bytes.count - DatagramHeader.size
        else { throw .lengthMismatch }
        guard let type = header.type else { throw .unknownType }
        return (header, type)
    }
}

/// Control bodies that stock peers send and expect (wire-v1.md, Datagram and Extensions).
public enum ControlBody {
    /// `AU`, little endian.
    public static let auth: UInt16 = 0x5541
    /// `OK`, little endian.
    public static let authOK: UInt16 = 0x4b4f

    /// Whether a plaintext may be the body of a control message of this type: AUTH and AUTH_OK begin with their two
    /// bytes, DISCONNECT is empty, and no other body begins like an IP packet, whose type bits somebody may have changed.
    @inlinable
    public static func isPlausible(_ type: DatagramType, _ body: UnsafeRawBufferPointer) -> Bool {
        switch type {
        case .auth: return begins(body, with: auth)
        case .authOK: return begins(body, with: authOK)
        case .disconnect: return body.isEmpty
        case .keepalive:
            guard let first = body.first else { return true }
            return first >> 4 != 4 && first >> 4 != 6
        case .data: return false
        }
    }

    @usableFromInline
    static func begins(_ body: UnsafeRawBufferPointer, with word: UInt16) -> Bool {
        body.count >= 2 && UInt16(littleEndian: body.loadUnaligned(as: UInt16.self)) == word
    }
}
