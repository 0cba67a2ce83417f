import LinuxSystem
import Logging
import ProcessChannel
import Store
import TunnelModel

// What the engine shows becomes history, and events for those who follow them.

extension TunnelDirectory {
    /// Reads the engine's events and hands them on.
    ///
    /// - Parameter now: nil: when this begins, which may be later than when it was asked for.
    func drainEngineEvents(now: Int64? = nil) {
        let now = now ?? wall()
        let batch = state.events(after: eventsRead)
        eventsRead = batch.read
        if batch.lost > 0 {
            logger.warning("\(batch.lost) events of the engine were overwritten before they could be read")
        }
        var history: [HistoryEvent] = []
        for var event in batch.events {
            // Nothing has happened before there were clocks, or after now, whatever the engine says.
            event.time = min(max(event.time, 0), now)
            event.lastHeard = min(max(event.lastHeard, 0), now)
            guard let (entry, link) = subject(of: event) else { continue }
            if let link { history += historyEvents(event, entry, link) }
        }
        recorder.append(history, eventsRead: eventsRead)
    }

    /// Once a second: whatever the events did not tell is taken from the state map, and the batch is written.
    func tick(_ clocks: LifeSign.Clocks? = nil) async {
        let clocks = clocks ?? .read()
        let now = clocks.wall
        drainEngineEvents(now: now)
        let alive = lifeSign.look(heartbeat: state.header.heartbeat, clocks)
        if HistoryWriter.isAlive(alive, now: now) {
            if !hasSight { expectLinks(now: now) }
            hasSight = true
            reconcile(now: now)
        }
        if await recorder.flush(alive: alive, now: now) {
            known = known.mapValues { _ in .unknown }
            hasSight = false
        }
        publishRecorded()
    }

    /// Hands what was recorded since the last time to those who follow it.
    private func publishRecorded() {
        guard let latest = try? store.latestChange() else { return }
        if hub.hasFollowers, latest > published,
            let changes = try? store.changes(after: published, limit: EventHub.backlog)
        {
            hub.publish(changes)
        }
        published = latest
    }

    /// After a time of which nothing is known: a link that is down says nothing of itself.
    func expectLinks(now: Int64) {
        for entry in entries.values where entry.definition.enabled {
            recorder.append(
                entry.definition.links.map { link in
                    let grace = Int64(entry.definition.timeout(of: link)) * 1000
                    return HistoryEvent(entry.subject(link.name), at: now, .defined(grace: grace))
                })
        }
    }

    /// A state that history does not have: its event was lost, or is of a time that nobody saw.
    private func reconcile(now: Int64) {
        var history: [HistoryEvent] = []
        var found: [LinkSubject: HistoryState] = [:]
        for entry in entries.values where entry.definition.enabled {
            for (name, slot) in entry.linkSlots {
                guard let record = state.link(slot), let current = record.linkState.map(HistoryState.init) else {
                    continue
                }
                let subject = entry.subject(name)
                let before = known[subject] ?? .unknown
                guard current.isUp || before.isUp, current != before else { continue }
                let at = before == .unknown ? now : min(max(record.since, 0), now)
                let lastHeard = record.lastHeard > 0 ? min(record.lastHeard, now) : nil
                found[subject] = current
                history.append(
                    HistoryEvent(
                        subject, at: at,
                        .changed(
                            from: before, to: current, lastHeard: lastHeard,
                            reason: LinkReason(rawValue: record.reason)?.word ?? "")))
            }
        }
        // What happened since the events were read tells of itself, and why, with the next ones.
        guard state.eventCount == eventsRead else { return }
        known.merge(found) { $1 }
        recorder.append(history)
    }

    private func subject(of event: StateMap.Event) -> (TunnelEntry, LinkName?)? {
        guard let entry = entry(at: event.slot) else { return nil }
        if event.kind == 2 { return (entry, nil) }
        return entry.linkSlots.first { $0.value == event.linkSlot }.map { (entry, $0.key) }
    }

    private func historyEvents(_ event: StateMap.Event, _ entry: TunnelEntry, _ link: LinkName) -> [HistoryEvent] {
        guard let next = LinkState(rawValue: event.state), let previous = LinkState(rawValue: event.previousState)
        else { return [] }
        let subject = entry.subject(link)
        let reason = LinkReason(rawValue: event.reason) ?? .none
        let from = HistoryState(previous)
        switch reason {
        case .shutdown, .reconfigured:
            known[subject] = .unknown
            let stopped = HistoryEvent(subject, at: event.time, .stopped(from: from, reason: reason.word))
            guard reason == .reconfigured, entry.definition.enabled,
                let definition = entry.definition.links.first(where: { $0.name == link })
            else { return [stopped] }
            let grace = Int64(entry.definition.timeout(of: definition)) * 1000
            return [stopped, HistoryEvent(subject, at: event.time, .defined(grace: grace))]
        default:
            known[subject] = HistoryState(next)
            return [
                HistoryEvent(
                    subject, at: event.time,
                    .changed(
                        from: from, to: HistoryState(next), lastHeard: event.lastHeard > 0 ? event.lastHeard : nil,
                        reason: reason.word))
            ]
        }
    }

    /// What each link shows; to be recorded every ten seconds.
    func samples() -> [LinkSample] {
        entries.values.filter(\.definition.enabled).flatMap { entry in
            entry.linkSlots.compactMap { name, slot in
                state.link(slot).map { LinkSample(entry.subject(name), $0) }
            }
        }
    }
}

extension LinkSample {
    fileprivate init(_ subject: LinkSubject, _ record: StateMap.LinkRecord) {
        let isUp = record.linkState?.isUp ?? false
        self.init(
            subject: subject, txTotal: Int64(clamping: record.txBytes), rxTotal: Int64(clamping: record.rxBytes),
            samples: isUp ? 1 : 0, srttMicroseconds: isUp && record.smoothedRTT > 0 ? Int64(record.smoothedRTT) : nil,
            lossPermille: isUp ? Int64(min(record.lossPermille, 1000)) : nil)
    }
}

extension HistoryState {
    init(_ state: LinkState) {
        switch state {
        case .down: self = .down
        case .connecting: self = .connecting
        case .up: self = .up
        case .lossy: self = .lossy
        case .slow: self = .slow
        }
    }
}
