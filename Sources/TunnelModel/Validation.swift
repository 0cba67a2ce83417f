extension TunnelDefinition {
    /// Everything that is wrong with this definition alone, in the order of its fields. Empty: it can be run.
    public var problems: [DefinitionError] {
        var found: [DefinitionError] = []
        func check(_ ok: Bool, _ field: String, _ problem: @autoclosure () -> String) {
            if !ok { found.append(DefinitionError(field, problem())) }
        }
        checkAddresses(check)
        checkMTU(check)
        check((2...86400).contains(timeout), "timeout", "\(timeout) is not from 2 to 86400 seconds")
        check((0...100).contains(lossTolerance), "loss-tolerance", "\(lossTolerance) is not from 0 to 100 percent")
        check(
            (0...60000).contains(latencyTolerance), "latency-tolerance", "\(latencyTolerance) is not from 0 to 60000 ms"
        )
        if let statusCommand { found += pathProblems(statusCommand, field: "status-command") }
        if let path = monitoring.unixPath {
            found += pathProblems(path, field: "control-unix-path", maximumBytes: maximumSocketPathBytes)
        }
        check(
            monitoring.bindHost == nil || monitoring.bindPort != nil, "control-bind-host",
            "needs a control-bind-port as well")
        checkLinks(check)
        checkFilters(check)
        return found
    }

    private func checkAddresses(_ check: (Bool, String, @autoclosure () -> String) -> Void) {
        for (field, other, cidr, wantsIPv6) in [("ip4", "ip6", ip4, false), ("ip6", "ip4", ip6, true)] {
            guard let cidr else { continue }
            let family = cidr.address.isIPv6 ? "IPv6" : "IPv4"
            check(cidr.address.isIPv6 == wantsIPv6, field, "\(cidr) is an \(family) address; give it as \(other)")
            check(
                !cidr.address.isMulticast && !cidr.address.isUnspecified, field, "\(cidr) cannot be a device's address")
        }
        for (field, other, gateway, wantsIPv6) in [
            ("gateway4", "gateway6", gateway4, false), ("gateway6", "gateway4", gateway6, true),
        ] {
            guard let gateway else { continue }
            let family = gateway.isIPv6 ? "IPv6" : "IPv4"
            check(gateway.isIPv6 == wantsIPv6, field, "\(gateway) is an \(family) address; give it as \(other)")
        }
    }

    private func checkMTU(_ check: (Bool, String, @autoclosure () -> String) -> Void) {
        guard let mtu else { return }
        let highest = device == .tap ? 1430 : 1444
        check(
            (576...highest).contains(mtu), "mtu",
            "\(mtu) is not from 576 to \(highest), the most that a peer reads from one datagram (\(device.rawValue))")
        check(
            mtu >= 1280 || (ip6 == nil && !routes.contains { $0.address.isIPv6 }), "mtu",
            "\(mtu) is below 1280, which IPv6 needs; raise it or take ip6 and the IPv6 routes away")
    }

    private func checkLinks(_ check: (Bool, String, @autoclosure () -> String) -> Void) {
        check(links.count <= Self.maximumLinks, "link", "\(links.count) links are more than \(Self.maximumLinks)")
        for (index, link) in links.enumerated() {
            for problem in link.problems(in: mode) {
                check(false, problem.within("link \(link.name)").field, problem.problem)
            }
            let earlier = links[..<min(index, Self.maximumLinks)]
            check(!earlier.contains { $0.name == link.name }, "link \(link.name)", "is defined twice in this tunnel")
            if let other = earlier.first(where: { $0.bind.collides(with: link.bind) }) {
                check(
                    false, "link \(link.name): bind",
                    "\(link.bind) is taken by link \(other.name); give each its own port")
            }
        }
    }

    private func checkFilters(_ check: (Bool, String, @autoclosure () -> String) -> Void) {
        check(
            filters.count <= Self.maximumFilters, "filter",
            "\(filters.count) filters are more than \(Self.maximumFilters)")
        for filter in filters {
            check(!filter.links.isEmpty, "filter", "\(quoted(filter.expression)) names no link")
            for name in filter.links {
                check(
                    links.contains { $0.name == name }, "filter",
                    "\(name) is no link of this tunnel; its links are \(links.map(\.name.text).joined(separator: ", "))"
                )
            }
            check(!filter.expression.isEmpty, "filter", "has an empty expression")
            let maximum = FilterDefinition.maximumExpressionBytes
            check(
                filter.expression.utf8.count <= maximum, "filter",
                "has an expression of more than \(maximum) bytes")
        }
    }

    public static let maximumLinks = 32
    /// As many as stock takes; each costs every packet a run of its program.
    public static let maximumFilters = 255

    /// What `self` cannot share with `others`: its name, its interface, its ports, its monitoring sockets.
    public func conflicts(with others: some Sequence<TunnelDefinition>) -> [DefinitionError] {
        var found: [DefinitionError] = []
        for other in others {
            if other.name == name { found.append(DefinitionError("name", "tunnel \(name) exists already")) }
            if other.interface == interface {
                found.append(
                    DefinitionError("interface", "\(interface) is in use by tunnel \(other.name); choose another"))
            }
            if let path = monitoring.unixPath, path == other.monitoring.unixPath {
                found.append(
                    DefinitionError("control-unix-path", "\(path) is in use by tunnel \(other.name); choose another"))
            }
            if let place = monitoring.listensOn, other.monitoring.listensOn?.collides(with: place) ?? false {
                found.append(
                    DefinitionError(
                        "control-bind-port", "port \(place.port ?? 0) is in use by tunnel \(other.name); choose another"
                    ))
            }
            for link in links {
                for taken in other.links where link.bind.collides(with: taken.bind) {
                    found.append(
                        DefinitionError(
                            "link \(link.name)",
                            "bind: port \(link.bind.port ?? 0) is in use by tunnel \(other.name), link \(taken.name)"))
                }
            }
        }
        return found
    }
}

