import CSodium
import Testing
import TunnelCrypto

@Suite("Session cipher")
struct SessionCipherTests {
    private let cipher: SessionCipher

    init() throws {
        try #require(SessionCipher.start())
        cipher = SessionCipher(password: Array("correct horse battery staple".utf8))
    }

    @Test func `a body shorter than its MAC does not open`() {
        for count in 0..<16 {
            var body = [UInt8](repeating: 0, count: 16)
            #expect(!open(&body, count: count, flowID: 1, sequence: 1))
        }
    }

    @Test func `zeros do not open`() {
        var body = [UInt8](repeating: 0, count: 64)
        #expect(!open(&body, flowID: 0, sequence: 0))
    }

    @Test func `a truncated body does not open`() {
        let sealed = seal(Array(0..<40), flowID: 7, sequence: 9)
        for count in 0..<sealed.count {
            var body = sealed
            #expect(!open(&body, count: count, flowID: 7, sequence: 9))
            #expect(body == sealed)
        }
    }

    @Test func `another flow or sequence does not open`() {
        let sealed = seal(Array(0..<40), flowID: 7, sequence: 9)
        for bit in 0..<32 {
            var body = sealed
            #expect(!open(&body, flowID: 7 ^ 1 << UInt32(bit), sequence: 9))
        }
        for bit in 0..<64 {
            var body = sealed
            #expect(!open(&body, flowID: 7, sequence: 9 ^ 1 << UInt64(bit)))
        }
    }

    @Test func `another password does not open, and has another fingerprint`() {
        for password in ["", "correct horse battery stapl", "correct horse battery staple ", "Correct"] {
            let other = SessionCipher(password: Array(password.utf8))
            var body = seal([1, 2, 3], flowID: 1, sequence: 2)
            let isOpened = body.withUnsafeMutableBytes {
                other.open($0.baseAddress!, count: 19, flowID: 1, sequence: 2)
            }
            #expect(!isOpened)
            #expect(other.fingerprint != cipher.fingerprint)
        }
    }

    @Test func `the key is BLAKE2b-256 of the password`() {
        // hashlib.blake2b(b"correct horse battery staple", digest_size=32)
        let key = unhex("1cd1ac1f211efb5617308d74d14cf5de87ba9fbf7df646113223c1e0fa26d7e9")
        #expect(SessionCipher(key: key).fingerprint == cipher.fingerprint)
        var body = seal(Array(0..<100), flowID: 3, sequence: 4)
        let isOpened = body.withUnsafeMutableBytes {
            SessionCipher(key: key).open($0.baseAddress!, count: 116, flowID: 3, sequence: 4)
        }
        #expect(isOpened)
    }

    @Test func `a body of every length comes back`() {
        for count in 0...200 {
            let plaintext = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            var body = seal(plaintext, flowID: 0xffff_ffff, sequence: .max - UInt64(count))
            #expect(body.count == count + 16)
            #expect(open(&body, flowID: 0xffff_ffff, sequence: .max - UInt64(count)))
            #expect(Array(body[16...]) == plaintext)
        }
    }

