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

    /// Encrypts `count` bytes at `plaintext` to `body`: 16 bytes of MAC, then the ciphertext. The two may not overlap
    /// unless `plaintext` is `body + 16`. A pair (flowID, sequence) is used once in the life of a key.
    public func seal(
        _ plaintext: UnsafeRawPointer, count: Int, to body: UnsafeMutableRawPointer, flowID: UInt32, sequence: UInt64
    ) {
        precondition(count <= Self.maximumPlaintext, "a datagram's plaintext has at most 1504 bytes")
        withKeystream(for: count, flowID, sequence) { keystream in
            let ciphertext = body + 16
            Self.combine(plaintext, keystream + 32, into: ciphertext, count: count)
            _ = crypto_onetimeauth_poly1305(
                body.assumingMemoryBound(to: UInt8.self), ciphertext.assumingMemoryBound(to: UInt8.self), UInt64(count),
                keystream.assumingMemoryBound(to: UInt8.self))
        }
    }

    /// Decrypts `count` bytes of body (MAC first) in place: the plaintext stands at `body + 16`. False when the MAC is
    /// wrong, or the body too short for one or longer than any; the bytes are then unchanged.
    public func open(_ body: UnsafeMutableRawPointer, count: Int, flowID: UInt32, sequence: UInt64) -> Bool {
        let count = count - 16
        guard count >= 0, count <= Self.maximumPlaintext else { return false }
        return withKeystream(for: count, flowID, sequence) { keystream in
            let ciphertext = body + 16
            let verdict = crypto_onetimeauth_poly1305_verify(
                body.assumingMemoryBound(to: UInt8.self), ciphertext.assumingMemoryBound(to: UInt8.self), UInt64(count),
                keystream.assumingMemoryBound(to: UInt8.self))
            guard verdict == 0 else { return false }
            Self.combine(ciphertext, keystream + 32, into: ciphertext, count: count)
            return true
        }
    }

    // crypto_secretbox, taken apart into the parts of libsodium that it is made of (XSalsa20 is Salsa20 under a key that
    // HSalsa20 makes of the key and 16 bytes of nonce; the first 32 bytes of the stream are the MAC's key). Its own order
    // of work costs a fifth more: it makes the first block by itself, and what is left after the last 512 bytes block by
    // block, where the vector code makes eight blocks in little more than the time of one.

    /// What a packet's bytes are combined with: 32 bytes of key for the MAC, then at least `count` bytes of stream.
    private func withKeystream<R>(
        for count: Int, _ flowID: UInt32, _ sequence: UInt64, _ body: (UnsafeRawPointer) -> R
    ) -> R {
        let nonce = (sequence.littleEndian, UInt64(flowID).littleEndian)
        var subkey = (UInt64(0), UInt64(0), UInt64(0), UInt64(0))
        withUnsafeMutableBytes(of: &subkey) { subkey in
            withUnsafeBytes(of: nonce) { nonce in
                withUnsafeBytes(of: key) { key in
                    // Each has a base: none is empty.
                    _ = crypto_core_hsalsa20(
                        subkey.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self),
                        nonce.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self),
                        key.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self), nil)
                }
            }
        }
        let needed = 32 + count
        let length = needed & 511 <= 64 ? (needed + 63) & ~63 : (needed + 511) & ~511
        // The nonce's last 8 bytes are zero.
        let rest = UInt64(0)
        var keystream = Keystream(repeating: 0)
        return withUnsafeMutableBytes(of: &keystream) { keystream in
            let stream = keystream.baseAddress.unsafelyUnwrapped
            withUnsafeBytes(of: rest) { rest in
                withUnsafeBytes(of: subkey) { subkey in
                    _ = crypto_stream_salsa20(
                        stream.assumingMemoryBound(to: UInt8.self), UInt64(length),
                        rest.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self),
                        subkey.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self))
                }
            }
            return body(stream)
        }
    }

    private typealias Keystream = InlineArray<192, UInt64>

    /// Exclusive or of `count` bytes.
    private static func combine(
        _ source: UnsafeRawPointer, _ keystream: UnsafeRawPointer, into target: UnsafeMutableRawPointer, count: Int
    ) {
        var offset = 0
        while offset &+ 32 <= count {
            let mixed =
                source.loadUnaligned(fromByteOffset: offset, as: SIMD4<UInt64>.self)
                ^ keystream.loadUnaligned(fromByteOffset: offset, as: SIMD4<UInt64>.self)
            target.storeBytes(of: mixed, toByteOffset: offset, as: SIMD4<UInt64>.self)
            offset &+= 32
        }
        while offset &+ 8 <= count {
            let mixed =
                source.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
                ^ keystream.load(fromByteOffset: offset, as: UInt64.self)
            target.storeBytes(of: mixed, toByteOffset: offset, as: UInt64.self)
            offset &+= 8
        }
        while offset < count {
            let mixed =
                source.load(fromByteOffset: offset, as: UInt8.self)
                ^ keystream.load(fromByteOffset: offset, as: UInt8.self)
            target.storeBytes(of: mixed, toByteOffset: offset, as: UInt8.self)
            offset &+= 1
        }
    }
}
