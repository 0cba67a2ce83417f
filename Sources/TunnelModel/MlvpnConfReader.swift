/// Turns a file's sections into a definition.
struct MlvpnConfReader {
    typealias Section = MlvpnConfFile.Section
    typealias Entry = MlvpnConfFile.Entry

    var file: MlvpnConfFile
    /// Every link's section, whether it can be used or not.
    var sections: [LinkName: Section] = [:]
    var usableLinks: Set<LinkName> = []

    init(file: MlvpnConfFile) { self.file = file }

    var report: ConfReport { file.report }

    /// nil only if the report holds errors; it may hold errors otherwise too.
    mutating func definition(
        named name: TunnelName, checkFilter: (String, DeviceKind) throws(DefinitionError) -> Void
    ) -> TunnelDefinition? {
        guard let general = file.general else {
            file.report.fail(nil, "there is no section [general], which must hold at least mode and password")
            return nil
        }
        let mode = mode(general)
        let password = password(general)
        let interface = interface(general)
        let links = links(mode)
        let device = device(general)
        let filters = filters(device, checkFilter)
        guard let mode, let password, let interface else { return nil }

        var definition = TunnelDefinition(name: name, mode: mode, interface: interface, password: password)
        definition.device = device
        readAddresses(general, &definition)
        readTuning(general, &definition)
        readHostSettings(general, &definition)
        definition.links = links
        definition.filters = filters
        for problem in definition.problems { report(problem, general) }
        return definition
    }

    // MARK: - [general]

    private mutating func mode(_ general: Section) -> TunnelMode? {
        guard let entry = present("mode", in: general, mandatory: "write mode = server or mode = client") else {
            return nil
        }
        if let mode = TunnelMode(rawValue: entry.value.word) { return mode }
        file.fault(
            entry.line, "mode: \(quoted(entry.value.word)) is neither server nor client",
            lenient: "client is used, as in MLVPN")
        return .client
    }

    private mutating func password(_ general: Section) -> Password? {
        let what = "write password = \"…\", the same at both ends"
        guard let entry = present("password", in: general, mandatory: what) else { return nil }
        // The key is derived from the very bytes that stock would read, or a stock peer would have another.
        let bytes = entry.value.packed
        if bytes.contains(0x09) {
            file.report.warn(
                entry.line, "password: a tab is taken as a part of the password, as in MLVPN; use spaces around it")
        } else if !bytes.elementsEqual(entry.value.spaced.utf8) {
            file.report.warn(
                entry.line,
                "password: spaces outside double quotes are left out, as in MLVPN; to have them counted at both ends, "
                    + "put the password in quotes")
        }
        do {
            return try Password(bytes)
        } catch {
            file.report.fail(entry.line, error.description)
            return nil
        }
    }

    private mutating func interface(_ general: Section) -> InterfaceName? {
        let entry = general.entries["interface_name"]
        var text = entry?.value.word ?? ""
        if text.isEmpty { text = MlvpnConf.stockInterface }
        if text.utf8.count > InterfaceName.maximumBytes {
            let cut = String(decoding: text.utf8.prefix(InterfaceName.maximumBytes), as: UTF8.self)
            file.fault(
                entry?.line, "interface_name: \(quoted(text)) is longer than the kernel's limit of 15 bytes",
                lenient: "\(cut) is used, as in MLVPN")
            text = cut
        }
        do {
            return try InterfaceName(text)
        } catch {
            file.report.fail(entry?.line, "interface_name: \(error.problem)")
            return nil
        }
    }

    private mutating func device(_ general: Section) -> DeviceKind {
        guard let entry = present("tuntap", in: general) else { return .tun }
        if let device = DeviceKind(rawValue: entry.value.word) { return device }
        file.fault(
            entry.line, "tuntap: \(quoted(entry.value.word)) is neither tun nor tap",
            lenient: "tap is used, as in MLVPN")
        return .tap
    }

    private mutating func readAddresses(_ general: Section, _ definition: inout TunnelDefinition) {
        func cidr(_ field: String, isIPv6: Bool) -> (String) throws(DefinitionError) -> CIDR {
            { text throws(DefinitionError) in
                let cidr = try CIDR(text, field: field)
                if cidr.address.isIPv6 != isIPv6 {
                    throw DefinitionError(field, "\(cidr) is an \(isIPv6 ? "IPv4" : "IPv6") address")
                }
                return cidr
            }
        }
        func address(_ field: String) -> (String) throws(DefinitionError) -> IPAddress {
            { text throws(DefinitionError) in
                guard let address = IPAddress(text) else {
                    throw DefinitionError(field, "\(quoted(text)) is no address without a prefix length")
                }
                return address
            }
        }
        definition.ip4 = value("ip4", in: general, cidr("ip4", isIPv6: false))
        definition.ip6 = value("ip6", in: general, cidr("ip6", isIPv6: true))
        definition.gateway4 = value("ip4_gateway", in: general, address("ip4_gateway"))
        definition.gateway6 = value("ip6_gateway", in: general, address("ip6_gateway"))
        definition.routes =
            routes("ip4_routes", in: general, standard: "0.0.0.0/0", cidr("ip4_routes", isIPv6: false))
            + routes("ip6_routes", in: general, standard: "::/0", cidr("ip6_routes", isIPv6: true))
        definition.mtu = value("mtu", in: general, otherwise: "the MTU that fits the links is used") {
            text throws(DefinitionError) in
            var trial = definition
            trial.mtu = try parseNumber(text, in: 0...65535, field: "mtu")
            if let problem = trial.problems.first(where: { $0.field == "mtu" }) { throw problem }
            return trial.mtu ?? 0
        }
    }

