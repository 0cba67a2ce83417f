import CLinux

/// A netlink request while it is put together, and what takes answers apart: headers and attributes in host byte order,
/// each padded to 4 bytes (netlink(7)).
struct NetlinkMessage {
    private var bytes: [UInt8] = []
    private let flags: Int32

    init(type: Int, flags: Int) {
        let flags = Int32(flags | CLINUX_NLM_F_REQUEST)
        self.flags = flags
        append(UInt32(0))
        append(UInt16(type))
        append(UInt16(flags))
        append(UInt32(0))
        append(UInt32(0))
    }

    var isDump: Bool { flags & Int32(CLINUX_NLM_F_DUMP) == Int32(CLINUX_NLM_F_DUMP) }
    var wantsAcknowledgement: Bool { flags & Int32(CLINUX_NLM_F_ACK) != 0 }

    mutating func append(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) }
    }

    mutating func append(_ value: [UInt8]) { bytes += value }

    mutating func attribute(_ type: Int, _ value: UInt32) {
        attribute(type, bytes: withUnsafeBytes(of: value, Array.init))
    }

    mutating func attribute(_ type: Int, text: String) { attribute(type, bytes: Array(text.utf8) + [0]) }

    mutating func attribute(_ type: Int, bytes value: [UInt8]) {
        append(UInt16(4 + value.count))
        append(UInt16(type))
        bytes += value
        while bytes.count % 4 != 0 { bytes.append(0) }
    }

    /// The request as it is sent.
    func finished(sequence: UInt32) -> [UInt8] {
        var copy = bytes
        copy.withUnsafeMutableBytes {
            $0.storeBytes(of: UInt32($0.count), as: UInt32.self)
            $0.storeBytes(of: sequence, toByteOffset: 8, as: UInt32.self)
        }
        return copy
    }

    // MARK: Answers

    struct Part {
        var type: UInt16
        var flags: UInt16
        var sequence: UInt32
        var payload: ArraySlice<UInt8>
    }

    /// The messages in what was received, up to the first that does not hold together.
    static func messages(in bytes: ArraySlice<UInt8>) -> [Part] {
        var parts: [Part] = []
        var rest = bytes
        while rest.count >= 16 {
            let start = rest.startIndex
            let length = Int(number(rest.prefix(4)) ?? 0)
            guard length >= 16, length <= rest.count else { break }
            parts.append(
                Part(
                    type: UInt16(rest[start + 4]) | UInt16(rest[start + 5]) << 8,
                    flags: UInt16(rest[start + 6]) | UInt16(rest[start + 7]) << 8,
                    sequence: number(rest[(start + 8)..<(start + 12)]) ?? 0,
                    payload: rest[(start + 16)..<(start + length)]))
            rest = rest.dropFirst((length + 3) & ~3)
        }
        return parts
    }

    /// The attributes behind `offset` bytes, up to the first that does not hold together.
    static func attributes(of payload: ArraySlice<UInt8>, from offset: Int) -> [(type: Int, value: ArraySlice<UInt8>)] {
        var found: [(type: Int, value: ArraySlice<UInt8>)] = []
        var rest = payload.dropFirst(offset)
        while rest.count >= 4 {
            let start = rest.startIndex
            let length = Int(rest[start]) | Int(rest[start + 1]) << 8
            // The two highest bits say how the value is nested.
            let type = Int(UInt16(rest[start + 2]) | UInt16(rest[start + 3]) << 8) & 0x3fff
            guard length >= 4, length <= rest.count else { break }
            found.append((type, rest[(start + 4)..<(start + length)]))
            rest = rest.dropFirst((length + 3) & ~3)
        }
        return found
    }

    /// Four bytes as a number.
    static func number(_ bytes: ArraySlice<UInt8>) -> UInt32? {
        guard bytes.count >= 4 else { return nil }
        return bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
    }

    /// Why the kernel refused, in its own words (NETLINK_EXT_ACK); empty when it gave none.
    static func explanation(of part: Part) -> String {
        guard part.flags & UInt16(CLINUX_NLM_F_ACK_TLVS) != 0 else { return "" }
        // The error, then the request's header; the request itself only when it was not capped.
        var offset = 4 + 16
        if part.flags & UInt16(CLINUX_NLM_F_CAPPED) == 0 {
            let length = Int(number(part.payload.dropFirst(4).prefix(4)) ?? 16)
            offset = 4 + ((max(16, length) + 3) & ~3)
        }
        for (type, value) in attributes(of: part.payload, from: offset) where type == CLINUX_NLMSGERR_ATTR_MSG {
            return "the kernel says: " + String(decoding: value.prefix { $0 != 0 }, as: UTF8.self)
        }
        return ""
    }
}
