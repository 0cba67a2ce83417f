import AdminAPI
import LinuxSystem
import Logging
import ProcessChannel
import Store
import TunnelModel

/// Brings what runs in line with what is defined: reads definitions from the store, sends them to the supervisor, and
/// knows what became of them.
///
/// A definition's generation is its version in the database: a restart of control changes nothing that runs.
actor TunnelDirectory {
    private let executor = BlockingExecutor(label: "tunnels")
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    let store: Store
    let state: StateReader
    let recorder: Recorder
    let hub: EventHub
    let logger: Logger
    let host: HostResources
    let filters = FilterPrograms()
    /// Milliseconds since 1970.
    let wall: @Sendable () -> Int64
    let send: @Sendable (ControlRequest, [Descriptor]) -> Void

    var entries: [Int64: TunnelEntry] = [:]
    /// Whose a place in the state map is.
    private var owners: [Slot: Int64] = [:]
    /// Rows that never made a tunnel.
    private(set) var rejected: [RejectedTunnel] = []
    /// Those of them that the supervisor may be running, as they were defined before this process began.
    private var kept: Set<Int64> = []
    /// The state that history has for a link.
    var known: [LinkSubject: HistoryState] = [:]
    var lifeSign = LifeSign()
    var eventsRead: UInt64 = 0
    /// The number of the latest recorded change that followers have.
    var published: Int64 = 0
    /// Whether the data plane shows life; until it first has, nothing is recorded that would have to be undone.
    var hasSight = true
    /// What tunnels held until a moment ago, and until when it may still be there.
    var released: [(claims: HostClaims, until: UInt64)] = []
    private var waiters: [(id: Int64, generation: UInt64, continuation: CheckedContinuation<Void, Never>)] = []

    init(
        store: Store, state: StateReader, recorder: Recorder, hub: EventHub, logger: Logger,
        host: HostResources = .system, wall: @escaping @Sendable () -> Int64 = Clock.wallMilliseconds,
        send: @escaping @Sendable (ControlRequest, [Descriptor]) -> Void
    ) {
        self.store = store
        self.state = state
        self.recorder = recorder
        self.hub = hub
        self.logger = logger
        self.host = host
        self.wall = wall
        self.send = send
    }

    /// Reads every definition and sends it. What the supervisor runs beyond these, it ends; a tunnel whose rows cannot be
    /// run as they stand goes on as it was.
    ///
    /// - Parameter eventsRead: how many of the engine's events history has; nil: nothing that it has is of this time.
    func start(eventsRead: UInt64?) throws(StoreError) {
        self.eventsRead = eventsRead ?? 0
        known = eventsRead == nil ? [:] : try store.currentStates()
        published = try store.latestChange()
        let report = try reload(names: nil, dryRun: false)
        kept = Set(rejected.map(\.id).prefix(StateMap.tunnelCapacity))
        loseSight(of: Set(rejected.map(\.name)))
        send(.ready(kept: kept.sorted()), [])
        logger.notice(
            "definitions loaded", metadata: ["tunnels": "\(entries.count)", "rejected": "\(report.rejected.count)"])
    }

    /// Tunnels that may go on as they were, without a definition here by which they could be observed.
    private func loseSight(of names: Set<String>) {
        let now = wall()
        for (subject, state) in known where names.contains(subject.tunnel) && state != .unknown {
            known[subject] = .unknown
            recorder.append([HistoryEvent(subject, at: now, .stopped(from: state, reason: "definition refused"))])
        }
    }

    /// Compares the database with what was applied, and applies what differs.
    ///
    /// - Parameters:
    ///   - names: nil for all.
    ///   - change: how what was changed in the database by other means is recorded; nil: not at all.
    ///   - isRestored: a backup was restored: its history has its tunnels' names already.
    func reload(
        names: Set<String>?, dryRun: Bool, by change: Change? = nil, isRestored: Bool = false
    ) throws(StoreError) -> ReloadReport {
        let loaded = try store.definitions(running: entries.mapValues(\.definition))
        func isAsked(_ name: String, _ id: Int64) -> Bool {
            guard let names else { return true }
            return names.contains(name) || entries[id].map { names.contains($0.definition.name.text) } ?? false
        }
        if let names {
            let there = Set(loaded.tunnels.map(\.definition.name.text) + loaded.rejected.map(\.name))
                .union(entries.values.map(\.definition.name.text))
            if let missing = names.subtracting(there).min() { throw .noSuchTunnel(missing) }
        }
        let present = Set(loaded.tunnels.map(\.id) + loaded.rejected.map(\.id))
        var report = ReloadReport()
        // First what goes away: its interface or port may be wanted by another.
        for (id, entry) in entries.sorted(by: { $0.key < $1.key })
        where !present.contains(id) && isAsked(entry.definition.name.text, id) {
            report.removed.append(entry.definition.name.text)
            if !dryRun {
                forget(id)
                if let change { try store.record(change, from: entry.definition, to: nil) }
            }
        }
        var refused = loaded.rejected.filter { isAsked($0.name, $0.id) }
        let asked = loaded.tunnels.filter { isAsked($0.definition.name.text, $0.id) }
        let accepted = try compile(asked, &refused)
        if !dryRun {
            for id in kept.subtracting(present) { end(kept: id) }
            if !isRestored { try renameHistory(of: accepted.map(\.0)) }
        }
        for (tunnel, compiled) in accepted {
            let old = entries[tunnel.id]?.definition
            switch old {
            case nil: report.added.append(tunnel.definition.name.text)
            case tunnel.definition: report.unchanged += 1
            default: report.changed.append(tunnel.definition.name.text)
            }
            if dryRun { continue }
            try apply(tunnel, compiled)
            if let change, old != tunnel.definition { try store.record(change, from: old, to: tunnel.definition) }
        }
        report.rejected = refused.map { .init(name: $0.name, problems: $0.problems.map(\.description)) }
        if !dryRun { note(rejected: refused, present: present) }
        return report
    }

    /// Compiles what is to be applied; nil for what runs as it is defined.
    ///
    /// A tunnel that runs is not ended for a device or port that it cannot have; one that does not run yet waits for it.
    ///
    /// - Parameter refused: gets those that cannot be run, alone or on this host as it is.
    private func compile(
        _ tunnels: [StoredTunnel], _ refused: inout [RejectedTunnel]
    ) throws(StoreError) -> [(StoredTunnel, CompiledTunnel?)] {
        let running = entries.mapValues(\.definition)
        let use = hostUse(
            for: tunnels.compactMap { tunnel in
                running[tunnel.id].flatMap { old in
                    old.enabled && old != tunnel.definition ? (tunnel.definition, old) : nil
                }
            })
        var accepted: [(StoredTunnel, CompiledTunnel?)] = []
        for tunnel in tunnels {
            let old = running[tunnel.id]
            if old == tunnel.definition {
                accepted.append((tunnel, nil))
                continue
            }
            do throws(StoreError) {
                let compiled = try filters.compiled(tunnel.definition)
                let obstacles = old?.enabled == true ? self.obstacles(of: tunnel.definition, besides: old, use) : []
                if !obstacles.isEmpty { throw .refused(obstacles) }
                accepted.append((tunnel, compiled))
            } catch .refused(let problems) {
                refused.append(RejectedTunnel(id: tunnel.id, name: tunnel.definition.name.text, problems: problems))
            }
        }
        return accepted
    }

    /// Like ``reload(names:dryRun:by:isRestored:)``, with what takes long done where it holds up nobody.
    func reloadPrepared(names: Set<String>?, dryRun: Bool, by change: Change? = nil) async throws(StoreError)
        -> ReloadReport
    {
        if try store.hasFilters() {
            let tunnels = try store.definitions().tunnels.filter { names?.contains($0.definition.name.text) ?? true }
            await filters.prepare(
                tunnels.filter { entries[$0.id]?.definition.filters != $0.definition.filters }.map(\.definition))
        }
        return try reload(names: names, dryRun: dryRun, by: change)
    }

    /// How a definition is tried.
    enum Trial {
        /// By itself and beside the others: what others than us have of this host may be gone when it is added.
        case alone
        /// With what the host has in use now.
        case here
    }

    /// Stores a new tunnel and runs it.
    ///
    /// - Parameter trial: only says what would be wrong with it.
    func add(_ wanted: TunnelChange, by change: Change, trial: Trial? = nil) async throws(StoreError) -> StoredTunnel {
        var definition = try make(wanted)
        if !definition.filters.isEmpty {
            await filters.prepare([definition])
            // What was free may be taken by now.
            definition = try make(wanted)
        }
        if let trial {
            var problems = try store.problems(of: definition)
            do { _ = try filters.compiled(definition) } catch .refused(let more) { problems += more }
            if trial == .here { do { try requireFree(definition) } catch .refused(let more) { problems += more } }
            if !problems.isEmpty { throw .refused(problems) }
            return StoredTunnel(id: 0, version: 0, definition: definition)
        }
        let compiled = try filters.compiled(definition)
        try endIfGone(definition.name, by: change)
        try requireFree(definition)
        let stored = try store.add(definition, by: change)
        try await applyAndWait(stored, compiled)
        return stored
    }

    private func make(_ wanted: TunnelChange) throws(StoreError) -> TunnelDefinition {
        do throws(DefinitionError) {
            // Those in use matter to who has to choose one; who names one is told by the check.
            var taken: Set<String> = []
            if case .set = wanted.interface {} else { taken = try interfaces() }
            return try wanted.newTunnel(interfaces: taken)
        } catch {
            throw .refused([error])
        }
    }

    /// The tunnel that runs under a name was renamed or deleted with SQL: that is applied before another takes the name.
    private func endIfGone(_ name: TunnelName, by change: Change) throws(StoreError) {
        guard entries.values.contains(where: { $0.definition.name == name }),
            try !store.definitions().tunnels.contains(where: { $0.definition.name == name })
        else { return }
        _ = try reload(names: [name.text], dryRun: false, by: change)
    }

    /// Changes a tunnel and applies the change to it alone.
    func change(
        _ name: String, expectedVersion: Int64?, by change: Change,
        _ edit: (inout TunnelDefinition, Set<String>) throws -> Void
    ) async throws(StoreError) -> StoredTunnel {
        let present = try? store.tunnel(named: name)
        // No lock is held while a filter is compiled.
        if var ahead = present?.definition, (try? edit(&ahead, [])) != nil, !ahead.filters.isEmpty {
            await filters.prepare([ahead])
        }
        let interfaces = try store.interfaces().union(foreignDevices())
        // What runs of it, where a reload has refused what SQL made of it.
        let running = present.flatMap { entries[$0.id]?.definition }
        var compiled: CompiledTunnel?
        var before: TunnelDefinition?
        var renames = Renames()
        let stored = try recorder.renaming { () throws(StoreError) in
            let stored = try store.change(name, expectedVersion: expectedVersion, by: change) { definition in
                let old = definition
                before = old
                try edit(&definition, interfaces)
                compiled = try filters.compiled(definition)
                try requireFree(definition, besides: running ?? old)
                if definition.name != old.name { renames = Renames([(old.name.text, definition.name.text)]) }
            }
            // Renamed with SQL before: what is known of it has the name in force.
            if let old = entries[stored.id]?.definition.name {
                renames = old == stored.definition.name ? Renames() : Renames([(old.text, stored.definition.name.text)])
            }
            return (stored, renames)
        }
        follow(renames)
        // What was changed with SQL comes into force with this.
        if let before, let running, running != before {
            var found = change
            (found.action, found.detail) = ("reload", "with \(change.action)")
            do { try store.record(found, from: running, to: before) } catch {
                // The change is stored: it is applied all the same.
                logger.error("what SQL had changed of tunnel \(stored.definition.name) is not in the audit: \(error)")
            }
        }
        if let compiled { try await applyAndWait(stored, compiled) }
        return stored
    }

    func remove(_ name: String, expectedVersion: Int64?, by change: Change) throws(StoreError) {
        let id = try store.remove(name, expectedVersion: expectedVersion, by: change)
        rejected.removeAll { $0.id == id }
        forget(id)
        if kept.contains(id) { end(kept: id) }
    }

    /// A tunnel of which this process has no definition goes.
    private func end(kept id: Int64) {
        kept.remove(id)
        if entries[id] == nil { send(.remove(id: id), []) }
    }

    /// A backup was restored: what runs becomes what it defines, and of all links nothing is known but what is seen now.
    func takeUpRestored(by change: Change) throws(StoreError) -> ReloadReport {
        known = try store.currentStates()
        try store.record(change, of: "")
        let report = try reload(names: nil, dryRun: false, by: change, isRestored: true)
        expectLinks(now: wall())
        return report
    }

    /// What the supervisor says.
    func handle(_ notice: ControlNotice) {
        switch notice {
        case .assigned(let id, let generation, let slot, let linkSlots):
            guard entries[id] != nil else { return }
            if let old = entries[id]?.slot, owners[old] == id { owners[old] = nil }
            owners[slot] = id
            entries[id]?.slot = slot
            entries[id]?.linkSlots = Dictionary(linkSlots.map { ($0.link, $0.slot) }) { first, _ in first }
            entries[id]?.forgetFormerLinks()
            entries[id]?.acknowledged = generation
            wakeWaiters { $0 == id && $1 <= generation }
        case .problem(let id, let link, let text):
            guard let entry = entries[id] else { return }
            let place = link.map { "tunnel \(entry.definition.name), link \($0)" } ?? "tunnel \(entry.definition.name)"
            logger.info("\(place): \(text ?? "works again")")
            if let link { entries[id]?.linkProblems[link] = text } else { entries[id]?.deviceProblem = text }
        case .reload: Task { await self.reloadAll() }
        case .engineStarted(let count): logger.info("engine started", metadata: ["count": "\(count)"])
        case .removed, .welcome, .stopping, .standalone: break
        }
    }

    /// The supervisor was sent SIGHUP.
    private func reloadAll() async {
        do throws(StoreError) {
            let report = try await reloadPrepared(
                names: nil, dryRun: false, by: Change(uid: nil, action: "reload"))
            logger.notice(
                "reloaded",
                metadata: [
                    "added": "\(report.added.count)", "changed": "\(report.changed.count)",
                    "removed": "\(report.removed.count)", "rejected": "\(report.rejected.count)",
                ])
        } catch {
            logger.error("reload: \(error)")
        }
    }

    /// What keeps a tunnel's monitoring sockets closed; nil: nothing.
    func setMonitoringProblem(_ text: String?, of id: Int64) { entries[id]?.monitoringProblem = text }

    /// By name; nil for all.
    func snapshots(of name: String? = nil) throws(StoreError) -> [TunnelSnapshot] {
        let chosen = entries.values.filter { name == nil || $0.definition.name.text == name }
        if let name, chosen.isEmpty {
            guard let rows = rejected.first(where: { $0.name == name }) else { throw .noSuchTunnel(name) }
            throw .refused(rows.problems.map { $0.within("the database") })
        }
        return chosen.sorted { $0.definition.name < $1.definition.name }.map { TunnelSnapshot($0, state) }
    }

    func snapshot(of id: Int64) -> TunnelSnapshot? { entries[id].map { TunnelSnapshot($0, state) } }

    func entry(at slot: Slot) -> TunnelEntry? { owners[slot].flatMap { entries[$0] } }

    private func interfaces() throws(DefinitionError) -> Set<String> {
        do { return try store.interfaces().union(foreignDevices()) } catch {
            throw DefinitionError("", error.description)
        }
    }

    /// Of tunnels that were renamed with SQL.
    private func renameHistory(of tunnels: [StoredTunnel]) throws(StoreError) {
        var renames: [(from: String, to: String)] = []
        for tunnel in tunnels {
            guard let old = entries[tunnel.id]?.definition.name, old != tunnel.definition.name else { continue }
            renames.append((old.text, tunnel.definition.name.text))
        }
        if renames.isEmpty { return }
        let all = Renames(renames)
        try recorder.renaming { () throws(StoreError) in
            try store.renameHistory(renames)
            return ((), all)
        }
        follow(all)
    }

    /// What is known by name, after tunnels were renamed.
    private func follow(_ renames: Renames) {
        if renames.isEmpty { return }
        renames.apply(to: &known)
    }

    /// - Parameter compiled: nil when it runs as it is defined.
    private func apply(_ stored: StoredTunnel, _ compiled: CompiledTunnel?) throws(StoreError) {
        var stored = stored
        let old = entries[stored.id]
        if let old, old.definition != stored.definition, stored.version <= old.stored.version {
            // Back from a backup: a generation is never used again for something else.
            stored.version = try store.raiseVersion(of: stored.id, above: old.stored.version)
        }
        var entry = old ?? TunnelEntry(stored: stored)
        kept.remove(stored.id)
        entry.stored = stored
        if old != nil { entry.reloadedAt = wall() }
        entry.rejected = []
        entry.forgetFormerLinks()
        entries[stored.id] = entry
        guard let compiled, old?.definition != stored.definition else {
            // Edits that took each other back leave nothing for the supervisor to take up.
            if let old, old.acknowledged >= old.generation { entries[stored.id]?.acknowledged = entry.generation }
            return
        }
        noteReleased(old?.definition)
        remember(old?.definition, becomes: entry)
        send(.apply(id: stored.id, generation: entry.generation, tunnel: compiled), [])
    }

    /// Applies, and waits until the supervisor has taken it up, at most 2 seconds.
    private func applyAndWait(_ stored: StoredTunnel, _ compiled: CompiledTunnel) async throws(StoreError) {
        rejected.removeAll { $0.id == stored.id }
        try apply(stored, compiled)
        guard let entry = entries[stored.id], entry.acknowledged < entry.generation, entry.definition.enabled else {
            return
        }
        let (id, generation) = (stored.id, entry.generation)
        let timeout = Task {
            try await Task.sleep(for: .seconds(2))
            self.wakeWaiters { $0 == id && $1 == generation }
        }
        await withCheckedContinuation { waiters.append((id, generation, $0)) }
        timeout.cancel()
    }

    private func wakeWaiters(_ isMeant: (Int64, UInt64) -> Bool) {
        for waiter in waiters where isMeant(waiter.id, waiter.generation) { waiter.continuation.resume() }
        waiters.removeAll { isMeant($0.id, $0.generation) }
    }

    private func forget(_ id: Int64) {
        guard let entry = entries.removeValue(forKey: id) else { return }
        if let slot = entry.slot, owners[slot] == id { owners[slot] = nil }
        noteReleased(entry.definition)
        let now = wall()
        recorder.append(entry.definition.links.map { HistoryEvent(entry.subject($0.name), at: now, .removed) })
        for link in entry.definition.links { known[entry.subject(link.name)] = nil }
        send(.remove(id: id), [])
        wakeWaiters { waiting, _ in waiting == id }
    }

    /// - Parameters:
    ///   - all: those that were asked for; of the others in the database, `present`, what was known still is.
    private func note(rejected all: [RejectedTunnel], present: Set<Int64>) {
        let told = Set(all.map(\.id))
        rejected = (all + rejected.filter { !told.contains($0.id) && present.contains($0.id) })
            .filter { entries[$0.id] == nil }
        for tunnel in all {
            entries[tunnel.id]?.rejected = tunnel.problems
            logger.error(
                "tunnel \(quoted(tunnel.name)) cannot be run as it stands in the database",
                metadata: ["problems": "\(tunnel.problems.map(\.description).joined(separator: "; "))"])
        }
    }

    /// Tells history what a change of definition means to it.
    private func remember(_ old: TunnelDefinition?, becomes entry: TunnelEntry) {
        let now = wall()
        let new = entry.definition
        var events: [HistoryEvent] = []
        for link in old?.links ?? [] where !new.links.contains(where: { $0.name == link.name }) {
            let subject = entry.subject(link.name)
            known[subject] = nil
            events.append(HistoryEvent(subject, at: now, .removed))
        }
        for link in new.links {
            let subject = entry.subject(link.name)
            let grace = Int64(new.timeout(of: link)) * 1000
            events.append(HistoryEvent(subject, at: now, new.enabled ? .defined(grace: grace) : .disabled))
            if !new.enabled { known[subject] = .unknown }
        }
        recorder.append(events)
    }
}
