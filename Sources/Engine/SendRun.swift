import CLinux
import Glibc
import TunnelWire

/// Datagrams for one link that will leave with one system call: one contiguous run of equal sizes, of which the last may
/// be shorter (UDP_SEGMENT). The bytes belong to the worker.
struct SendRun {
    /// What one UDP_SEGMENT send may carry.
    static let capacity = 65_507
    static let maximumDatagrams = 64

    let base: UnsafeMutableRawPointer
    private(set) var used = 0
    private(set) var datagrams = 0
    private(set) var segmentSize = 0
    private var isClosed = false

    init(base: UnsafeMutableRawPointer) { self.base = base }

    var isEmpty: Bool { datagrams == 0 }

    /// Whether a datagram of `size` bytes can join without breaking the run.
    func takes(_ size: Int) -> Bool {
        if datagrams == 0 { return true }
        return !isClosed && size <= segmentSize && used &+ size <= Self.capacity && datagrams < Self.maximumDatagrams
    }

    /// Room for the next datagram of `size` bytes, which counts as written.
    mutating func append(_ size: Int) -> UnsafeMutableRawPointer {
        if datagrams == 0 { segmentSize = size } else if size < segmentSize { isClosed = true }
        let place = base + used
        used &+= size
        datagrams &+= 1
        return place
    }

    mutating func reset() {
        used = 0
        datagrams = 0
        isClosed = false
    }
}
