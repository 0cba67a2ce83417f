import Glibc
import TunnelCore
import TunnelCrypto
import TunnelWire

/// Memory with room around, as the cipher wants it.
enum Roomy {
    private static let front = 64

    static func allocate(_ count: Int) -> UnsafeMutableRawPointer {
        .allocate(byteCount: front + count + SessionCipher.tailroom, alignment: 64) + front
    }

    static func deallocate(_ memory: UnsafeMutableRawPointer) { (memory - front).deallocate() }
}

/// A packet is sealed into the send buffer.
final class SealStage: Stage {
    let name: String
    let packets = 512
    private let cipher = SessionCipher(password: Array("benchmark".utf8))
    private let size: Int
    private let plaintext: UnsafeMutableRawPointer
    private let body: UnsafeMutableRawPointer
    private var sequence: UInt64 = 1

    init(size: Int) {
        self.size = size
        name = "seal \(size)"
        plaintext = Roomy.allocate(size)
        memset(plaintext, 0x5a, size)
        body = Roomy.allocate(size + Datagram.macSize)
    }

    deinit {
        Roomy.deallocate(plaintext)
        Roomy.deallocate(body)
    }

    func run() {
        for _ in 0..<packets {
            cipher.sealRoomy(plaintext, count: size, to: body, flowID: 1, sequence: sequence)
            sequence &+= 1
        }
    }
}

/// A datagram's body is verified and decrypted to another buffer.
final class OpenStage: Stage {
    let name: String
    let packets = 512
    private let cipher = SessionCipher(password: Array("benchmark".utf8))
    private let size: Int
    private let plaintexts: UnsafeMutableRawPointer
    private let sealed: UnsafeMutableRawPointer
    private var failures = 0

    private var stride: Int { size + Datagram.macSize }

    init(size: Int) {
        self.size = size
        name = "open \(size)"
        let plaintext = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
        defer { plaintext.deallocate() }
        memset(plaintext, 0x5a, size)
        plaintexts = Roomy.allocate(packets * (size + Datagram.macSize))
        sealed = Roomy.allocate(packets * (size + Datagram.macSize))
        for index in 0..<packets {
            cipher.seal(plaintext, count: size, to: sealed + index * stride, flowID: 1, sequence: UInt64(index))
        }
    }

    deinit {
        Roomy.deallocate(plaintexts)
        Roomy.deallocate(sealed)
    }

    func run() {
        for index in 0..<packets {
            let isOpened = cipher.openRoomy(
                sealed + index * stride, count: stride, to: plaintexts + index * stride, flowID: 1,
                sequence: UInt64(index))
            if !isOpened { failures += 1 }
        }
        precondition(failures == 0, "a datagram could not be opened")
    }
}

/// The replay window alone: each number new, and some of them a little late.
final class ReplayStage: Stage {
    let name = "replay check"
    let packets = 4096
    private var window = ReplayWindow()
    private var next: UInt64 = 1
    private var refused = 0

    func run() {
        for index in 0..<packets {
            // Pairs that overtook each other.
            let sequence = next &+ UInt64(index ^ 1)
            if window.isFresh(sequence), window.accept(sequence) { continue }
            refused += 1
        }
        next &+= UInt64(packets)
        precondition(refused <= 1, "fresh numbers were refused")
    }
}
