import LinuxSystem
import Store
import TunnelModel

// What a change wants of the host, and others have.

extension TunnelDirectory {
    /// Remembers what a tunnel has held until now: that may still be there for a minute, and a server's port until its peer
    /// is heard elsewhere, for the link's timeout at most.
    func noteReleased(_ old: TunnelDefinition?) {
        let now = Clock.now()
        released.removeAll { $0.until < now }
        guard let old, let claims = HostClaims(old) else { return }
        let seconds = old.links.map(old.timeout(of:)).reduce(60, max)
        released.append((claims, now + .seconds(UInt64(seconds))))
    }

    /// Throws what `new` wants, that `old` did not have, and that something which is no tunnel of ours has.
    func requireFree(_ new: TunnelDefinition, besides old: TunnelDefinition? = nil) throws(StoreError) {
        let problems = obstacles(of: new, besides: old, hostUse(for: [(new, old)]))
        if !problems.isEmpty { throw .refused(problems) }
    }

    /// What of the host is in use, as far as these want what they did not have: it takes milliseconds to look.
    func hostUse(for changes: [(new: TunnelDefinition, old: TunnelDefinition?)]) -> HostUse {
        var ports: Set<UInt16> = []
        var devices: Set<String> = []
        for change in changes {
            guard let wanted = HostClaims(change.new) else { continue }
            let held = HostClaims(change.old)
            if wanted.interface != held?.interface { devices.insert(wanted.interface.text) }
            ports.formUnion(wanted.binds.filter { held?.binds.contains($0) != true }.compactMap(\.port))
        }
        return HostUse(
            devices: devices.isEmpty ? [] : foreignDevices(among: devices),
            sockets: ports.isEmpty ? [] : host.sockets(ports))
    }

    func obstacles(of new: TunnelDefinition, besides old: TunnelDefinition?, _ use: HostUse) -> [DefinitionError] {
        guard let wanted = HostClaims(new) else { return [] }
        let held = HostClaims(old)
        var problems: [DefinitionError] = []
        if wanted.interface != held?.interface, use.devices.contains(wanted.interface.text) {
            problems.append(
                DefinitionError(
                    "interface", "\(wanted.interface) is a device of this host already; choose another name"))
        }
        for link in new.links where link.bind.port != nil && held?.binds.contains(link.bind) != true {
            let isAlone = !use.sockets.contains { !$0.address.isIPv6 && $0.port == link.bind.port }
            guard let taken = use.sockets.first(where: { $0.blocks(link.bind, isAlone: isAlone) && !isOurs($0) }) else {
                continue
            }
            problems.append(
                DefinitionError(
                    "link \(link.name)",
                    "bind: port \(taken.port) is in use by another program (\(SocketAddress(taken.address, port: taken.port)));"
                        + " choose another, or end that program"))
        }
        return problems
    }

    /// The devices that no tunnel of ours has, or had just now.
    func foreignDevices(among names: Set<String>? = nil) -> Set<String> {
        var devices = host.devices(names)
        for entry in entries.values where entry.definition.enabled { devices.remove(entry.definition.interface.text) }
        let now = Clock.now()
        for (claims, until) in released where now <= until { devices.remove(claims.interface.text) }
        return devices
    }

    private func isOurs(_ socket: HostSocket) -> Bool {
        let now = Clock.now()
        return entries.values.contains { HostClaims($0.definition)?.mayHold(socket) ?? false }
            || released.contains { now <= $0.until && $0.claims.mayHold(socket) }
    }
}

/// What a host has in use, at one time.
struct HostUse: Sendable {
    /// Devices that are none of ours.
    var devices: Set<String>
    /// Whoever has them.
    var sockets: [HostSocket]
}
