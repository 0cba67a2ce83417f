import CLinux
import Glibc

public typealias SystemAddress = clinux_address

public enum UDPSocket {
    /// Kernel buffers, each way: default ones lose tens of thousands of datagrams per second of bulk traffic.
    public static let bufferBytes: Int32 = 4 << 20

    /// A nonblocking UDP socket, bound to `address` (port 0: the kernel's choice), set up for tunnels: large buffers
    /// where the caller may have them, fragmentation rather than loss of big datagrams, no IPv4 on an IPv6 socket. A path
    /// MTU that the kernel learnt elsewhere is left out of account: UDP_SEGMENT would fail with it.
    public static func open(bind address: SystemAddress, description: String) throws(SystemError) -> OwnedDescriptor {
        let socket = OwnedDescriptor(
            owning: try checked(clinux_udp_socket(Int32(address.version)), "create a UDP socket for \(description)"))
        let fd = socket.raw
        if address.version == 6 {
            try set(fd, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1, description)
            try set(fd, Int32(IPPROTO_IPV6), IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT, description)
        } else {
            try set(fd, Int32(IPPROTO_IP), IP_MTU_DISCOVER, IP_PMTUDISC_OMIT, description)
        }
        // On a wildcard the answer must leave from the address that was asked, or a NAT in between drops it.
        if address.high == 0 && address.low == 0 {
            if address.version == 6 {
                try set(fd, Int32(IPPROTO_IPV6), IPV6_RECVPKTINFO, 1, description)
            } else {
                try set(fd, Int32(IPPROTO_IP), IP_PKTINFO, 1, description)
            }
        }
        for (force, plain) in [(SO_RCVBUFFORCE, SO_RCVBUF), (SO_SNDBUFFORCE, SO_SNDBUF)] {
            do {
                try set(fd, SOL_SOCKET, force, bufferBytes, description)
            } catch {
                try set(fd, SOL_SOCKET, plain, bufferBytes, description)
            }
        }
        var address = address
        try checked(clinux_udp_bind(fd, &address), "bind \(description)")
        return socket
    }

    /// Address and port that a socket is bound to.
    public static func localAddress(_ fd: Int32) throws(SystemError) -> SystemAddress {
        var address = SystemAddress()
        try checked(clinux_udp_local_address(fd, &address), "read the address of a UDP socket")
        return address
    }

    private static func set(
        _ fd: Int32, _ level: Int32, _ option: Int32, _ value: Int32, _ description: String
    ) throws(SystemError) {
        var value = value
        if setsockopt(fd, level, option, &value, 4) < 0 { throw .last("set option \(option) of \(description)") }
    }
}
