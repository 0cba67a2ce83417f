extension MlvpnConf {
    /// `definition` as an mlvpn.conf for the end that plays `role`.
    ///
    /// For the definition's own mode the file holds all that the format can: reading it gives the definition back, but
    /// for its name and whether it is enabled. For the other mode it is the file of the peer: addresses and ports change
    /// sides, and what only this host knows (script, sockets, bandwidths, routes) is left to the peer's operator.
    ///
    /// - Parameter remoteHost: where the peer finds this server; nil: where each link is bound. Only for a client's file
    ///   made from a server's definition.
    /// - Throws: when the format cannot carry a value (a password with a double quote), or the address of the server is
    ///   not known.
    public static func write(
        _ definition: TunnelDefinition, for role: TunnelMode, remoteHost: String? = nil
    ) throws(DefinitionError) -> String {
        var writer = MlvpnConfWriter()
        if definition.mode == role {
            try writer.write(definition, isPeer: false)
        } else {
            let host: Host? = if let remoteHost { try Host(remoteHost, field: "remote") } else { nil }
            try writer.write(try definition.peer(reachedAt: host), isPeer: true)
        }
        return writer.text
    }
}

extension TunnelDefinition {
    /// The other end of this tunnel, as far as this one knows it.
    func peer(reachedAt host: Host?) throws(DefinitionError) -> TunnelDefinition {
        var peer = self
        peer.mode = mode == .server ? .client : .server
        // Stock's default MTU is too large for a path of 1500 bytes, and both ends must fit the same links.
        peer.mtu = effectiveMTU
        peer.ip4 = ip4.flatMap { $0.peer(gateway: gateway4) }
        peer.ip6 = ip6.flatMap { $0.peer(gateway: gateway6) }
        peer.gateway4 = peer.ip4 == nil ? nil : ip4?.address
        peer.gateway6 = peer.ip6 == nil ? nil : ip6?.address
        peer.routes = []
        peer.statusCommand = nil
        peer.monitoring = Monitoring()
        peer.links = []
        for link in links {
            do throws(DefinitionError) {
                let isPortShared = links.count { $0.remote?.port == link.remote?.port } > 1
                peer.links.append(
                    try mode == .server ? link.clientEnd(reachedAt: host) : link.serverEnd(isPortShared: isPortShared))
            } catch {
                throw error.within("link \(link.name)")
            }
        }
        if let problem = peer.problems.first {
            throw DefinitionError(problem.field, "at the \(peer.mode)'s end, \(problem.problem)")
        }
        return peer
    }
}

extension LinkDefinition {
    fileprivate func clientEnd(reachedAt given: Host?) throws(DefinitionError) -> LinkDefinition {
        guard let port = bind.port else { throw DefinitionError("bind", "has no port for the client to send to") }
        var host = given ?? bind.host
        if case .address(let address) = host, address.isUnspecified { host = nil }
        guard let host else {
            throw DefinitionError(
                "bind", "is the wildcard, so the client needs the server's public address; give it with --remote HOST")
        }
        var end = peerEnd
        end.remote = HostPort(host: host, port: port)
        return end
    }

    /// Bound to the wildcard, since a server's public address need not be its own; to the address where links share a port.
    fileprivate func serverEnd(isPortShared: Bool) throws(DefinitionError) -> LinkDefinition {
        guard let remote else { throw DefinitionError("remote", "is not set, so the server's port is not known") }
        var end = peerEnd
        end.bind = BindAddress(host: isPortShared ? remote.host : nil, port: remote.port)
        return end
    }

    /// What both ends have in common. Bandwidth and limit are those of one direction only.
    private var peerEnd: LinkDefinition {
        var end = self
        end.bind = BindAddress()
        end.remote = nil
        end.bandwidth = .auto
        end.limit = nil
        return end
    }
}

extension CIDR {
    /// The peer's address on this network: the gateway, or the other one of a network with two addresses to use.
    fileprivate func peer(gateway: IPAddress?) -> CIDR? {
        var peer = self
        if let gateway {
            peer.address = gateway
            return peer
        }
        switch (address, address.bitWidth - prefixLength) {
        case (.v4(let value), 1): peer.address = .v4(value ^ 1)
        case (.v6(let high, let low), 1): peer.address = .v6(high, low ^ 1)
        // A /30 or /126 without its first and its last address: 01 and 10.
        case (.v4(let value), 2) where value & 3 == 1 || value & 3 == 2: peer.address = .v4(value ^ 3)
        case (.v6(let high, let low), 2) where low & 3 == 1 || low & 3 == 2: peer.address = .v6(high, low ^ 3)
        default: return nil
        }
        return peer
    }
}

/// Writes the keys of one file.
private struct MlvpnConfWriter {
    private(set) var text = ""

    mutating func write(_ tunnel: TunnelDefinition, isPeer: Bool) throws(DefinitionError) {
        line("# MLVPN tunnel \(tunnel.name), \(tunnel.mode.rawValue). It holds the password: owner root, mode 0600.")
        line("[general]")
        try set("mode", tunnel.mode.rawValue)
        try set("password", password(tunnel.password))
        try set("interface_name", tunnel.interface.text)
        try set("tuntap", tunnel.device.rawValue)
        try writeAddresses(tunnel, isPeer)
        line("timeout = \(tunnel.timeout)")
        line("reorder_buffer_size = \(tunnel.reorder == .off ? "0" : tunnel.reorder.description)")
        // The spelling that MLVPN's code knows; its manual's is read here too.
        line("loss_tolerence = \(tunnel.lossTolerance)")
        line("latency_tolerence = \(tunnel.latencyTolerance)")
        try set("scheduler", tunnel.scheduler.rawValue)
        line("cleartext_data = \(tunnel.cleartextData ? 1 : 0)")
        if !tunnel.clampMSS { line("clamp_mss = 0") }
        if !tunnel.offloads.device { line("offload_device = 0") }
        if !tunnel.offloads.udpSegment { line("offload_udp_segment = 0") }
        if !tunnel.offloads.udpGRO { line("offload_udp_gro = 0") }
        try writeHostSettings(tunnel, isPeer)
        // Ahead of the links, where stock's own example has them.
        try writeFilters(tunnel.filters, isPeer)
        for link in tunnel.links { try write(link, tunnel.mode, isPeer) }
    }

