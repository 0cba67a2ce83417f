import ProcessChannel
import Store
import TunnelModel

/// One tunnel as control knows it: what it was told to be, and where its state is found.
struct TunnelEntry: Sendable {
    /// In force, or about to be.
    var stored: StoredTunnel
    /// The state map's places, once the supervisor has given them.
    var slot: Slot?
    var linkSlots: [LinkName: Slot] = [:]
    /// The generation that the supervisor has acknowledged.
    var acknowledged: UInt64 = 0
    /// When it was last changed or reloaded, milliseconds since 1970; 0: not since control was started.
    var reloadedAt: Int64 = 0
    /// What keeps it, or a link of it, from working.
    var deviceProblem: String?
    var monitoringProblem: String?
    var linkProblems: [LinkName: String] = [:]
    /// What is wrong with its rows, which were changed since; the definition above stays in force.
    var rejected: [DefinitionError] = []

    var definition: TunnelDefinition { stored.definition }
    /// Of the tunnel as a whole.
    var problem: String? {
        let all = [deviceProblem, monitoringProblem].compactMap { $0 }
        return all.isEmpty ? nil : all.joined(separator: "; ")
    }
    var generation: UInt64 { UInt64(clamping: stored.version) }

    /// Of links that are not defined any more, nothing is to be seen, whatever the supervisor still has of them.
    mutating func forgetFormerLinks() {
        let names = Set(definition.links.map(\.name))
        linkSlots = linkSlots.filter { names.contains($0.key) }
        linkProblems = linkProblems.filter { names.contains($0.key) }
    }

    func subject(_ link: LinkName) -> LinkSubject {
        LinkSubject(tunnel: definition.name.text, link: link.text)
    }
}

/// A tunnel and what the engine shows of it, at one time.
struct TunnelSnapshot: Sendable {
    var entry: TunnelEntry
    /// Nil while it has no place in the state map.
    var record: StateMap.TunnelRecord?
    /// In the order of the definition.
    var links: [(definition: LinkDefinition, record: StateMap.LinkRecord?)]

    init(_ entry: TunnelEntry, _ state: StateReader) {
        self.entry = entry
        record = entry.slot.flatMap(state.tunnel)
        links = entry.definition.links.map { ($0, entry.linkSlots[$0.name].flatMap(state.link)) }
    }

    var definition: TunnelDefinition { entry.definition }

    /// `up`, `down` or `disabled`.
    var state: String {
        guard definition.enabled else { return "disabled" }
        return links.contains { $0.record?.linkState?.isUp ?? false } ? "up" : "down"
    }

    func state(of link: StateMap.LinkRecord?) -> LinkState {
        definition.enabled ? link?.linkState ?? .down : .down
    }
}
