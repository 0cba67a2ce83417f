import AdminAPI
import ArgumentParser
import TunnelModel

/// The flags of add-tunnel and set-tunnel, which are the fields of a definition.
struct TunnelFlags: ParsableArguments {
    @Option(
        help: ArgumentHelp("server or client.", valueName: "mode"),
        completion: .list(TunnelMode.allCases.map(\.rawValue)))
    var mode: String?
    @Option(help: ArgumentHelp("The device's name, at most 15 bytes.", valueName: "if"))
    var interface: String?
    @Flag(help: "An Ethernet device (tap) instead of an IP device (tun).")
    var tap = false

    @Option(help: ArgumentHelp("A file that holds the password.", valueName: "file"), completion: .file())
    var passwordFile: String?
    @Flag(help: "Read the password from standard input.")
    var passwordStdin = false
    @Flag(help: "Make a password, and print it once.")
    var generatePassword = false

    @Option(help: ArgumentHelp("The device's IPv4 address.", valueName: "cidr"))
    var ip4: String?
    @Option(help: ArgumentHelp("The device's IPv6 address.", valueName: "cidr"))
    var ip6: String?
    @Option(name: .customLong("gateway4"), help: ArgumentHelp("The other end's IPv4 address.", valueName: "address"))
    var gateway4: String?
    @Option(name: .customLong("gateway6"), help: ArgumentHelp("The other end's IPv6 address.", valueName: "address"))
    var gateway6: String?
    @Option(help: ArgumentHelp("A network behind the other end; may be repeated.", valueName: "cidr"))
    var route: [String] = []
    @Option(help: ArgumentHelp("Inner MTU in bytes.", valueName: "n"))
    var mtu: Int?
    @Option(help: ArgumentHelp("Seconds without a sign of life before a link is down.", valueName: "s"))
    var timeout: Int?
    @Option(help: ArgumentHelp("Packets held to restore their order, auto, or off.", valueName: "n"))
    var reorder: String?
    @Option(help: ArgumentHelp("Percent of loss above which a link leaves the bond; 100: off.", valueName: "p"))
    var lossTolerance: Int?
    @Option(help: ArgumentHelp("Round-trip time above which a link leaves the bond; 1000: off.", valueName: "ms"))
    var latencyTolerance: Int?
    @Option(
        help: ArgumentHelp("wrr, adaptive, redundant or failover.", valueName: "scheduler"),
        completion: .list(Scheduler.allCases.map(\.rawValue)))
    var scheduler: String?
    @Flag(help: "Do not encrypt what is tunnelled.")
    var cleartextData = false
    @Option(help: ArgumentHelp("The script that runs on events.", valueName: "path"), completion: .file())
    var statusCommand: String?
    @Option(help: ArgumentHelp("A link, NAME,bind=…; may be repeated, and replaces all links.", valueName: "spec"))
    var link: [String] = []
    @Option(
        help: ArgumentHelp("A filter, LINK=EXPR; may be repeated, and replaces all filters.", valueName: "link=expr"))
    var filter: [String] = []
    @Flag(help: "Keep it defined, and do not run it.")
    var disabled = false

    @Option(help: ArgumentHelp("A UNIX socket for MLVPN's monitoring.", valueName: "path"))
    var controlUnixPath: String?
    @Option(help: ArgumentHelp("Where MLVPN's monitoring listens on TCP.", valueName: "host"))
    var controlBindHost: String?
    @Option(help: ArgumentHelp("The port of MLVPN's monitoring.", valueName: "port"))
    var controlBindPort: Int?
    @Flag(help: "Clamp the MSS of TCP connections to what fits (default).")
    var clampMSS = false
    @Flag(help: "Use the device's segmentation offloads (default).")
    var deviceOffload = false
    @Flag(help: "Send with UDP_SEGMENT (default).")
    var udpSegment = false
    @Flag(help: "Receive with UDP_GRO (default).")
    var udpGro = false

    @OptionGroup(title: "To unset, or set to the default")
    var unset: UnsetFlags

