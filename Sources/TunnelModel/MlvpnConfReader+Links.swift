/// The sections that are links, and the filters that choose among them.
extension MlvpnConfReader {
    mutating func links(_ mode: TunnelMode?) -> [LinkDefinition] {
        let maximum = TunnelDefinition.maximumLinks
        if file.links.count > maximum {
            file.report.fail(
                file.links[maximum].line,
                "this is link \(maximum + 1); a tunnel has at most \(maximum), and \(file.links.count) are here")
            return []
        }
        var links: [LinkDefinition] = []
        for section in file.links {
            guard let name = linkName(section.name, section.line) else { continue }
            sections[name] = section
            guard var link = link(name, section, mode), isPossible(&link, beside: links, section, mode) else {
                continue
            }
            links.append(link)
            usableLinks.insert(name)
        }
        return links
    }

    /// A link that cannot be keeps no other from running: to stock, too, it is one that never comes up.
    private mutating func isPossible(
        _ link: inout LinkDefinition, beside earlier: [LinkDefinition], _ section: Section, _ mode: TunnelMode?
    ) -> Bool {
        if let other = earlier.first(where: { $0.bind.collides(with: link.bind) }) {
            let problem =
                "[\(section.name)] bindport: \(link.bind) is taken by link \(other.name); give each its own port"
            let line = section.entries["bindport"]?.line ?? section.line
            // Without a bindhost, stock's client does not heed it at all.
            file.fault(
                line, problem, lenient: mode == .client ? "the kernel chooses one" : "the link is left out")
            if mode != .client { return false }
            link.bind.port = nil
        }
        guard let problem = link.problems(in: mode ?? .client).first else { return true }
        let entry = Self.keys[problem.field]?.compactMap { section.entries[$0] }.first
        // A server answers whoever asks.
        let goesOn = mode == .server && problem.field == "remote"
        if goesOn { link.remote = nil }
        file.fault(
            entry?.line ?? section.line, "[\(section.name)] \(entry?.key ?? problem.field): \(problem.problem)",
            lenient: goesOn ? "the remote end is not set" : "the link is left out")
        return goesOn
    }

    private mutating func link(_ name: LinkName, _ section: Section, _ mode: TunnelMode?) -> LinkDefinition? {
        let left = "the link is left out"
        var link = LinkDefinition(name: name)
        var isUsable = true
        let host = value("bindhost", in: section, otherwise: left) { text throws(DefinitionError) in
            try Host(text, field: "bindhost")
        }
        isUsable = isUsable && (host != nil || !isSet("bindhost", in: section))
        // Stock leaves it to the kernel, which is no place for clients to find.
        let isAny = mode == .client && section.entries["bindport"]?.value.word == "0"
        let bindPort = value("bindport", in: section, otherwise: isAny ? "the kernel chooses one" : left) {
            text throws(DefinitionError) in try parsePort(text, field: "bindport")
        }
        isUsable = isUsable && (bindPort != nil || isAny || !isSet("bindport", in: section))
        if mode == .server {
            let what = "a server's link needs one; write bindport = 5080"
            isUsable = present("bindport", in: section, mandatory: what) != nil && isUsable
        }
        link.bind = BindAddress(host: host, port: bindPort)
        if let entry = present("bindfib", in: section) {
            file.fault(
                entry.line, "bindfib has no effect on Linux; give bindhost and route by source address (ip rule)",
                lenient: "it is ignored")
        }
        link.remote = remote(section, mode, &isUsable)
        readTuning(section, &link)
        return isUsable ? link : nil
    }

    private mutating func remote(_ section: Section, _ mode: TunnelMode?, _ isUsable: inout Bool) -> HostPort? {
        let isClient = mode == .client
        let otherwise = isClient ? "the link is left out" : "the remote end is not set"
        let host = value("remotehost", in: section, otherwise: otherwise) { text throws(DefinitionError) in
            try Host(text, field: "remotehost")
        }
        let port = value("remoteport", in: section, otherwise: otherwise) { text throws(DefinitionError) in
            try parsePort(text, field: "remoteport")
        }
        if isClient {
            let what = "a client's link needs the server; write remotehost = HOST and remoteport = 5080"
            let hasHost = present("remotehost", in: section, mandatory: what) != nil
            let hasPort = present("remoteport", in: section, mandatory: what) != nil
            isUsable = isUsable && hasHost && hasPort && host != nil && port != nil
        }
        if let host, let port { return HostPort(host: host, port: port) }
        let lone = host == nil ? ("remoteport", "remotehost") : ("remotehost", "remoteport")
        if !isClient, (host == nil) != (port == nil), let entry = present(lone.0, in: section),
            !isSet(lone.1, in: section)
        {
            file.fault(entry.line, "\(lone.0) needs a \(lone.1) as well", lenient: "it is ignored")
        }
        return nil
    }

