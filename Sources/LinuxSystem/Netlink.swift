import CLinux
import Glibc

/// Changes of network devices, addresses and routes (rtnetlink(7)), each waited for.
public struct Netlink: ~Copyable {
    private let socket: OwnedDescriptor
    private var sequence: UInt32 = 0
    /// What the main table has through a device, once it was asked for.
    private var tables: [TableKey: Set<Destination>] = [:]

    private struct TableKey: Hashable {
        var family: UInt8
        var index: Int32
    }

    private struct Destination: Hashable {
        var bytes: [UInt8]
        var prefix: Int
    }

    public init() throws(SystemError) {
        socket = OwnedDescriptor(owning: try checked(clinux_netlink_socket(), "open a netlink socket"))
        // The kernel answers at once; a lost answer must not hang the caller for ever.
        var time = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(socket.raw, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    // MARK: Devices

    public struct Link: Equatable, Sendable {
        public var index: Int32
        public var isUp: Bool
        public var mtu: UInt32
        public var group: UInt32
        /// `tun`, `veth`, …; empty for a physical device.
        public var kind: String
    }

    /// Nil when there is no such device.
    public mutating func link(named name: String) throws(SystemError) -> Link? {
        var message = NetlinkMessage(type: CLINUX_RTM_GETLINK, flags: 0)
        message.append(linkHeader(index: 0, flags: 0, change: 0))
        message.attribute(CLINUX_IFLA_IFNAME, text: name)
        var link: Link?
        do throws(SystemError) {
            try exchange(&message, "find device \(name)") { link = Self.parseLink($0) }
        } catch {
            if error.code == ENODEV { return nil }
            throw error
        }
        return link
    }

    /// What of a device is to change; nil: nothing.
    public struct LinkChange: Equatable, Sendable {
        public var isUp: Bool?
        public var mtu: UInt32?
        public var group: UInt32?
        /// Packets that wait in the device for the process that reads it.
        public var queueLength: UInt32?

        public init(
            isUp: Bool? = nil, mtu: UInt32? = nil, group: UInt32? = nil, queueLength: UInt32? = nil
        ) {
            self.isUp = isUp
            self.mtu = mtu
            self.group = group
            self.queueLength = queueLength
        }
    }

    public mutating func change(_ index: Int32, _ change: LinkChange, description: String) throws(SystemError) {
        var message = NetlinkMessage(type: CLINUX_RTM_NEWLINK, flags: CLINUX_NLM_F_ACK)
        let up = UInt32(IFF_UP)
        message.append(
            linkHeader(index: index, flags: change.isUp == true ? up : 0, change: change.isUp == nil ? 0 : up))
        if let mtu = change.mtu { message.attribute(CLINUX_IFLA_MTU, mtu) }
        if let group = change.group { message.attribute(CLINUX_IFLA_GROUP, group) }
        if let length = change.queueLength { message.attribute(CLINUX_IFLA_TXQLEN, length) }
        try exchange(&message, description)
    }

    /// The groups that devices are in.
    public mutating func groups() throws(SystemError) -> Set<UInt32> {
        var message = NetlinkMessage(type: CLINUX_RTM_GETLINK, flags: CLINUX_NLM_F_DUMP)
        message.append(linkHeader(index: 0, flags: 0, change: 0))
        var groups: Set<UInt32> = []
        try exchange(&message, "read the devices") { if let link = Self.parseLink($0) { groups.insert(link.group) } }
        return groups
    }

    /// Deletes every device of a group at once: much faster than one by one. None at all is no error.
    public mutating func deleteGroup(_ group: UInt32) throws(SystemError) {
        var message = NetlinkMessage(type: CLINUX_RTM_DELLINK, flags: CLINUX_NLM_F_ACK)
        message.append(linkHeader(index: 0, flags: 0, change: 0))
        message.attribute(CLINUX_IFLA_GROUP, group)
        try exchange(&message, "delete the devices of group \(group)", ignoring: [ENODEV])
    }

    // MARK: Addresses

    /// Adds an address, or changes it in place. IPv6: without duplicate address detection, which a tunnel's own address
    /// needs not wait for.
    public mutating func addAddress(
        _ bytes: [UInt8], prefix: Int, to index: Int32, description: String
    ) throws(SystemError) {
        var message = NetlinkMessage(
            type: CLINUX_RTM_NEWADDR, flags: CLINUX_NLM_F_ACK | CLINUX_NLM_F_CREATE | CLINUX_NLM_F_REPLACE)
        appendAddress(&message, bytes, prefix, index)
        if bytes.count == 16 { message.attribute(CLINUX_IFA_FLAGS, UInt32(CLINUX_IFA_F_NODAD)) }
        try exchange(&message, description)
    }

    /// Removes an address; one that is not there is no error.
    public mutating func removeAddress(
        _ bytes: [UInt8], prefix: Int, from index: Int32, description: String
    ) throws(SystemError) {
        var message = NetlinkMessage(type: CLINUX_RTM_DELADDR, flags: CLINUX_NLM_F_ACK)
        appendAddress(&message, bytes, prefix, index)
        try exchange(&message, description, ignoring: [EADDRNOTAVAIL, ENODEV])
    }

    private func appendAddress(_ message: inout NetlinkMessage, _ bytes: [UInt8], _ prefix: Int, _ index: Int32) {
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        message.append([family(of: bytes), UInt8(prefix), 0, 0])
        message.append(UInt32(bitPattern: index))
        message.attribute(CLINUX_IFA_LOCAL, bytes: bytes)
        message.attribute(CLINUX_IFA_ADDRESS, bytes: bytes)
    }

    // MARK: Routes

    /// A route through a device, in the main table.
    public struct Route: Hashable, Sendable {
        /// 4 or 16 bytes, network byte order, host bits zero.
        public var destination: [UInt8]
        public var prefix: Int
        /// As many bytes as the destination has, or nil: directly on the device.
        public var gateway: [UInt8]?
        public var index: Int32

        public init(destination: [UInt8], prefix: Int, gateway: [UInt8]?, index: Int32) {
            self.destination = destination
            self.prefix = prefix
            self.gateway = gateway
            self.index = index
        }
    }

    /// Adds a route; the very same route existing already is no error, another one to the same destination is.
    public mutating func addRoute(_ route: Route, description: String) throws(SystemError) {
        var message = NetlinkMessage(
            type: CLINUX_RTM_NEWROUTE, flags: CLINUX_NLM_F_ACK | CLINUX_NLM_F_CREATE | CLINUX_NLM_F_EXCL)
        appendRoute(&message, route)
        do throws(SystemError) {
            try exchange(&message, description)
            let key = TableKey(family: family(of: route.destination), index: route.index)
            tables[key]?.insert(Destination(bytes: route.destination, prefix: route.prefix))
        } catch {
            guard error.code == EEXIST else { throw error }
            if try hasRoute(route) { return }
            throw SystemError(error.code, error.action, hint: "another route to the same network exists; see: ip route")
        }
    }

    /// Removes a route; one that is not there is no error.
    public mutating func removeRoute(_ route: Route, description: String) throws(SystemError) {
        var message = NetlinkMessage(type: CLINUX_RTM_DELROUTE, flags: CLINUX_NLM_F_ACK)
        appendRoute(&message, route)
        tables = [:]
        try exchange(&message, description, ignoring: [ESRCH, ENODEV])
    }

    /// Whether the main table has a route to this destination through this device. The table, which may be long, is read
    /// once for all routes.
    private mutating func hasRoute(_ route: Route) throws(SystemError) -> Bool {
        let key = TableKey(family: family(of: route.destination), index: route.index)
        let table: Set<Destination>
        if let known = tables[key] {
            table = known
        } else {
            table = try routes(key)
            tables[key] = table
        }
        return table.contains(Destination(bytes: route.destination, prefix: route.prefix))
    }

    private mutating func routes(_ key: TableKey) throws(SystemError) -> Set<Destination> {
        var message = NetlinkMessage(type: CLINUX_RTM_GETROUTE, flags: CLINUX_NLM_F_DUMP)
        message.append([key.family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        var found: Set<Destination> = []
        try exchange(&message, "read the routes") { payload in
            guard payload.count >= 12 else { return }
            var destination = [UInt8](repeating: 0, count: key.family == UInt8(AF_INET6) ? 16 : 4)
            var index: UInt32?
            for (type, value) in NetlinkMessage.attributes(of: payload, from: 12) {
                if type == CLINUX_RTA_DST { destination = Array(value) }
                if type == CLINUX_RTA_OIF { index = NetlinkMessage.number(value) }
            }
            if index == UInt32(bitPattern: key.index) {
                found.insert(Destination(bytes: destination, prefix: Int(payload[payload.startIndex + 1])))
            }
        }
        return found
    }

    private func appendRoute(_ message: inout NetlinkMessage, _ route: Route) {
        let scope = route.gateway == nil ? CLINUX_RT_SCOPE_LINK : CLINUX_RT_SCOPE_UNIVERSE
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
        message.append([
            family(of: route.destination), UInt8(route.prefix), 0, 0, UInt8(CLINUX_RT_TABLE_MAIN),
            UInt8(CLINUX_RTPROT_STATIC), UInt8(scope), UInt8(CLINUX_RTN_UNICAST),
        ])
        // The device has one other end: the gateway need not lie in the network of its address.
        message.append(UInt32(route.gateway == nil ? 0 : CLINUX_RTNH_F_ONLINK))
        if route.prefix > 0 { message.attribute(CLINUX_RTA_DST, bytes: route.destination) }
        if let gateway = route.gateway { message.attribute(CLINUX_RTA_GATEWAY, bytes: gateway) }
        message.attribute(CLINUX_RTA_OIF, UInt32(bitPattern: route.index))
    }

    // MARK: The exchange

    /// Sends a request and reads its answers up to the acknowledgement, whose error it throws, the kernel's own
    /// explanation included, unless it is one of `ignored`.
    private mutating func exchange(
        _ message: inout NetlinkMessage, _ action: String, ignoring ignored: [Int32] = [],
        _ receive: (ArraySlice<UInt8>) -> Void = { _ in }
    ) throws(SystemError) {
        sequence &+= 1
        let request = message.finished(sequence: sequence)
        guard send(socket.raw, request, request.count, 0) == request.count else { throw .last(action) }
        let isDump = message.isDump
        // Not an array: filled with zeros, it would cost each of many processes memory that no answer ever needs.
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 8)
        defer { buffer.deallocate() }
        while true {
            let size = recv(socket.raw, buffer.baseAddress, buffer.count, 0)
            if size < 0 {
                if errno == EINTR { continue }
                throw .last(action)
            }
            for part in NetlinkMessage.messages(in: Array(buffer[..<size])[...]) where part.sequence == sequence {
                switch Int(part.type) {
                case CLINUX_NLMSG_DONE: return
                case CLINUX_NLMSG_ERROR:
                    let code = Int32(bitPattern: NetlinkMessage.number(part.payload.prefix(4)) ?? 0)
                    if code == 0 || ignored.contains(-code) { return }
                    throw SystemError(-code, action, hint: NetlinkMessage.explanation(of: part))
                default:
                    receive(part.payload)
                    if !isDump && !message.wantsAcknowledgement { return }
                }
            }
        }
    }

    private func family(of bytes: [UInt8]) -> UInt8 { UInt8(bytes.count == 16 ? AF_INET6 : AF_INET) }

    /// struct ifinfomsg: family, padding, type, index, flags, change.
    private func linkHeader(index: Int32, flags: UInt32, change: UInt32) -> [UInt8] {
        var bytes: [UInt8] = [0, 0, 0, 0]
        for value in [UInt32(bitPattern: index), flags, change] {
            withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) }
        }
        return bytes
    }

    private static func parseLink(_ payload: ArraySlice<UInt8>) -> Link? {
        guard payload.count >= 16 else { return nil }
        let start = payload.startIndex
        func word(_ offset: Int) -> UInt32 {
            NetlinkMessage.number(payload[(start + offset)..<(start + offset + 4)]) ?? 0
        }
        var link = Link(
            index: Int32(bitPattern: word(4)), isUp: word(8) & UInt32(IFF_UP) != 0, mtu: 0, group: 0, kind: "")
        for (type, value) in NetlinkMessage.attributes(of: payload, from: 16) {
            switch type {
            case CLINUX_IFLA_MTU: link.mtu = NetlinkMessage.number(value) ?? 0
            case CLINUX_IFLA_GROUP: link.group = NetlinkMessage.number(value) ?? 0
            case CLINUX_IFLA_LINKINFO:
                for (inner, text) in NetlinkMessage.attributes(of: value, from: 0) where inner == CLINUX_IFLA_INFO_KIND
                {
                    link.kind = String(decoding: text.prefix { $0 != 0 }, as: UTF8.self)
                }
            default: break
            }
        }
        return link
    }
}
