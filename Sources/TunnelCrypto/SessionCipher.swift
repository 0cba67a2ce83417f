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

    /// Encrypts `count` bytes at `plaintext` to `body`: 16 bytes of MAC, then the ciphertext. The two may not overlap
    /// unless `plaintext` is `body + 16`. A pair (flowID, sequence) is used once in the life of a key.
    @inlinable
    public func seal(
        _ plaintext: UnsafeRawPointer, count: Int, to body: UnsafeMutableRawPointer, flowID: UInt32, sequence: UInt64
    ) {
        withNonceAndKey(flowID, sequence) { nonce, key in
            _ = crypto_secretbox_detached(
                (body + 16).assumingMemoryBound(to: UInt8.self), body.assumingMemoryBound(to: UInt8.self),
                plaintext.assumingMemoryBound(to: UInt8.self), UInt64(count), nonce, key)
        }
    }

    /// Decrypts `count` bytes of body (MAC first) in place: the plaintext stands at `body + 16`. False when the MAC is
    /// wrong or the body too short for one; the bytes are then unchanged.
    @inlinable
    public func open(_ body: UnsafeMutableRawPointer, count: Int, flowID: UInt32, sequence: UInt64) -> Bool {
        guard count >= 16 else { return false }
        let ciphertext = (body + 16).assumingMemoryBound(to: UInt8.self)
        return withNonceAndKey(flowID, sequence) { nonce, key in
            crypto_secretbox_open_detached(
                ciphertext, ciphertext, body.assumingMemoryBound(to: UInt8.self), UInt64(count - 16), nonce, key) == 0
        }
    }

    /// Nonce: sequence as 8 bytes little endian, flow_id as 4 bytes little endian, 12 zero bytes.
    @inlinable
    func withNonceAndKey<R>(
        _ flowID: UInt32, _ sequence: UInt64, _ body: (UnsafePointer<UInt8>, UnsafePointer<UInt8>) -> R
    ) -> R {
        let nonce = (sequence.littleEndian, UInt64(flowID).littleEndian, UInt64(0))
        return withUnsafeBytes(of: nonce) { nonce in
            withUnsafeBytes(of: key) { key in
                // Both have a base: neither is empty.
                body(
                    nonce.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self),
                    key.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self))
            }
        }
    }
}
