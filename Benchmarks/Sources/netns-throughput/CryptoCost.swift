import Glibc
import TunnelCrypto
import TunnelWire

/// What the cipher alone costs, without sockets and devices: the processor's time for packets of a size.
final class CryptoCost {
    private static let batch = 256
    private let cipher = SessionCipher(password: Array("benchmark".utf8))
    private let size: Int
    private let plaintext: UnsafeMutableRawPointer
    private let sealed: UnsafeMutableRawPointer
    private let bodies: UnsafeMutableRawPointer

    private var stride: Int { size + Datagram.macSize }

    init(size: Int) {
        precondition(SessionCipher.start(), "libsodium cannot be started")
        self.size = size
        let bytes = CryptoCost.batch * (size + Datagram.macSize)
        plaintext = .allocate(byteCount: size, alignment: 64)
        memset(plaintext, 0x5a, size)
        sealed = .allocate(byteCount: bytes, alignment: 64)
        bodies = .allocate(byteCount: bytes, alignment: 64)
    }

    deinit {
        plaintext.deallocate()
        sealed.deallocate()
        bodies.deallocate()
    }

    /// Seconds of this thread for each packet, sealed and opened, over a quarter of a second or so.
    func measure() -> (seal: Double, open: Double) {
        var seal = 0.0
        var open = 0.0
        var packets = 0
        var failures = 0
        while seal + open < 0.25 {
            let start = threadSeconds()
            for index in 0..<CryptoCost.batch {
                cipher.seal(
                    plaintext, count: size, to: sealed + index * stride, flowID: 1, sequence: UInt64(packets + index))
            }
            seal += threadSeconds() - start
            memcpy(bodies, sealed, CryptoCost.batch * stride)
            let middle = threadSeconds()
            for index in 0..<CryptoCost.batch
            where !cipher.open(bodies + index * stride, count: stride, flowID: 1, sequence: UInt64(packets + index)) {
                failures += 1
            }
            open += threadSeconds() - middle
            packets += CryptoCost.batch
        }
        precondition(failures == 0, "a datagram could not be opened")
        return (seal / Double(packets), open / Double(packets))
    }
}

private func threadSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}