    private mutating func writeAddresses(_ tunnel: TunnelDefinition, _ isPeer: Bool) throws(DefinitionError) {
        let addresses: [(String, String?, String)] = [
            ("ip4", tunnel.ip4?.description, "10.42.0.2/30"), ("ip6", tunnel.ip6?.description, "2001:db8::2/64"),
            ("ip4_gateway", tunnel.gateway4?.description, "10.42.0.1"),
            ("ip6_gateway", tunnel.gateway6?.description, "2001:db8::1"),
        ]
        for (key, value, example) in addresses {
            if let value {
                try set(key, value)
            } else if isPeer {
                line("#\(key) = \"\(example)\"")
            }
        }
        for (key, isIPv6) in [("ip4_routes", false), ("ip6_routes", true)] {
            let routes = tunnel.routes.filter { $0.address.isIPv6 == isIPv6 }
            if !routes.isEmpty { try set(key, routes.map(\.description).joined(separator: " ")) }
        }
        if isPeer { line("#ip4_routes = \"0.0.0.0/0\"") }
        if let mtu = tunnel.mtu { line("mtu = \(mtu)") }
    }

    private mutating func writeHostSettings(_ tunnel: TunnelDefinition, _ isPeer: Bool) throws(DefinitionError) {
        if let command = tunnel.statusCommand { try set("statuscommand", command) }
        if isPeer {
            line("# MLVPN configures its device by a script only:")
            line("#statuscommand = \"/etc/mlvpn/mlvpn_updown.sh\"")
        }
        if let path = tunnel.monitoring.unixPath { try set("control_unix_path", path) }
        if let host = tunnel.monitoring.bindHost { try set("control_bind_host", host.description) }
        if let port = tunnel.monitoring.bindPort { line("control_bind_port = \(port)") }
    }

    private mutating func writeFilters(_ filters: [FilterDefinition], _ isPeer: Bool) throws(DefinitionError) {
        if filters.isEmpty { return }
        line("")
        line("[filters]")
        for filter in filters {
            let expression = trimmingSpace(filter.expression.map { $0.isWhitespace ? " " : String($0) }.joined())
            let names = filter.links.map(\.text)
            // One line for several links is ours; for stock the same is said by a line each.
            for name in isPeer ? names : [names.joined(separator: ",")] { try set(name, expression) }
        }
    }

    private mutating func write(_ link: LinkDefinition, _ mode: TunnelMode, _ isPeer: Bool) throws(DefinitionError) {
        if link.name.text == "general" || link.name.text.hasPrefix("filters") {
            throw DefinitionError(
                "link \(link.name)", "has a name that means another section in mlvpn.conf; it cannot be exported")
        }
        line("")
        line("[\(link.name)]")
        if let host = link.bind.host {
            try set("bindhost", host.description)
        } else if mode == .server {
            line("# Every address; MLVPN listens on none unless it is told:")
            line("#bindhost = \"0.0.0.0\"")
        }
        if let port = link.bind.port { line("bindport = \(port)") }
        if let remote = link.remote {
            try set("remotehost", remote.host.description)
            line("remoteport = \(remote.port)")
        }
        if case .bytesPerSecond(let rate) = link.bandwidth {
            line("bandwidth_upload = \(rate)")
        } else if isPeer {
            line("# Bytes per second that this end can send; MLVPN needs it where links differ:")
            line("#bandwidth_upload = 1250000")
        }
        if let limit = link.limit { line("bandwidth_limit = \(limit)") }
        if let timeout = link.timeout { line("timeout = \(timeout)") }
        if let percent = link.lossTolerance { line("loss_tolerence = \(percent)") }
        if let milliseconds = link.latencyTolerance { line("latency_tolerence = \(milliseconds)") }
        if link.fallback { line("fallback_only = 1") }
    }

    private func password(_ password: Password) throws(DefinitionError) -> String {
        // The error must not show the password, so it is checked here and not by `set`.
        let text = String(decoding: password.bytes, as: UTF8.self)
        if let problem = Self.obstacle(text) {
            throw DefinitionError(
                "password", "\(problem), which mlvpn.conf cannot carry; set another password to export")
        }
        return text
    }

    private mutating func set(_ key: String, _ value: String) throws(DefinitionError) {
        if let problem = Self.obstacle(value) {
            throw DefinitionError(key, "\(quoted(value)) \(problem), which mlvpn.conf cannot carry")
        }
        if value.contains("[") {
            line("# MLVPN takes the '[' below for a section; only this project's mlvpn reads the next line.")
        }
        line("\(key) = \"\(value)\"")
    }

    /// Why quoting does not keep `value` as it is.
    private static func obstacle(_ value: String) -> String? {
        if value.utf8.contains(where: { $0 >= 0x80 }) { return "holds bytes that are not ASCII" }
        if value.contains("\"") { return "holds a double quote" }
        if value.utf8.contains(where: { $0 == 0 || $0 == 10 || $0 == 13 }) { return "holds a line break or NUL" }
        return value.hasPrefix(" ") || value.hasSuffix(" ") ? "begins or ends with a space" : nil
    }

    private mutating func line(_ line: String) {
        text += line
        text += "\n"
    }
}
