import TunnelModel

/// What a script is run with; the same context means the same tunnel in its eyes.
struct ScriptContext: Equatable, Sendable {
    var path: String
    var interface: String
    /// `NAME=value`, as mlvpn(8) lists them.
    var environment: [String]

    /// Nil for a tunnel without a status command.
    init?(_ definition: TunnelDefinition) {
        guard let path = definition.statusCommand else { return nil }
        self.path = path
        interface = definition.interface.text
        let routes = definition.routes.map(\.network)
        func list(_ isIPv6: Bool) -> String {
            routes.filter { $0.address.isIPv6 == isIPv6 }.map(\.description).joined(separator: " ")
        }
        environment = [
            "IP4=\(definition.ip4?.description ?? "")",
            "IP6=\(definition.ip6?.description ?? "")",
            "IP4_GATEWAY=\(definition.gateway4?.description ?? "")",
            "IP6_GATEWAY=\(definition.gateway6?.description ?? "")",
            "IP4_ROUTES=\(list(false))",
            "IP6_ROUTES=\(list(true))",
            "DEVICE=\(interface)",
            "MTU=\(definition.effectiveMTU)",
        ]
    }
}

/// One run of a script.
struct ScriptEvent: Equatable, Sendable {
    var context: ScriptContext
    /// `rtun_up adsl1`, `tuntap_down`.
    var arguments: [String]
}

/// What the scripts have been told, and what they are still to be told.
///
/// It compares states and keeps no queue: however fast links flap while a script runs, at most two events per link wait.
/// rtun_up comes before tuntap_up, rtun_down before tuntap_down; links take their turns in the order of their changes.
/// When the context changes (another script, device or address), the old one is told that all is down, then the new one
/// what is up; likewise when the device is made again.
struct ScriptLedger {
    private var context: ScriptContext?
    private var toldLinks: Set<LinkName> = []
    private var toldDevice = false

    private var wantedContext: ScriptContext?
    private var wantedLinks: Set<LinkName> = []
    /// Links by their last change, oldest first.
    private var order: [LinkName] = []
    /// All is told to be down before anything else.
    private var startsOver = false

    init() {}

    /// Takes over from a predecessor: links that are up, and what it had told.
    init(context: ScriptContext?, linksUp: [LinkName], toldLinks: [LinkName], toldDevice: Bool) {
        self.context = context
        wantedContext = context
        wantedLinks = Set(linksUp)
        order = toldLinks + linksUp.filter { !toldLinks.contains($0) }
        if context != nil {
            self.toldLinks = Set(toldLinks)
            self.toldDevice = toldDevice
        }
    }

    /// For a successor; nothing while another definition's work is being undone, so that this one's is done.
    var told: (links: [LinkName], device: Bool) {
        guard context == wantedContext else { return ([], false) }
        return (order.filter { toldLinks.contains($0) }, toldDevice)
    }

    mutating func set(_ context: ScriptContext?) { wantedContext = context }

    mutating func set(_ link: LinkName, isUp: Bool) {
        guard wantedLinks.contains(link) != isUp else { return }
        if isUp { wantedLinks.insert(link) } else { wantedLinks.remove(link) }
        order.removeAll { $0 == link }
        order.append(link)
    }

    /// Links that the definition no longer has are down.
    mutating func keep(only links: Set<LinkName>) {
        for link in order where !links.contains(link) { set(link, isUp: false) }
    }

    mutating func allDown() {
        for link in order { set(link, isUp: false) }
    }

    /// Whether an event is of the script, device and addresses in force.
    func isCurrent(_ event: ScriptEvent) -> Bool { event.context == wantedContext }

    /// The device is another one: scripts are told that all is down, then what is up.
    mutating func startOver() { startsOver = toldDevice || !toldLinks.isEmpty }

    /// The next run, counted as told; nil when there is nothing to tell.
    mutating func next() -> ScriptEvent? {
        let target = context == wantedContext && !startsOver ? wantedLinks : []
        if let context {
            if !toldDevice, toldLinks.contains(where: target.contains) {
                toldDevice = true
                return ScriptEvent(context: context, arguments: ["tuntap_up"])
            }
            if let link = order.first(where: { toldLinks.contains($0) != target.contains($0) }) {
                let isUp = target.contains(link)
                if isUp { toldLinks.insert(link) } else { toldLinks.remove(link) }
                return ScriptEvent(context: context, arguments: [isUp ? "rtun_up" : "rtun_down", link.text])
            }
            if toldDevice, toldLinks.isEmpty {
                toldDevice = false
                return ScriptEvent(context: context, arguments: ["tuntap_down"])
            }
        }
        order.removeAll { !wantedLinks.contains($0) }
        guard startsOver || context != wantedContext else { return nil }
        startsOver = false
        context = wantedContext
        return next()
    }
}
