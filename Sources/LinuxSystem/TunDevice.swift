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

    /// A new device of exactly this name; nonblocking. It lives as long as any descriptor of it does.
    ///
    /// With `offloads`, what the kernel can do is tried from the most on: TCP and UDP segmentation (Linux 6.2), TCP only,
    /// none.
    ///
    /// - Parameter takesExisting: whether a persistent one of this name and kind (ip-tuntap(8)) that nobody has open will
    ///   do as well.
    public static func create(
        name: String, kind: Kind, offloads: Bool, takesExisting: Bool = false
    ) throws(SystemError) -> CreatedDevice {
        do throws(SystemError) {
            return try create(name: name, kind: kind, offloads: offloads, isNew: true)
        } catch {
            guard takesExisting, error.code == EBUSY, kindOfDevice(name) == "tun" else { throw error }
            return try create(name: name, kind: kind, offloads: offloads, isNew: false)
        }
    }

    private static func create(
        name: String, kind: Kind, offloads: Bool, isNew: Bool
    ) throws(SystemError) -> CreatedDevice {
        if offloads, let device = try createWithOffloads(name: name, kind: kind, isNew: isNew) { return device }
        let device = try open(name: name, kind: kind, hasVirtioHeader: false, isNew: isNew)
        return CreatedDevice(descriptor: device, features: Features(), isNew: isNew)
    }

    /// Whether the device of this descriptor is there no more.
    public static func isDeleted(_ raw: Int32) -> Bool {
        var poll = pollfd(fd: raw, events: 0, revents: 0)
        return Glibc.poll(&poll, 1, 0) == 1 && poll.revents & Int16(POLLERR) != 0
    }

    private static func createWithOffloads(
        name: String, kind: Kind, isNew: Bool
    ) throws(SystemError) -> CreatedDevice? {
        let device: OwnedDescriptor
        do throws(SystemError) {
            device = try open(name: name, kind: kind, hasVirtioHeader: true, isNew: isNew)
        } catch {
            if error.code == EINVAL { return nil }
            throw error
        }
        guard clinux_tun_set_virtio_header_size(device.raw, 10) == 0 else { return nil }
        let tcp = UInt32(CLINUX_TUN_CSUM | CLINUX_TUN_TSO4 | CLINUX_TUN_TSO6)
        let udp = UInt32(CLINUX_TUN_USO4 | CLINUX_TUN_USO6)
        if clinux_tun_set_offload(device.raw, tcp | udp) == 0 {
            return CreatedDevice(
                descriptor: device,
                features: Features(hasVirtioHeader: true, tcpSegmentation: true, udpSegmentation: true), isNew: isNew)
        }
        if clinux_tun_set_offload(device.raw, tcp) == 0 {
            return CreatedDevice(
                descriptor: device, features: Features(hasVirtioHeader: true, tcpSegmentation: true), isNew: isNew)
        }
        return CreatedDevice(descriptor: device, features: Features(hasVirtioHeader: true), isNew: isNew)
    }

    private static func open(
        name: String, kind: Kind, hasVirtioHeader: Bool, isNew: Bool
    ) throws(SystemError) -> OwnedDescriptor {
        let raw = clinux_tun_open(name, kind == .tap ? 1 : 0, hasVirtioHeader ? 1 : 0, isNew ? 1 : 0)
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
        guard let kind = kindOfDevice(name) else { return "another device" }
        return kind.isEmpty ? "another network device" : "another device (kind \(kind))"
    }

    private static func kindOfDevice(_ name: String) -> String? {
        guard var netlink = try? Netlink() else { return nil }
        return (try? netlink.link(named: name))?.kind
    }
}

/// A device's descriptor, and what it can do.
public struct CreatedDevice: ~Copyable {
    private var pending: OwnedDescriptor?
    public let features: TunDevice.Features
    /// It goes when it is closed; one that existed before stays.
    public let isNew: Bool

    init(descriptor: consuming OwnedDescriptor, features: TunDevice.Features, isNew: Bool) {
        pending = consume descriptor
        self.features = features
        self.isNew = isNew
    }

    /// Once.
    public mutating func takeDescriptor() -> OwnedDescriptor? { pending.take() }
}
