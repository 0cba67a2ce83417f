import CSodium

/// Seals and opens datagram bodies: the seam at which a session's cipher is chosen (wire-v1.md, Crypto).
///
/// Version 1 has one: XSalsa20-Poly1305 under a key of BLAKE2b-256(password). Safe from any thread once `start` has run.
@frozen
public struct SessionCipher: BitwiseCopyable, Sendable {
    @usableFromInline var key: (UInt64, UInt64, UInt64, UInt64)

    /// libsodium must be started once per process; false when it cannot be.
    public static func start() -> Bool { sodium_init() >= 0 }

    /// The tunnel's key, from its password's bytes.
    public init(password: [UInt8]) {
        var digest = [UInt8](repeating: 0, count: 32)
        _ = crypto_generichash(&digest, 32, password, UInt64(password.count), nil, 0)
        self.init(key: digest)
    }

    /// 32 bytes of key.
    public init(key bytes: [UInt8]) {
        precondition(bytes.count == 32, "a key has 32 bytes")
        key = bytes.withUnsafeBytes { $0.loadUnaligned(as: (UInt64, UInt64, UInt64, UInt64).self) }
    }

    /// Names the key without giving it away: for noticing that it changed.
    public var fingerprint: UInt64 {
        var digest = [UInt8](repeating: 0, count: 16)
        let context: [UInt8] = Array("mlvpn key fingerprint".utf8)
        let message = withUnsafeBytes(of: key) { Array($0) }
        _ = crypto_generichash(&digest, 16, message, UInt64(message.count), context, context.count)
        return digest.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
    }

    /// The longest plaintext; no datagram holds more (wire-v1.md, Datagram).
    public static let maximumPlaintext = 1504

    /// What ``sealRoomy(_:count:to:flowID:sequence:)`` and ``openRoomy(_:count:to:flowID:sequence:)`` use in front of a
    /// plaintext, and the most that they read and write behind it and behind a body.
    public static let headroom = 32
    public static let tailroom = 511

    /// Encrypts `count` bytes at `plaintext` to `body`: 16 bytes of MAC, then the ciphertext. The two may not overlap
    /// unless `plaintext` is `body + 16`. A pair (flowID, sequence) is used once in the life of a key.
    public func seal(
        _ plaintext: UnsafeRawPointer, count: Int, to body: UnsafeMutableRawPointer, flowID: UInt32, sequence: UInt64
    ) {
        withScratch { scratch in
            let text = scratch + Self.headroom
            text.copyMemory(from: plaintext, byteCount: count)
            var macKey = combine(text, count: count, to: text, flowID, sequence)
            authenticate(text, count: count, &macKey, to: body)
            (body + 16).copyMemory(from: text, byteCount: count)
        }
    }

    /// Decrypts `count` bytes of body (MAC first) in place: the plaintext stands at `body + 16`. False when the MAC is
    /// wrong, or the body too short for one or longer than any; the bytes are then unchanged.
    public func open(_ body: UnsafeMutableRawPointer, count: Int, flowID: UInt32, sequence: UInt64) -> Bool {
        let count = count - 16
        guard count >= 0, count <= Self.maximumPlaintext else { return false }
        return withScratch { scratch in
            let text = scratch + Self.headroom
            text.copyMemory(from: body + 16, byteCount: count)
            var macKey = combine(text, count: count, to: text, flowID, sequence)
            guard verify(body, body + 16, count: count, &macKey) else { return false }
            (body + 16).copyMemory(from: text, byteCount: count)
            return true
        }
    }

    /// The same as ``seal(_:count:to:flowID:sequence:)`` without copying, for who has room around: overwrites
    /// ``headroom`` bytes in front of the plaintext and 16 in front of the body, reads ``tailroom`` bytes behind the one
    /// and overwrites as many behind the other, which lies elsewhere.
    public func sealRoomy(
        _ plaintext: UnsafeMutableRawPointer, count: Int, to body: UnsafeMutableRawPointer, flowID: UInt32,
        sequence: UInt64
    ) {
        var macKey = combine(plaintext, count: count, to: body + 16, flowID, sequence)
        authenticate(body + 16, count: count, &macKey, to: body)
    }

