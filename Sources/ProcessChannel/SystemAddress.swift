import CLinux
import LinuxSystem
import TunnelModel

// SocketAddress and the C shim's address have one layout; the C side asserts its own.

extension SocketAddress {
    /// The same address for a system call.
    @inlinable
    public var system: SystemAddress { unsafeBitCast(self, to: SystemAddress.self) }

    @inlinable
    public init(system: SystemAddress) { self = unsafeBitCast(system, to: SocketAddress.self) }
}
