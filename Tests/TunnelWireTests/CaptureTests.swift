import Testing
import TunnelCrypto
import TunnelWire

/// The layout and the cipher against what the reference implementation put on the wire.
@Suite("Captured datagrams")
struct CaptureTests {
    private let capture: Capture
    private let cipher: SessionCipher

    init() throws {
        try #require(SessionCipher.start())
        capture = try Capture.load()
        cipher = SessionCipher(password: Array(capture.password.utf8))
        try #require(capture.datagrams.count == 76)
    }

    @Test func `the key is that of the password`() {
        #expect(SessionCipher(key: unhex(capture.key)).fingerprint == cipher.fingerprint)
    }

    @Test func `every header decodes to the fields captured`() throws {
        for entry in capture.datagrams {
            let (header, type) = try parse(entry.bytes)
            #expect("\(type)" == (entry.type == "auth_ok" ? "authOK" : entry.type))
            #expect(header.version == entry.version)
            #expect(header.reorder == (entry.reorder == 1))
            #expect(header.unusedBits == entry.unused)
            #expect(header.length == entry.len)
            #expect(header.timestamp == entry.timestamp)
            #expect(header.timestampReply == entry.timestampReply)
            #expect(header.flowID == entry.flowID)
            #expect(header.sequence == entry.seq)
            #expect(header.dataSequence == entry.dataSeq)
        }
    }

    @Test func `every body opens to the plaintext captured`() throws {
        for entry in capture.datagrams {
            var bytes = entry.bytes
            let (header, type) = try parse(bytes)
            guard entry.isEncrypted else {
                #expect(type == .data)
                #expect(Array(bytes[28...]) == entry.plaintext)
                continue
            }
            let isOpened = bytes.withUnsafeMutableBytes {
                cipher.open(
                    $0.baseAddress! + 28, count: Int(header.length), flowID: header.flowID, sequence: header.sequence)
            }
            #expect(isOpened)
            #expect(Array(bytes[44...]) == entry.plaintext)
            if type != .data { #expect(entry.plaintext.withUnsafeBytes { ControlBody.isPlausible(type, $0) }) }
        }
    }

    @Test func `every datagram encodes back byte for byte`() throws {
        for entry in capture.datagrams {
            let (_, type) = try parse(entry.bytes)
            let header = DatagramHeader(
                type: type, reorder: entry.reorder == 1, length: entry.len, timestamp: entry.timestamp,
                timestampReply: entry.timestampReply, flowID: entry.flowID, sequence: entry.seq,
                dataSequence: entry.dataSeq)
            var bytes = [UInt8](repeating: 0xee, count: 28 + Int(entry.len))
            let plaintext = entry.plaintext
            bytes.withUnsafeMutableBytes { out in
                header.write(to: out.baseAddress!)
                let body = out.baseAddress! + 28
                plaintext.withUnsafeBytes { text in
                    if entry.isEncrypted {
                        cipher.seal(
                            text.baseAddress ?? UnsafeRawPointer(body), count: text.count, to: body,
                            flowID: entry.flowID, sequence: entry.seq)
                    } else {
                        body.copyMemory(from: text.baseAddress!, byteCount: text.count)
                    }
                }
            }
            #expect(bytes == entry.bytes)
        }
    }

    @Test func `no encrypted body opens after any bit of it changed`() throws {
        for entry in capture.datagrams where entry.isEncrypted && entry.bytes.count < 128 {
            let original = entry.bytes
            let (header, _) = try parse(original)
            for bit in 0..<8 * Int(header.length) {
                var bytes = original
                bytes[28 + bit / 8] ^= 1 << UInt8(bit & 7)
                let changed = bytes
                let isOpened = bytes.withUnsafeMutableBytes {
                    cipher.open(
                        $0.baseAddress! + 28, count: Int(header.length), flowID: header.flowID,
                        sequence: header.sequence)
                }
                #expect(!isOpened)
                #expect(bytes == changed, "a body that is refused stays as it was")
            }
        }
    }

    private func parse(_ bytes: [UInt8]) throws -> (header: DatagramHeader, type: DatagramType) {
        try bytes.withUnsafeBytes { try Datagram.parse($0) }
    }
}