    /// The fields that were named, as a request's body.
    ///
    /// - Returns: with them, the password that was generated.
    func fields() throws -> (members: [String: JSONValue], generated: Password?) {
        var members: [String: JSONValue] = [:]
        func set(_ key: String, _ value: String?) { if let value { members[key] = .string(value) } }
        func set(_ key: String, _ value: Int?) { if let value { members[key] = JSONValue(value) } }
        func set(_ key: String, _ flag: Bool) { if flag { members[key] = .bool(true) } }
        func set(_ key: String, _ list: [String]) {
            if !list.isEmpty { members[key] = .array(list.map(JSONValue.string)) }
        }
        set("mode", mode)
        set("interface", interface)
        set("tap", tap)
        set("ip4", ip4)
        set("ip6", ip6)
        set("gateway4", gateway4)
        set("gateway6", gateway6)
        set("route", route)
        set("mtu", mtu)
        set("timeout", timeout)
        set("reorder", reorder)
        set("loss_tolerance", lossTolerance)
        set("latency_tolerance", latencyTolerance)
        set("scheduler", scheduler)
        set("cleartext_data", cleartextData)
        set("status_command", statusCommand)
        set("links", link)
        set("filters", filter)
        set("disabled", disabled)
        set("control_unix_path", controlUnixPath)
        set("control_bind_host", controlBindHost)
        set("control_bind_port", controlBindPort)
        set("clamp_mss", clampMSS)
        set("device_offload", deviceOffload)
        set("udp_segment", udpSegment)
        set("udp_gro", udpGro)
        for (key, value) in unset.fields {
            if members[key] != nil {
                throw ValidationError("--\(UnsetFlags.flag(key)) and --no-\(UnsetFlags.flag(key)) exclude each other")
            }
            members[key] = value
        }
        let password = try password()
        if let password { members.merge(JSONValue.password(password)) { _, new in new } }
        return (members, generatePassword ? password : nil)
    }

    private func password() throws -> Password? {
        switch [passwordFile != nil, passwordStdin, generatePassword].filter(\.self).count {
        case 0: return nil
        case 1: break
        default:
            throw ValidationError("give one of --password-file, --password-stdin and --generate-password")
        }
        return generatePassword ? try Secrets.generate() : try Secrets.read(path: passwordFile)
    }
}

/// `--no-FLAG` for each flag: back to the default, or to none.
struct UnsetFlags: ParsableArguments {
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noMode = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noInterface = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noTap = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noIp4 = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noIp6 = false
    @Flag(name: .customLong("no-gateway4"), help: ArgumentHelp(visibility: .hidden)) var noGateway4 = false
    @Flag(name: .customLong("no-gateway6"), help: ArgumentHelp(visibility: .hidden)) var noGateway6 = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noRoute = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noMtu = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noTimeout = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noReorder = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noLossTolerance = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noLatencyTolerance = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noScheduler = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noCleartextData = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noStatusCommand = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noLink = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noFilter = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noDisabled = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noControlUnixPath = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noControlBindHost = false
    @Flag(help: ArgumentHelp(visibility: .hidden)) var noControlBindPort = false
    @Flag(help: "Leave the MSS of TCP connections alone.") var noClampMSS = false
    @Flag(help: "Use no segmentation offloads of the device.") var noDeviceOffload = false
    @Flag(help: "Send without UDP_SEGMENT.") var noUdpSegment = false
    @Flag(help: "Receive without UDP_GRO.") var noUdpGro = false

    /// The fields that were named: null for the default, false for what is on by default.
    var fields: [(key: String, value: JSONValue)] {
        let named: [(String, Bool, JSONValue)] = [
            ("mode", noMode, .null), ("interface", noInterface, .null), ("tap", noTap, .bool(false)),
            ("ip4", noIp4, .null), ("ip6", noIp6, .null), ("gateway4", noGateway4, .null),
            ("gateway6", noGateway6, .null),
            ("route", noRoute, .null), ("mtu", noMtu, .null), ("timeout", noTimeout, .null),
            ("reorder", noReorder, .null), ("loss_tolerance", noLossTolerance, .null),
            ("latency_tolerance", noLatencyTolerance, .null), ("scheduler", noScheduler, .null),
            ("cleartext_data", noCleartextData, .bool(false)), ("status_command", noStatusCommand, .null),
            ("links", noLink, .null), ("filters", noFilter, .null), ("disabled", noDisabled, .bool(false)),
            ("control_unix_path", noControlUnixPath, .null), ("control_bind_host", noControlBindHost, .null),
            ("control_bind_port", noControlBindPort, .null), ("clamp_mss", noClampMSS, .bool(false)),
            ("device_offload", noDeviceOffload, .bool(false)), ("udp_segment", noUdpSegment, .bool(false)),
            ("udp_gro", noUdpGro, .bool(false)),
        ]
        return named.filter(\.1).map { ($0.0, $0.2) }
    }

    /// The flag that sets a field.
    static func flag(_ key: String) -> String {
        switch key {
        case "links": "link"
        case "filters": "filter"
        default: String(key.map { $0 == "_" ? "-" : $0 })
        }
    }
}
