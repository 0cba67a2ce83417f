import Logging
import Store
import Synchronization

/// Collects history and writes it, a batch a second.
actor Recorder {
    private let executor = BlockingExecutor(label: "history")
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    private let store: Store
    private let writer: HistoryWriter
    private let retention: Retention
    private let logger: Logger
    private let pending = Mutex(Pending())
    /// Held while a batch is written, and while tunnels are renamed: a batch is of one time's names.
    private let writing = Mutex(())
    /// When history was to be taken up, which could not be done yet; nil: it was.
    private var unbegun: Int64?
    /// Why history cannot be written now; nil: it can.
    private(set) var failure: String?
    private var isDoubtTold = false
    private var clockCheck = ClockCheck()
    private let instance: String

    private struct Pending {
        var events: [HistoryEvent] = []
        var eventsRead: UInt64 = 0
    }

    /// Events that wait at most while the database cannot be written; beyond, the oldest are lost.
    private static let maximumPending = 200_000

    /// - Parameter instance: which daemon this is: the same after a restart of control alone.
    init(store: Store, instance: String, retention: Retention, logger: Logger) {
        self.store = store
        self.instance = instance
        self.retention = retention
        self.logger = logger
        writer = HistoryWriter(store)
    }

    /// Takes up history where it ended, or later when it cannot be written now: tunnels run without.
    ///
    /// - Returns: how many of the engine's events it has already; nil: the states that it has now are of another's time.
    func begin(now: Int64) throws(StoreError) -> UInt64? {
        var eventsRead: UInt64?
        do throws(StoreError) { eventsRead = try writer.begin(instance: instance, now: now) } catch {
            guard error.isOfTheMoment else { throw error }
            unbegun = now
            tellOfFailure(error)
            eventsRead = try writer.eventsRead(of: instance)
        }
        pending.withLock { $0.eventsRead = max($0.eventsRead, eventsRead ?? 0) }
        return eventsRead
    }

    /// In order, from anywhere.
    nonisolated func append(_ events: [HistoryEvent], eventsRead: UInt64? = nil) {
        pending.withLock {
            $0.events += events
            if let eventsRead { $0.eventsRead = eventsRead }
            if $0.events.count > Self.maximumPending { $0.events.removeFirst($0.events.count - Self.maximumPending) }
        }
    }

    /// Lets `body` rename tunnels in the database, and what waits to be written with them.
    nonisolated func renaming<T: Sendable>(
        _ body: () throws(StoreError) -> (result: T, renames: Renames)
    ) throws(StoreError) -> T {
        try writing.withLock { _ throws(StoreError) in
            let (result, renames) = try body()
            pending.withLock { pending in
                pending.events = pending.events.compactMap { event in
                    var event = event
                    guard let subject = renames.new(event.subject) else { return nil }
                    event.subject = subject
                    return event
                }
            }
            return result
        }
    }

    /// Puts a backup in place of everything; what the data plane does from now on is recorded there.
    ///
    /// - Parameter samples: what links have carried until now.
    func restore(from file: String, samples: [LinkSample], now: Int64) throws(StoreError) {
        try writing.withLock { _ throws(StoreError) in
            try store.restore(from: file)
            // What waits is of the time before.
            pending.withLock { $0.events = [] }
            _ = try writer.begin(instance: instance, isRestored: true, now: now)
            unbegun = nil
            // The database has been replaced: from here on nothing may say that it was not.
            do { try store.setBaseline(samples, counters: Self.number(of: instance)) } catch {
                logger.error("restored, but traffic since the backup will count as that of the next minute: \(error)")
            }
        }
    }

    /// Writes the batch. What cannot be written now is kept for the next time.
    ///
    /// - Returns: whether the data plane fell silent: nothing is known of any link now.
    func flush(alive: Int64, now: Int64) -> Bool {
        writing.withLock { _ in write(alive: alive, now: now) }
    }

    private func write(alive: Int64, now: Int64) -> Bool {
        let batch = pending.withLock { pending in
            defer { pending.events = [] }
            return pending
        }
        do throws(StoreError) {
            if let since = unbegun { _ = try writer.begin(instance: instance, patience: 0.5, now: since) }
            unbegun = nil
            let hasLostSight = try writer.record(
                batch.events, eventsRead: batch.eventsRead, alive: alive, now: now)
            if failure != nil { logger.notice("history is being written again") }
            failure = nil
            tellOfClock()
            return hasLostSight
        } catch {
            pending.withLock { $0.events = batch.events + $0.events }
            tellOfFailure(error)
            return false
        }
    }

    private func tellOfFailure(_ error: StoreError) {
        if failure == nil { logger.error("history cannot be written, and is kept until it can: \(error)") }
        failure = error.description
    }

    /// Once, when the clock begins or ceases to be doubted.
    private func tellOfClock() {
        guard writer.isClockDoubtful != isDoubtTold else { return }
        isDoubtTold.toggle()
        if isDoubtTold {
            logger.warning(
                """
                the clock is behind what history has; set it (timedatectl). Until it is right, or has gone evenly for ten \
                minutes (an hour if it is behind by more than a day), nothing is recorded, and links are unknown
                """)
        } else {
            logger.notice("the clock is believed, and history is recorded again")
        }
    }

    func record(_ samples: [LinkSample], now: Int64) {
        // What is not counted now is counted with the next.
        if writer.isClockDoubtful || failure != nil { return }
        do throws(StoreError) {
            try store.record(samples, counters: Self.number(of: instance), now: now)
        } catch {
            logger.error("traffic cannot be recorded: \(error)")
        }
    }

    func rollUp(now: Int64) {
        // Sums can wait; the views add up what is not summed up yet.
        guard clockCheck.isBelievable(wall: now) else { return }
        do throws(StoreError) { try store.rollUp(retention, now: now) } catch {
            logger.error("history cannot be summed up: \(error)")
        }
    }

    /// Tells one instance's counters from another's (FNV-1a).
    private static func number(of instance: String) -> Int64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in instance.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        return Int64(bitPattern: hash)
    }
}

/// Tunnels that got other names, all at once.
struct Renames: Sendable {
    private let names: [String: String]
    /// Names of tunnels that are gone, which others have now.
    private let taken: Set<String>

    init(_ renames: [(from: String, to: String)] = []) {
        names = Dictionary(renames.map { ($0.from, $0.to) }) { $1 }
        taken = Set(names.values).subtracting(names.keys)
    }

    var isEmpty: Bool { names.isEmpty }

    /// Nil for a link of a tunnel that is gone: its history ended when its name was taken.
    func new(_ subject: LinkSubject) -> LinkSubject? {
        if taken.contains(subject.tunnel) { return nil }
        return LinkSubject(tunnel: names[subject.tunnel] ?? subject.tunnel, link: subject.link)
    }

    func apply<Value>(to values: inout [LinkSubject: Value]) {
        var new: [LinkSubject: Value] = [:]
        for (subject, value) in values {
            if let subject = self.new(subject) { new[subject] = value }
        }
        values = new
    }
}
