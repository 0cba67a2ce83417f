import Glibc
import TunnelCore

/// A worker's buffers, shared by its tunnels: in use only within one tunnel's turn. Pages never touched cost nothing.
final class WorkerBuffers {
    static let maximumLinks = BurstScheduler.maximumLinks
    /// A receive needs 64 KiB free; so many bytes are received before the tunnel's turn ends.
    static let receiveSize = 128 * 1024
    static let receiveUnit = 64 * 1024
    /// What is opened stands at the same offsets as what was received, with room for the cipher behind.
    private static let plaintextSize = receiveSize + 1024
    private static let sendSize = 66 * 1024
    static let deviceSize = 68 * 1024

    private let memory: UnsafeMutableRawPointer
    let device: UnsafeMutableRawPointer
    let scratch: UnsafeMutableRawPointer
    let vectors: UnsafeMutableBufferPointer<iovec>
    let virtioHeader: UnsafeMutableRawPointer
    var pool: PacketPool
    /// Pooled packets that the coalescer still refers to.
    var pendingFree: [UnsafeMutableRawPointer] = []

    init(poolBytes: Int, spare: SpareSlots) {
        let size = Self.deviceSize + 4096 + Self.maximumLinks * (Self.receiveSize + Self.sendSize + Self.plaintextSize)
        // Anonymous memory straight from the kernel: not a page is touched before it is used.
        let map = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let map, map != MAP_FAILED else { preconditionFailure("no memory for a worker's buffers") }
        memory = map
        device = memory
        scratch = memory + Self.deviceSize
        virtioHeader = scratch + 4096 - 64
        vectors = .allocate(capacity: Coalescer.vectorCapacity)
        pool = PacketPool(maximumBytes: poolBytes, spare: spare)
        pendingFree.reserveCapacity(Coalescer.maximumPackets * 2)
    }

    /// ``receiveSize`` bytes for the link with this index.
    func receive(_ link: Int) -> UnsafeMutableRawPointer {
        memory + Self.deviceSize + 4096 + link * Self.receiveSize
    }

    func send(_ link: Int) -> UnsafeMutableRawPointer {
        receive(Self.maximumLinks) + link * Self.sendSize
    }

    /// For the plaintexts of what stands in ``receive(_:)``.
    func plaintext(_ link: Int) -> UnsafeMutableRawPointer {
        send(Self.maximumLinks) + link * Self.plaintextSize
    }
}
