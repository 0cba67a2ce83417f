import CLinux
import Glibc

/// Creating TUN and TAP devices.
public enum TunDevice {
    public enum Kind: Sendable { case tun, tap }

    /// What the kernel hands over and takes in one piece.
    public struct Features: Equatable, Sendable {
        /// Ten bytes of virtio_net_hdr precede every packet.
        public var hasVirtioHeader: Bool
        public var tcpSegmentation: Bool
        public var udpSegmentation: Bool

        public init(hasVirtioHeader: Bool = false, tcpSegmentation: Bool = false, udpSegmentation: Bool = false) {
            self.hasVirtioHeader = hasVirtioHeader
            self.tcpSegmentation = tcpSegmentation
            self.udpSegmentation = udpSegmentation
        }
    }

    /// Bytes that one read or write of a device with offloads may have; TUN's default counts them against the socket
    /// buffer, which would stall writes of super-packets.
    private static let sendBufferBytes: Int32 = 4 << 20

    /// A new device of exactly this name; nonblocking. It lives as long as any descriptor of it does.
    ///
    /// With `offloads`, what the kernel can do is tried from the most on: TCP and UDP segmentation (Linux 6.2), TCP only,
    /// none.
    public static func create(name: String, kind: Kind, offloads: Bool) throws(SystemError) -> CreatedDevice {
        if offloads, let device = try createWithOffloads(name: name, kind: kind) { return device }
        let device = try open(name: name, kind: kind, hasVirtioHeader: false)
        return CreatedDevice(descriptor: device, features: Features())
    }

    /// Whether the device of this descriptor is there no more.
    public static func isDeleted(_ raw: Int32) -> Bool {
        var poll = pollfd(fd: raw, events: 0, revents: 0)
        return Glibc.poll(&poll, 1, 0) == 1 && poll.revents & Int16(POLLERR) != 0
    }

    private static func createWithOffloads(name: String, kind: Kind) throws(SystemError) -> CreatedDevice? {
        let device: OwnedDescriptor
        do throws(SystemError) {
            device = try open(name: name, kind: kind, hasVirtioHeader: true)
        } catch {
            if error.code == EINVAL { return nil }
            throw error
        }
        guard clinux_tun_set_virtio_header_size(device.raw, 10) == 0 else { return nil }
        _ = clinux_tun_set_send_buffer(device.raw, sendBufferBytes)
        let tcp = UInt32(CLINUX_TUN_CSUM | CLINUX_TUN_TSO4 | CLINUX_TUN_TSO6)
        let udp = UInt32(CLINUX_TUN_USO4 | CLINUX_TUN_USO6)
        if clinux_tun_set_offload(device.raw, tcp | udp) == 0 {
            return CreatedDevice(
                descriptor: device,
                features: Features(hasVirtioHeader: true, tcpSegmentation: true, udpSegmentation: true))
        }
        if clinux_tun_set_offload(device.raw, tcp) == 0 {
            return CreatedDevice(
                descriptor: device, features: Features(hasVirtioHeader: true, tcpSegmentation: true))
        }
        return CreatedDevice(descriptor: device, features: Features(hasVirtioHeader: true))
    }

    private static func open(name: String, kind: Kind, hasVirtioHeader: Bool) throws(SystemError) -> OwnedDescriptor {
        let raw = clinux_tun_create(name, kind == .tap ? 1 : 0, hasVirtioHeader ? 1 : 0)
        if raw >= 0 { return OwnedDescriptor(owning: raw) }
        let action = "create device \(name)"
        switch -raw {
        case EBUSY, EEXIST:
            throw SystemError(
                -raw, action, hint: "\(holder(of: name)) has that name; remove it or choose another interface")
        case ENOENT, ENODEV, ENXIO:
            throw SystemError(-raw, action, hint: "/dev/net/tun is missing or has no driver; run: modprobe tun")
        case EPERM, EACCES: throw SystemError(-raw, action, hint: "root (CAP_NET_ADMIN) and /dev/net/tun are needed")
        default: throw SystemError(-raw, action)
        }
    }

    /// What kind of device has this name now.
    private static func holder(of name: String) -> String {
        guard var netlink = try? Netlink(), let link = try? netlink.link(named: name) else { return "another device" }
        return link.kind.isEmpty ? "another network device" : "another device (kind \(link.kind))"
    }
}

/// A device's descriptor, and what it can do.
public struct CreatedDevice: ~Copyable {
    private var pending: OwnedDescriptor?
    public let features: TunDevice.Features

    init(descriptor: consuming OwnedDescriptor, features: TunDevice.Features) {
        pending = consume descriptor
        self.features = features
    }

    /// Once.
    public mutating func takeDescriptor() -> OwnedDescriptor? { pending.take() }
}