    private mutating func readTuning(_ section: Section, _ link: inout LinkDefinition) {
        let bandwidth = value("bandwidth_upload", in: section, otherwise: "auto is used") {
            text throws(DefinitionError) in
            text == "0" || text == "auto"
                ? Bandwidth.auto : .bytesPerSecond(try Rate.parse(text, field: "bandwidth_upload"))
        }
        link.bandwidth = bandwidth ?? .auto
        let limit = value("bandwidth_limit", in: section, otherwise: "the link is not shaped") {
            text throws(DefinitionError) in
            text == "0" || text == "none" ? UInt64?.none : try LinkDefinition.parseLimit(text, field: "bandwidth_limit")
        }
        link.limit = limit ?? nil
        link.timeout = number("timeout", in: section, 2...86400, otherwise: nil)
        link.lossTolerance = number("loss_tolerance", in: section, 0...100, otherwise: nil)
        link.latencyTolerance = number("latency_tolerance", in: section, 0...60000, otherwise: nil)
        link.fallback = flag("fallback_only", in: section) ?? false
    }

    private mutating func linkName(_ text: String, _ line: Int) -> LinkName? {
        do throws(DefinitionError) {
            return try LinkName(text)
        } catch {
            if file.strictness == .lenient, let name = try? LinkName(tamedName(text)) {
                file.report.warn(line, "\(error); it is called \(name) here")
                return name
            }
            file.report.fail(line, error.description)
            return nil
        }
    }

    // MARK: - [filters]

    mutating func filters(
        _ device: DeviceKind, _ check: (String, DeviceKind) throws(DefinitionError) -> Void
    ) -> [FilterDefinition] {
        let maximum = TunnelDefinition.maximumFilters
        if file.filters.count > maximum {
            file.report.fail(
                file.filters[maximum].line,
                "this is filter \(maximum + 1); a tunnel has at most \(maximum), and \(file.filters.count) are here")
            return []
        }
        var filters: [FilterDefinition] = []
        for entry in file.filters {
            let links = filterLinks(entry)
            let expression = entry.value.spaced
            if expression.isEmpty {
                file.fault(entry.line, "filter: there is no expression after '='", lenient: "the filter is ignored")
                continue
            }
            do throws(DefinitionError) {
                if expression.utf8.count > FilterDefinition.maximumExpressionBytes {
                    throw DefinitionError(
                        "filter", "the expression is longer than \(FilterDefinition.maximumExpressionBytes) bytes")
                }
                try check(expression, device)
            } catch {
                file.fault(entry.line, error.description, lenient: "the filter is ignored, as in MLVPN")
                continue
            }
            if !links.isEmpty { filters.append(FilterDefinition(links: links, expression: expression)) }
        }
        return filters
    }

    /// The links on a filter's left side that exist; one that is left out has been told of already.
    private mutating func filterLinks(_ entry: Entry) -> [LinkName] {
        var links: [LinkName] = []
        for text in entry.key.split(separator: ",", omittingEmptySubsequences: false) {
            let text = String(decoding: ConfText.trimmed(Array(text.utf8)[...]), as: UTF8.self)
            let name = (try? LinkName(text)) ?? (try? LinkName(tamedName(text)))
            if let name, sections[name] != nil {
                if usableLinks.contains(name), !links.contains(name) { links.append(name) }
            } else {
                let known = sections.keys.sorted().map(\.text)
                file.fault(
                    entry.line,
                    "filter: \(quoted(text)) is no link; the links are \(known.joined(separator: ", "))",
                    lenient: "it gets no packets by this filter")
            }
        }
        return links
    }
}
