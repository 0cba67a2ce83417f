import AdminAPI
import ProcessChannel
import TunnelModel

extension TunnelSummary {
    init(_ snapshot: TunnelSnapshot) {
        let definition = snapshot.definition
        self.init(
            name: definition.name.text, mode: definition.mode.rawValue, interface: definition.interface.text,
            state: snapshot.state, linksUp: snapshot.links.filter { snapshot.state(of: $0.record).isUp }.count,
            links: snapshot.links.count)
    }
}

extension TunnelStatus {
    init(_ snapshot: TunnelSnapshot) {
        let entry = snapshot.entry
        let refusal =
            snapshot.record?.isSchedulerRefused == 1
            ? "scheduler redundant is refused: the peer does not drop copies, as stock MLVPN does not; adaptive is used"
            : nil
        let rejection = entry.rejected.map(\.description).joined(separator: "; ")
        self.init(
            name: entry.definition.name.text, interface: entry.definition.interface.text, state: snapshot.state,
            since: Timestamp.optionalText(snapshot.record?.since ?? 0),
            // The device's view turned round: what it was given has come out of the tunnel.
            rxBytes: snapshot.record?.deviceTxBytes ?? 0, txBytes: snapshot.record?.deviceRxBytes ?? 0,
            problem: rejection.isEmpty
                ? entry.problem ?? refusal : "the database holds what cannot be run: \(rejection)",
            links: snapshot.links.map { LinkStatus($0.definition, $0.record, in: snapshot) })
        offloads = ["tso", "uso", "vnet_hdr"].named(by: snapshot.record?.offloads ?? 0)
    }
}

extension [String] {
    /// Those whose bit is set, bit 0 being the first's.
    fileprivate func named(by bits: UInt8) -> [String] {
        indices.filter { bits & 1 << UInt8($0) != 0 }.map { self[$0] }
    }
}

extension LinkStatus {
    init(_ definition: LinkDefinition, _ record: StateMap.LinkRecord?, in snapshot: TunnelSnapshot) {
        self.init(
            name: definition.name.text, state: snapshot.state(of: record).word,
            bind: definition.bind == BindAddress() ? nil : definition.bind.description,
            remote: definition.remote?.description)
        problem = snapshot.entry.linkProblems[definition.name]
        guard let record else { return }
        since = Timestamp.optionalText(record.since)
        peer = record.peer.isNone ? nil : record.peer.description
        rttMS = record.smoothedRTT > 0 ? Double(record.smoothedRTT) / 1000 : nil
        lossPercent = Double(min(record.lossPermille, 1000)) / 10
        rateBPS = record.capacity > 0 ? min(record.capacity, 1 << 60) * 8 : nil
        rxBytes = record.rxBytes
        txBytes = record.txBytes
        lastHeard = Timestamp.optionalText(record.lastHeard)
        offloads = ["gso", "gro"].named(by: record.offloads)
    }
}
