/// The header that a TUN or TAP device with IFF_VNET_HDR puts in front of each packet: what is left to be done to it
/// (virtio 1.2, 5.1.6; `linux/virtio_net.h`).
///
/// On reads it says how to split the packet and where a checksum is missing, on writes the same about what was merged.
/// The fields are in the machine's own byte order, as tun(4) has them unless TUNSETVNETLE or TUNSETVNETBE says otherwise.
public struct VirtioNetHeader: Equatable, Sendable {
    /// Bytes on the device; must equal what TUNSETVNETHDRSZ says (10 is the default).
    public static let size = 10

    // Bits of `flags`.
    /// The checksum field holds the pseudo header's sum only and must be completed.
    public static let needsChecksum: UInt8 = 1
    /// The checksum has been verified.
    public static let dataValid: UInt8 = 2

    // Values of `gsoType`. UDP_L4 is missing from the headers of Linux before 6.2.
    public static let gsoNone: UInt8 = 0
    public static let gsoTCPv4: UInt8 = 1
    public static let gsoTCPv6: UInt8 = 4
    /// Segmentation into datagrams of equal size (USO).
    public static let gsoUDPSegmentation: UInt8 = 5
    /// A bit beside the TCP types: the first segment carries CWR.
    public static let gsoECN: UInt8 = 0x80

    public var flags: UInt8 = 0
    public var gsoType: UInt8 = Self.gsoNone
    /// Bytes of all headers; a hint, and not to be trusted on reads (Linux `Documentation/networking/tuntap`, virtio 5.1.6.4).
    public var headerLength: UInt16 = 0
    /// Payload bytes of each segment; the last may be shorter.
    public var gsoSize: UInt16 = 0
    /// Where the sum starts, from the packet's first byte.
    public var checksumStart: UInt16 = 0
    /// Where the checksum is stored, from `checksumStart`.
    public var checksumOffset: UInt16 = 0

    /// A packet as it is: nothing to split, nothing to complete.
    public init() {}

    /// `bytes`: at least ``size``, of any alignment.
    public init(reading bytes: UnsafeRawPointer) {
        flags = bytes.load(as: UInt8.self)
        gsoType = bytes.load(fromByteOffset: 1, as: UInt8.self)
        headerLength = bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self)
        gsoSize = bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
        checksumStart = bytes.loadUnaligned(fromByteOffset: 6, as: UInt16.self)
        checksumOffset = bytes.loadUnaligned(fromByteOffset: 8, as: UInt16.self)
    }

    /// `bytes`: room for ``size``, of any alignment.
    public func write(to bytes: UnsafeMutableRawPointer) {
        bytes.storeBytes(of: flags, as: UInt8.self)
        bytes.storeBytes(of: gsoType, toByteOffset: 1, as: UInt8.self)
        bytes.storeBytes(of: headerLength, toByteOffset: 2, as: UInt16.self)
        bytes.storeBytes(of: gsoSize, toByteOffset: 4, as: UInt16.self)
        bytes.storeBytes(of: checksumStart, toByteOffset: 6, as: UInt16.self)
        bytes.storeBytes(of: checksumOffset, toByteOffset: 8, as: UInt16.self)
    }
}
