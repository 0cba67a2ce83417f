import LinuxSystem
import TunnelModel

/// What the helper sets on a device itself, in a tunnel without a status command.
struct DeviceConfig: Equatable, Sendable {
    struct Route: Hashable, Sendable, CustomStringConvertible {
        var network: CIDR
        var gateway: IPAddress?
        var description: String { gateway.map { "\(network) via \($0)" } ?? "\(network)" }
    }

    var mtu: Int
    var addresses: [CIDR]
    var routes: [Route]

    /// Nil for a tunnel whose status command does it.
    init?(_ definition: TunnelDefinition) {
        guard definition.statusCommand == nil else { return nil }
        mtu = definition.effectiveMTU
        addresses = [definition.ip4, definition.ip6].compactMap { $0 }
        routes = definition.routes.map { route in
            Route(
                network: route.network, gateway: route.address.isIPv6 ? definition.gateway6 : definition.gateway4)
        }
    }
}

/// One change of a device, each of which may be made twice without harm.
enum DeviceStep: Equatable, Sendable {
    case removeRoute(DeviceConfig.Route)
    case removeAddress(CIDR)
    case setUp(mtu: Int)
    case addAddress(CIDR)
    case addRoute(DeviceConfig.Route)
}

extension DeviceConfig {
    /// What leads to `self` (nil: to a device that we leave alone) from a device on which any of `earlier` may still be,
    /// in part or whole. What nobody here has put on the device is never touched.
    static func steps(to target: DeviceConfig?, from earlier: [DeviceConfig]) -> [DeviceStep] {
        var removals: [DeviceStep] = []
        var seen: Set<Route> = Set(target?.routes ?? [])
        for route in earlier.flatMap(\.routes) where seen.insert(route).inserted {
            removals.append(.removeRoute(route))
        }
        var kept: Set<CIDR> = Set(target?.addresses ?? [])
        // With the last address of a device the kernel drops every route through it, whoever has made it: the new ones
        // come first, but for the same address with another prefix.
        var leftovers: [DeviceStep] = []
        for address in earlier.flatMap(\.addresses) where kept.insert(address).inserted {
            let isReplaced = target?.addresses.contains { $0.address == address.address } ?? true
            if isReplaced {
                removals.append(.removeAddress(address))
            } else {
                leftovers.append(.removeAddress(address))
            }
        }
        guard let target else { return removals + leftovers }
        let additions = target.addresses.map { DeviceStep.addAddress($0) }
        // The kernel may have taken an address away with an older one of the same network.
        let again = leftovers.isEmpty ? [] : leftovers + additions
        // The routes again too: the kernel drops those that an address or the device's state carried.
        return removals + [.setUp(mtu: target.mtu)] + additions + again + target.routes.map { .addRoute($0) }
    }
}

extension Netlink {
    mutating func apply(_ step: DeviceStep, to device: Int32, named name: String) throws(SystemError) {
        switch step {
        case .removeRoute(let route):
            try removeRoute(self.route(route, device), description: "remove route \(route) from \(name)")
        case .removeAddress(let address):
            try removeAddress(
                address.address.bytes, prefix: address.prefixLength, from: device,
                description: "remove address \(address) from \(name)")
        case .setUp(let mtu):
            try change(
                device, LinkChange(isUp: true, mtu: UInt32(mtu)), description: "set \(name) up with MTU \(mtu)")
        case .addAddress(let address):
            try addAddress(
                address.address.bytes, prefix: address.prefixLength, to: device,
                description: "add address \(address) to \(name)")
        case .addRoute(let route):
            try addRoute(self.route(route, device), description: "add route \(route) to \(name)")
        }
    }

    private func route(_ route: DeviceConfig.Route, _ device: Int32) -> Route {
        Route(
            destination: route.network.address.bytes, prefix: route.network.prefixLength,
            gateway: route.gateway?.bytes, index: device)
    }
}