    @Test func `a body is what crypto_secretbox makes`() {
        let key = [UInt8](repeating: 0x42, count: 32)
        let cipher = SessionCipher(key: key)
        for count in 0...SessionCipher.maximumPlaintext {
            let plaintext = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ count) }
            let sequence = 0x1122_3344_5566_7700 + UInt64(count)
            // wire-v1.md, Crypto: sequence and flow_id, little endian, and 12 zero bytes.
            let nonce =
                (0..<8).map { UInt8(truncatingIfNeeded: sequence >> ($0 * 8)) } + [0xd4, 0xc3, 0xb2, 0xa1]
                + [UInt8](repeating: 0, count: 12)
            var expected = [UInt8](repeating: 0, count: count + 16)
            crypto_secretbox_easy(&expected, plaintext, UInt64(count), nonce, key)
            var body = [UInt8](repeating: 0xee, count: count + 16)
            body.withUnsafeMutableBytes { out in
                plaintext.withUnsafeBytes {
                    cipher.seal(
                        $0.baseAddress ?? UnsafeRawPointer(out.baseAddress!), count: count, to: out.baseAddress!,
                        flowID: 0xa1b2_c3d4, sequence: sequence)
                }
            }
            #expect(body == expected)
        }
    }

    @Test func `with room around, the same comes out, and nothing else is touched`() {
        let (front, back) = (SessionCipher.headroom, SessionCipher.tailroom)
        for count in 0...SessionCipher.maximumPlaintext {
            let plaintext = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 17 &+ count) }
            let expected = seal(plaintext, flowID: 9, sequence: UInt64(count))
            let fence = [UInt8](repeating: 0x77, count: 8)
            var text = fence + [UInt8](repeating: 1, count: front) + plaintext
            text += [UInt8](repeating: 2, count: back) + fence
            var body = fence + [UInt8](repeating: 3, count: 16 + count + 16 + back) + fence
            text.withUnsafeMutableBytes { text in
                body.withUnsafeMutableBytes { body in
                    cipher.sealRoomy(
                        text.baseAddress! + 8 + front, count: count, to: body.baseAddress! + 8 + 16, flowID: 9,
                        sequence: UInt64(count))
                }
            }
            #expect(Array(text[(8 + front)..<(8 + front + count)]) == plaintext)
            #expect(Array(body[24..<(40 + count)]) == expected)
            #expect(body.prefix(8) == fence[...] && body.suffix(8) == fence[...])

            let sealed = body
            for isForged in [true, false] {
                body = sealed
                if isForged { body[24 + count / 2] ^= 0x10 }
                let before = body
                let isOpened = text.withUnsafeMutableBytes { text in
                    body.withUnsafeMutableBytes { body in
                        cipher.openRoomy(
                            body.baseAddress! + 24, count: count + 16, to: text.baseAddress! + 8 + front, flowID: 9,
                            sequence: UInt64(count))
                    }
                }
                #expect(isOpened != isForged)
                #expect(body == before)
                #expect(text.prefix(8) == fence[...] && text.suffix(8) == fence[...])
                if isOpened { #expect(Array(text[(8 + front)..<(8 + front + count)]) == plaintext) }
            }
        }
    }

    @Test func `a body longer than any datagram's does not open`() {
        var body = [UInt8](repeating: 0, count: SessionCipher.maximumPlaintext + 17)
        #expect(!open(&body, flowID: 1, sequence: 1))
    }

    @Test func `sealing in place gives the same bytes`() {
        let plaintext = [UInt8](0..<77)
        var body = [UInt8](repeating: 0, count: 16) + plaintext
        body.withUnsafeMutableBytes {
            cipher.seal($0.baseAddress! + 16, count: 77, to: $0.baseAddress!, flowID: 5, sequence: 6)
        }
        #expect(body == seal(plaintext, flowID: 5, sequence: 6))
    }

    private func seal(_ plaintext: [UInt8], flowID: UInt32, sequence: UInt64) -> [UInt8] {
        var body = [UInt8](repeating: 0xee, count: plaintext.count + 16)
        body.withUnsafeMutableBytes { out in
            plaintext.withUnsafeBytes {
                cipher.seal(
                    $0.baseAddress ?? UnsafeRawPointer(out.baseAddress!), count: plaintext.count,
                    to: out.baseAddress!, flowID: flowID, sequence: sequence)
            }
        }
        return body
    }

    private func open(_ body: inout [UInt8], count: Int? = nil, flowID: UInt32, sequence: UInt64) -> Bool {
        let count = count ?? body.count
        return body.withUnsafeMutableBytes {
            cipher.open($0.baseAddress!, count: count, flowID: flowID, sequence: sequence)
        }
    }

    private func unhex(_ text: String) -> [UInt8] {
        let digits = text.utf8.map { $0 < 0x3a ? $0 - 0x30 : $0 - 0x57 }
        return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }
}
