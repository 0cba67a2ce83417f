/// Stock MLVPN's configuration file, one tunnel each: read by `mlvpn -c`, `import` and the API, written by `export`.
public enum MlvpnConf {
    /// What becomes of lines that stock ignores or reads as something else than they say.
    public enum Strictness: Sendable {
        /// They are warned of, and what stock makes of them is taken: `mlvpn -c`.
        case lenient
        /// They are errors: `import` and the API.
        case strict
    }

    /// The tunnel that `text` defines, and what its author should know.
    ///
    /// A key that is absent takes this project's default, but `timeout` stock's: whoever wrote the file had that.
    ///
    /// - Parameters:
    ///   - tunnelName: the file does not hold it.
    ///   - checkFilter: throws for an expression that does not compile for the device.
    /// - Throws: every error of the file, by line. `definition.problems` is empty otherwise.
    public static func parse(
        _ text: some Collection<UInt8>, tunnelName: TunnelName, strictness: Strictness,
        checkFilter: (String, DeviceKind) throws(DefinitionError) -> Void = { _, _ throws(DefinitionError) in }
    ) throws(ConfError) -> (definition: TunnelDefinition, warnings: [ConfNotice]) {
        let content = try read(text, tunnelName: tunnelName, strictness: strictness, checkFilter: checkFilter)
        return (content.definition, content.warnings)
    }

    /// What a file holds.
    public struct Content: Sendable {
        public var definition: TunnelDefinition
        /// What its author should know.
        public var warnings: [ConfNotice]
        /// The keys of [general] that it sets.
        public var keys: Set<String>
    }

    /// As ``parse(_:tunnelName:strictness:checkFilter:)``, and which keys there are.
    public static func read(
        _ text: some Collection<UInt8>, tunnelName: TunnelName, strictness: Strictness,
        checkFilter: (String, DeviceKind) throws(DefinitionError) -> Void = { _, _ throws(DefinitionError) in }
    ) throws(ConfError) -> Content {
        var file = MlvpnConfFile(strictness: strictness)
        file.read(try ConfText(text))
        var reader = MlvpnConfReader(file: file)
        let definition = reader.definition(named: tunnelName, checkFilter: checkFilter)
        let (whole, warnings) = try reader.report.finish(definition)
        return Content(definition: whole, warnings: warnings, keys: Set((file.general?.entries ?? [:]).keys))
    }

    /// What stock's code uses for a file without the key (its manual says 30).
    static let stockTimeout = 60
    static let stockInterface = "mlvpn0"

    static let generalKeys = [
        "mode", "password", "statuscommand", "interface_name", "tuntap", "timeout", "cleartext_data",
        "reorder_buffer_size", "loss_tolerance", "latency_tolerance", "ip4", "ip6", "ip4_gateway", "ip6_gateway",
        "ip4_routes", "ip6_routes", "mtu", "control_unix_path", "control_bind_host", "control_bind_port", "scheduler",
        "clamp_mss", "offload_device", "offload_udp_segment", "offload_udp_gro",
    ]
    static let linkKeys = [
        "bindhost", "bindport", "bindfib", "remotehost", "remoteport", "bandwidth_upload", "bandwidth_limit", "timeout",
        "loss_tolerance", "latency_tolerance", "fallback_only",
    ]
    /// Keys of MLVPN 1.x, and what replaced them.
    static let formerKeys = [
        "protocol": "is gone since MLVPN 2: the links speak UDP only; remove the line",
        "loglevel": "is gone since MLVPN 2: give -v, -q or --debug on the command line; remove the line",
        "logfile": "is gone since MLVPN 2: messages go to syslog, or with --debug to the terminal; remove the line",
        "bandwidth_download":
            "is gone since MLVPN 2: set bandwidth_upload at the other end of the link; remove the line",
    ]
    /// The C code knows the second spelling only, the manual the first only.
    static let respelledKeys = ["loss_tolerence": "loss_tolerance", "latency_tolerence": "latency_tolerance"]
}

/// A file's sections, as the keys of one tunnel: what is unknown, repeated or misplaced is reported and gone.
struct MlvpnConfFile {
    struct Entry {
        var key: String
        var line: Int
        var value: RawValue
    }

    struct Section {
        var name: String
        /// Where it begins.
        var line: Int
        var entries: [String: Entry] = [:]
        /// Keys of lines that were left out, by line.
        var ignored: [String: Int] = [:]
    }

    let strictness: MlvpnConf.Strictness
    var report = ConfReport()
    private(set) var general: Section?
    /// In the order of their first lines.
    private(set) var links: [Section] = []
    /// Key: the links; in order.
    private(set) var filters: [Entry] = []

    private enum Place { case nowhere, general, filters, link(Int) }
    private var place = Place.nowhere
    private var linkIndex: [String: Int] = [:]
    private var filtersLine: Int?