    /// Decrypts `count` bytes of body (MAC first) to `plaintext`, which lies elsewhere, with ``headroom`` bytes in front
    /// and ``tailroom`` behind that are overwritten, as many being read behind the body. Needs 16 bytes in front of the
    /// body and leaves them and the body as they were. False when the MAC is wrong, or the body too short for one or longer
    /// than any: what then stands at `plaintext` is to be used for nothing.
    public func openRoomy(
        _ body: UnsafeMutableRawPointer, count: Int, to plaintext: UnsafeMutableRawPointer, flowID: UInt32,
        sequence: UInt64
    ) -> Bool {
        let count = count - 16
        guard count >= 0, count <= Self.maximumPlaintext else { return false }
        let before = (body - 16).loadUnaligned(as: Bytes32.self)
        var macKey = combine(body + 16, count: count, to: plaintext, flowID, sequence)
        (body - 16).storeBytes(of: before, as: Bytes32.self)
        return verify(body, body + 16, count: count, &macKey)
    }

    // crypto_secretbox, taken apart into the parts of libsodium that it is made of (XSalsa20 is Salsa20 under a key that
    // HSalsa20 makes of the key and 16 bytes of nonce; the first 32 bytes of the stream are the MAC's key). Its own order
    // of work costs a quarter more: it makes the first block by itself, and what is left after the last 512 bytes block by
    // block, where the vector code makes eight blocks in little more than the time of one. Here the stream is combined
    // with 32 zeros and the text in one call, rounded up to where that is cheaper.

    private typealias Bytes32 = SIMD4<UInt64>
    private typealias Scratch = InlineArray<192, UInt64>

    /// Combines what stands at `source` with the stream, to `target`; both begin ``headroom`` bytes earlier, where the
    /// source is zeroed and the target gets the MAC's key, which is returned.
    @inline(__always)
    private func combine(
        _ source: UnsafeMutableRawPointer, count: Int, to target: UnsafeMutableRawPointer, _ flowID: UInt32,
        _ sequence: UInt64
    ) -> Bytes32 {
        precondition(count >= 0 && count <= Self.maximumPlaintext, "a datagram's plaintext has at most 1504 bytes")
        let source = source - Self.headroom
        let target = target - Self.headroom
        source.storeBytes(of: Bytes32.zero, as: Bytes32.self)
        let needed = Self.headroom + count
        let length = needed & 511 <= 64 ? (needed + 63) & ~63 : (needed + 511) & ~511
        let nonce = (sequence.littleEndian, UInt64(flowID).littleEndian)
        var subkey = Bytes32.zero
        // The nonce's last 8 bytes are zero.
        let rest = UInt64(0)
        withUnsafeMutableBytes(of: &subkey) { subkey in
            // Each has a base: none is empty.
            let subkey = subkey.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self)
            withUnsafeBytes(of: nonce) { nonce in
                withUnsafeBytes(of: key) { key in
                    _ = crypto_core_hsalsa20(
                        subkey, nonce.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self),
                        key.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self), nil)
                }
            }
            withUnsafeBytes(of: rest) { rest in
                _ = crypto_stream_salsa20_xor(
                    target.assumingMemoryBound(to: UInt8.self), source.assumingMemoryBound(to: UInt8.self),
                    UInt64(length), rest.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self), subkey)
            }
        }
        return target.loadUnaligned(as: Bytes32.self)
    }

    @inline(__always)
    private func authenticate(
        _ ciphertext: UnsafeMutableRawPointer, count: Int, _ macKey: inout Bytes32, to mac: UnsafeMutableRawPointer
    ) {
        withUnsafeBytes(of: &macKey) {
            _ = crypto_onetimeauth_poly1305(
                mac.assumingMemoryBound(to: UInt8.self), ciphertext.assumingMemoryBound(to: UInt8.self), UInt64(count),
                $0.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self))
        }
    }

    @inline(__always)
    private func verify(
        _ mac: UnsafeMutableRawPointer, _ ciphertext: UnsafeMutableRawPointer, count: Int, _ macKey: inout Bytes32
    ) -> Bool {
        withUnsafeBytes(of: &macKey) {
            crypto_onetimeauth_poly1305_verify(
                mac.assumingMemoryBound(to: UInt8.self), ciphertext.assumingMemoryBound(to: UInt8.self), UInt64(count),
                $0.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self)) == 0
        }
    }

    /// Memory for a packet with room around.
    private func withScratch<R>(_ body: (UnsafeMutableRawPointer) -> R) -> R {
        var scratch = Scratch(repeating: 0)
        return withUnsafeMutableBytes(of: &scratch) { body($0.baseAddress.unsafelyUnwrapped) }
    }
}