extension LinkDefinition {
    func problems(in mode: TunnelMode) -> [DefinitionError] {
        var found: [DefinitionError] = []
        if mode == .server && bind.port == nil {
            found.append(DefinitionError("bind", "a server's link needs a port; write bind=HOST:PORT or bind=:PORT"))
        }
        if mode == .client && remote == nil {
            found.append(DefinitionError("remote", "a client's link needs the server; write remote=HOST:PORT"))
        }
        if case .address(let local) = bind.host, case .address(let far) = remote?.host, local.isIPv6 != far.isIPv6 {
            found.append(DefinitionError("remote", "\(far) and bind \(local) are of different address families"))
        }
        if case .address(let far) = remote?.host, far.isUnspecified || far.isMulticast {
            found.append(DefinitionError("remote", "\(far) is no address to send to"))
        }
        if let limit, let problem = Self.limitProblem(limit) { found.append(DefinitionError("limit", problem)) }
        if case .bytesPerSecond(let rate) = bandwidth, !(1...Rate.maximum).contains(rate) {
            found.append(
                DefinitionError(
                    "bandwidth", "\(rate) is not from 1 to \(Rate.maximum) bytes/s; give such a rate or auto"))
        }
        if let timeout, !(2...86400).contains(timeout) {
            found.append(DefinitionError("timeout", "\(timeout) is not from 2 to 86400 seconds"))
        }
        if let lossTolerance, !(0...100).contains(lossTolerance) {
            found.append(DefinitionError("loss-tolerance", "\(lossTolerance) is not from 0 to 100 percent"))
        }
        if let latencyTolerance, !(0...60000).contains(latencyTolerance) {
            found.append(DefinitionError("latency-tolerance", "\(latencyTolerance) is not from 0 to 60000 ms"))
        }
        return found
    }
}

extension LinkDefinition {
    static let limits: ClosedRange<UInt64> = 1000...Rate.maximum

    static func limitProblem(_ limit: UInt64) -> String? {
        limits.contains(limit)
            ? nil : "\(limit) is not from \(limits.lowerBound) to \(limits.upperBound) bytes per second"
    }

    /// A rate that a link can be shaped to, in bytes per second.
    static func parseLimit(_ text: String, field: String) throws(DefinitionError) -> UInt64 {
        let limit = try Rate.parse(text, field: field)
        if let problem = limitProblem(limit) { throw DefinitionError(field, problem) }
        return limit
    }
}

extension BindAddress {
    /// Whether two sockets cannot be bound to these at once: equal ports, and equal hosts or a wildcard.
    func collides(with other: BindAddress) -> Bool {
        guard let port, port == other.port else { return false }
        func isWildcard(_ host: Host?) -> Bool {
            if case .address(let address) = host { address.isUnspecified } else { host == nil }
        }
        return isWildcard(host) || isWildcard(other.host) || host == other.host
    }
}

/// What the kernel's `sun_path` holds, less its final NUL.
let maximumSocketPathBytes = 107

/// What keeps `path` from being an absolute path that means what it shows.
func pathProblems(_ path: String, field: String, maximumBytes: Int = 4000) -> [DefinitionError] {
    if !path.hasPrefix("/") { return [DefinitionError(field, "\(quoted(path)) is not an absolute path")] }
    if path.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f }) {
        return [DefinitionError(field, "\(quoted(path)) holds control characters")]
    }
    if path.split(separator: "/").contains("..") {
        return [DefinitionError(field, "\(quoted(path)) holds '..'; give the path without it")]
    }
    if path.utf8.count > maximumBytes {
        return [DefinitionError(field, "\(quoted(path)) is longer than \(maximumBytes) bytes")]
    }
    return []
}