    init(strictness: MlvpnConf.Strictness) { self.strictness = strictness }

    /// Something that stock goes on after: a warning that ends with what is done, or an error.
    mutating func fault(_ line: Int?, _ text: String, lenient consequence: String) {
        switch strictness {
        case .lenient: report.warn(line, "\(text); \(consequence)")
        case .strict: report.fail(line, text)
        }
    }

    mutating func read(_ text: ConfText) {
        for line in text.lines {
            if report.isHopeless {
                report.fail(line.number, "the rest is not read, so much is wrong; is this file an mlvpn.conf?")
                break
            }
            switch line.content {
            case .section(let name, let trailingText):
                open(name, line.number)
                if trailingText { fault(line.number, "holds text after ']'; remove it", lenient: "it is ignored") }
            case .entry(let key, let value):
                add(Entry(key: MlvpnConf.respelledKeys[key] ?? key, line: line.number, value: value), spelled: key)
            case .fault(let text, let key):
                fault(line.number, text, lenient: "the line is ignored")
                if let key { noteIgnored(MlvpnConf.respelledKeys[key] ?? key, line.number) }
            }
        }
        for index in links.indices where links[index].entries.isEmpty && links[index].ignored.isEmpty {
            fault(links[index].line, "section [\(links[index].name)] is empty", lenient: "it is ignored")
        }
        links.removeAll { $0.entries.isEmpty && $0.ignored.isEmpty }
    }

    private mutating func open(_ name: String, _ line: Int) {
        func repeated(_ first: Int) {
            fault(
                line, "section [\(name)] began on line \(first) already; write it once",
                lenient: "both are read as one, as in MLVPN")
        }
        if name == "general" {
            place = .general
            if let general { repeated(general.line) } else { general = Section(name: name, line: line) }
        } else if name.hasPrefix("filters") {
            place = .filters
            if name != "filters" {
                fault(
                    line, "section [\(cut(name))] is one of filters to MLVPN; name no link so, or write [filters]",
                    lenient: "it is read as [filters]")
            }
            if let filtersLine { repeated(filtersLine) } else { filtersLine = line }
        } else if let index = linkIndex[name] {
            place = .link(index)
            repeated(links[index].line)
        } else {
            place = .link(links.count)
            linkIndex[name] = links.count
            links.append(Section(name: name, line: line))
        }
    }

    private mutating func add(_ entry: Entry, spelled key: String) {
        if entry.value.hasOpenQuote {
            fault(
                entry.line, "\(cut(key)): a double quote is not closed",
                lenient: "the value goes to the end of the line")
        }
        switch place {
        case .nowhere:
            fault(
                entry.line, "\(cut(key)) stands before the first section; put it below [general] or a link's section",
                lenient: "the line is ignored")
        case .filters: filters.append(entry)
        case .general:
            if let general, admits(entry, spelled: key, to: general, known: MlvpnConf.generalKeys) {
                self.general?.entries[entry.key] = entry
            }
        case .link(let index):
            if admits(entry, spelled: key, to: links[index], known: MlvpnConf.linkKeys) {
                links[index].entries[entry.key] = entry
            }
        }
    }

    private mutating func admits(_ entry: Entry, spelled key: String, to section: Section, known: [String]) -> Bool {
        if let text = MlvpnConf.formerKeys[key] {
            fault(entry.line, "\(key) \(text)", lenient: "it is ignored")
            return false
        }
        guard known.contains(entry.key) else {
            fault(
                entry.line, "\(cut(key)) is no key of [\(cut(section.name))]\(whereItBelongs(key, known))",
                lenient: "it is ignored")
            return false
        }
        if entry.value.hasBareEqualsSign {
            fault(
                entry.line, "\(key): a second '=' needs double quotes around the value",
                lenient: "the line is ignored, as in MLVPN")
            noteIgnored(entry.key, entry.line)
            return false
        }
        if let first = section.entries[entry.key] {
            // Both spellings with one value is how a file is made that every version reads.
            if first.value.word != entry.value.word {
                fault(
                    entry.line, "\(key) is set on line \(first.line) already; write it once",
                    lenient: "the first counts, as in MLVPN")
            }
            return false
        }
        return true
    }

    private func whereItBelongs(_ key: String, _ known: [String]) -> String {
        let key = MlvpnConf.respelledKeys[key] ?? key
        if MlvpnConf.generalKeys.contains(key) { return "; it belongs below [general]" }
        if MlvpnConf.linkKeys.contains(key) { return "; it belongs below the section of a link" }
        return suggestion(for: key, among: known)
    }

    private mutating func noteIgnored(_ key: String, _ line: Int) {
        switch place {
        case .nowhere, .filters: break
        case .general: general?.ignored[key] = line
        case .link(let index): links[index].ignored[key] = line
        }
    }

    private func cut(_ key: String) -> String { key.utf8.count <= 40 ? key : quoted(key) }
}