    private mutating func routes(
        _ key: String, in section: Section, standard: String, _ parse: (String) throws(DefinitionError) -> CIDR
    ) -> [CIDR] {
        guard let entry = present(key, in: section) else { return [] }
        var routes: [CIDR] = []
        for text in entry.value.spaced.split(whereSeparator: { $0 == " " || $0 == "," }) {
            do throws(DefinitionError) {
                routes.append(try parse(text == "default" ? standard : String(text)))
            } catch {
                file.fault(entry.line, error.description, lenient: "this route is left out")
            }
        }
        return routes
    }

    private mutating func readTuning(_ general: Section, _ definition: inout TunnelDefinition) {
        definition.timeout =
            number("timeout", in: general, 2...86400, otherwise: MlvpnConf.stockTimeout) ?? MlvpnConf.stockTimeout
        definition.lossTolerance = number("loss_tolerance", in: general, 0...100, otherwise: 100) ?? 100
        definition.latencyTolerance = number("latency_tolerance", in: general, 0...60000, otherwise: 1000) ?? 1000
        if let entry = present("reorder_buffer_size", in: general) {
            switch entry.value.word {
            case "auto": definition.reorder = .auto
            case "off": definition.reorder = .off
            default:
                let hint = "auto, off or a number of packets"
                switch number("reorder_buffer_size", in: general, 0...65536, otherwise: 0, hint: hint) ?? 0 {
                case 0: definition.reorder = .off
                case let count: definition.reorder = .packets(count)
                }
            }
        }
        let scheduler = value("scheduler", in: general, otherwise: "adaptive is used") {
            text throws(DefinitionError) in
            if let scheduler = Scheduler(rawValue: text) { return scheduler }
            let known = Scheduler.allCases.map(\.rawValue).joined(separator: ", ")
            throw DefinitionError("scheduler", "\(quoted(text)) is none of \(known)")
        }
        definition.scheduler = scheduler ?? .adaptive
        definition.cleartextData = flag("cleartext_data", in: general) ?? false
        definition.clampMSS = flag("clamp_mss", in: general) ?? true
        definition.offloads = OffloadSwitches(
            device: flag("offload_device", in: general) ?? true,
            udpSegment: flag("offload_udp_segment", in: general) ?? true,
            udpGRO: flag("offload_udp_gro", in: general) ?? true)
    }

    /// What belongs to this host and not to the tunnel: the script and the monitoring sockets.
    private mutating func readHostSettings(_ general: Section, _ definition: inout TunnelDefinition) {
        definition.statusCommand = path(
            "statuscommand", in: general, maximumBytes: 4000, otherwise: "no script is run")
        definition.monitoring.unixPath = path(
            "control_unix_path", in: general, maximumBytes: maximumSocketPathBytes, otherwise: "there is no such socket"
        )
        definition.monitoring.bindPort = value(
            "control_bind_port", in: general, otherwise: "nothing listens on TCP"
        ) { text throws(DefinitionError) in try parsePort(text, field: "control_bind_port") }
        let host = value("control_bind_host", in: general, otherwise: "nothing listens on TCP") {
            text throws(DefinitionError) in try Host(text, field: "control_bind_host")
        }
        if let entry = present("control_bind_host", in: general) {
            if host == nil {
                definition.monitoring.bindPort = nil
            } else if definition.monitoring.bindPort == nil {
                file.fault(
                    entry.line, "control_bind_host needs a control_bind_port as well", lenient: "nothing listens on TCP"
                )
            } else {
                definition.monitoring.bindHost = host
            }
        }
    }

    private mutating func path(
        _ key: String, in section: Section, maximumBytes: Int, otherwise: String
    ) -> String? {
        value(key, in: section, otherwise: otherwise) { text throws(DefinitionError) in
            if let problem = pathProblems(text, field: key, maximumBytes: maximumBytes).first { throw problem }
            return text
        }
    }

    // MARK: - What the definition as a whole gets wrong

    private mutating func report(_ problem: DefinitionError, _ general: Section) {
        let parts = problem.field.split(separator: ": ", maxSplits: 1).map(String.init)
        let key = Self.keys[parts.last ?? ""]
        for (name, section) in sections where parts.first == "link \(name)" {
            let line = key.flatMap { keys in keys.compactMap { section.entries[$0]?.line }.first } ?? section.line
            file.report.fail(line, "[\(section.name)] \(key?.first ?? "link"): \(problem.problem)")
            return
        }
        let line = key.flatMap { keys in keys.compactMap { general.entries[$0]?.line }.first }
        file.report.fail(line, "\(key?.first ?? problem.field): \(problem.problem)")
    }

    /// The keys of a definition's fields, the likeliest culprit first.
    static let keys = [
        "ip4": ["ip4"], "ip6": ["ip6"], "gateway4": ["ip4_gateway"], "gateway6": ["ip6_gateway"], "mtu": ["mtu"],
        "timeout": ["timeout"], "loss-tolerance": ["loss_tolerance"], "latency-tolerance": ["latency_tolerance"],
        "status-command": ["statuscommand"], "control-unix-path": ["control_unix_path"],
        "control-bind-host": ["control_bind_host"], "bind": ["bindport", "bindhost"], "remote": ["remotehost"],
        "bandwidth": ["bandwidth_upload"], "limit": ["bandwidth_limit"],
    ]
}
