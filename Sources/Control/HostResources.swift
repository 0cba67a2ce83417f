import Glibc
import TunnelModel

/// What this host has in use, whoever uses it.
struct HostResources: Sendable {
    /// The names of its devices; only of those asked for, if any are: a list of thousands takes milliseconds.
    var devices: @Sendable (_ among: Set<String>?) -> Set<String>
    /// The UDP sockets that are bound to one of these ports.
    var sockets: @Sendable (Set<UInt16>) -> [HostSocket]

    static let system = HostResources(
        devices: { among in among?.filter { if_nametoindex($0) != 0 } ?? Self.deviceNames() },
        sockets: { ports in
            ["/proc/net/udp", "/proc/net/udp6"].flatMap { HostSocket.all(in: Self.text($0), ports) }
        })

    /// Nothing is in use.
    static let unused = HostResources(devices: { _ in [] }, sockets: { _ in [] })

    private static func deviceNames() -> Set<String> {
        guard let list = if_nameindex() else { return [] }
        defer { if_freenameindex(list) }
        var names: Set<String> = []
        var entry = list
        while let name = entry.pointee.if_name {
            names.insert(String(cString: name))
            entry += 1
        }
        return names
    }

    /// Empty when it cannot be read: what is in use is found out by whoever wants it then.
    private static func text(_ path: String) -> String {
        guard let file = fopen(path, "re") else { return "" }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = fread(&chunk, 1, chunk.count, file)
            if count == 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += chunk.prefix(count)
        }
    }
}

/// A UDP socket's own address.
struct HostSocket: Equatable, Sendable {
    var address: IPAddress
    var port: UInt16

    /// Of a file such as /proc/net/udp (proc(5)): the second column is the address, in words as the processor has them,
    /// and the port.
    static func all(in text: String, _ ports: Set<UInt16>) -> [HostSocket] {
        var found: [HostSocket] = []
        // As bytes: there is a line for each link of each tunnel.
        for line in text.utf8.split(separator: UInt8(ascii: "\n")).dropFirst() {
            let columns = line.split(separator: UInt8(ascii: " "), maxSplits: 2)
            guard columns.count > 1 else { continue }
            let parts = columns[1].split(separator: UInt8(ascii: ":"))
            guard parts.count == 2, let port = UInt16(Substring(parts[1]), radix: 16), ports.contains(port),
                let address = address(Substring(parts[0]))
            else { continue }
            found.append(HostSocket(address: address, port: port))
        }
        return found
    }

    private static func address(_ text: Substring) -> IPAddress? {
        var words: [UInt32] = []
        var rest = text
        while !rest.isEmpty {
            guard let word = UInt32(rest.prefix(8), radix: 16) else { return nil }
            words.append(UInt32(bigEndian: word))
            rest = rest.dropFirst(8)
        }
        func half(_ index: Int) -> UInt64 { UInt64(words[index]) << 32 | UInt64(words[index + 1]) }
        switch words.count {
        case 1: return .v4(words[0])
        // An IPv4 address on an IPv6 socket.
        case 4 where half(0) == 0 && words[2] == 0xffff: return .v4(words[3])
        case 4: return .v6(half(0), half(2))
        default: return nil
        }
    }

    /// Whether a link cannot be bound to `bind` while this socket is there. What a name stands for is not known here.
    ///
    /// - Parameter isAlone: there is no IPv4 socket of this port: an IPv6 wildcard most likely takes IPv4 as well.
    func blocks(_ bind: BindAddress, isAlone: Bool) -> Bool {
        guard bind.port == port else { return false }
        switch bind.host {
        case nil: return !address.isIPv6 || (address.isUnspecified && isAlone)
        case .name: return address.isUnspecified && (!address.isIPv6 || isAlone)
        case .address(let wanted):
            if wanted.isIPv6 == address.isIPv6 {
                return wanted == address || wanted.isUnspecified || address.isUnspecified
            }
            return address.isIPv6 && address.isUnspecified && isAlone
        }
    }
}

/// What a tunnel takes of the host.
struct HostClaims: Sendable {
    var interface: InterfaceName
    var binds: [BindAddress]

    /// Nil for a tunnel that is not run.
    init?(_ definition: TunnelDefinition?) {
        guard let definition, definition.enabled else { return nil }
        interface = definition.interface
        binds = definition.links.map(\.bind).filter { $0.port != nil }
    }

    /// Whether this may be the tunnel's own socket.
    func mayHold(_ socket: HostSocket) -> Bool {
        binds.contains { bind in
            guard bind.port == socket.port else { return false }
            switch bind.host {
            case nil: return socket.address.isUnspecified
            case .address(let address): return address == socket.address
            case .name: return true
            }
        }
    }
}
