import TunnelModel
import TunnelWire

// Where a session is, what it makes of a datagram, and what it has to send.

extension LinkSession {
    public enum Phase: UInt8, Sendable, BitwiseCopyable { case disconnected, authSent, up }

    public enum Reception: Equatable, Sendable {
        /// The plaintext is an inner packet for the device (or the reorder buffer).
        case data
        case control
        case dropped(Drop)
    }

    public enum Drop: Equatable, Sendable {
        case replayed
        case unknownFlow
        /// Right bytes in the wrong state: DATA while down, cleartext from elsewhere.
        case state
        /// The body cannot be of this type.
        case implausible
    }

    /// A control message to send.
    public struct Control: Equatable, Sendable {
        public var type: DatagramType
        public var destination: SocketAddress
        /// A KEEPALIVE with our report of what came, rather than one that asks for the peer's.
        public var carriesReport = false
        /// A KEEPALIVE that says that the link rests.
        public var carriesRest = false
    }
}
