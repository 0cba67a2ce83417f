import Foundation
import GRDB
import Testing

@testable import Store

/// The views against a slow, obvious model: what each link was, second by second, over some days.
@Suite struct HistoryModelTests {
    @Test(arguments: Array(UInt64(1)...UInt64(12))) func viewsAgreeWithTheModel(seed: UInt64) throws {
        let scratch = try ScratchDirectory()
        var script = try Script(seed: seed, scratch)
        try script.run()
        try script.compare()
    }
}

private struct Script {
    private static let days = 5
    private static let seconds = days * 86_400
    private static let grace = 30
    private static let names = ["a", "b"]
    private static let linkNames = ["x", "y", "z"]

    /// The letters of a timeline: nothing there, unknown, down, up, lossy, slow.
    private enum Letter: UInt8 { case none, unknown, down, up, lossy, slow }

    private struct Model {
        var timeline = [Letter](repeating: .none, count: Script.seconds)
        var start = 0
        var deadline: Int?
        var isDefined = false

        var current: Letter

        init() { current = .none }

        mutating func paint(_ letter: Letter, from second: Int) {
            let second = max(second, start)
            for index in second..<max(second, timeline.count) { timeline[index] = letter }
            // One that is heard no more has not been so since then, whatever its quality seemed to be.
            let isUp: Set<Letter> = [.up, .lossy, .slow]
            if !isUp.isSuperset(of: [letter, current]) { start = second }
            current = letter
        }

        mutating func expire(_ now: Int) {
            guard let due = deadline, due <= now else { return }
            deadline = nil
            if current == .unknown { paint(.down, from: due) }
        }
    }

    private var random: SeededGenerator
    private let scratch: ScratchDirectory
    private var store: Store
    private var writer: HistoryWriter
    /// What has been written, and when: all that outlives a kill.
    private var written: (models: [LinkSubject: Model], at: Int) = ([:], 0)
    private var models: [LinkSubject: Model] = [:]
    private var events: [HistoryEvent] = []
    private var now = 1000
    private var instance = 0
    private let base = dayStart(noon)

    init(seed: UInt64, _ scratch: ScratchDirectory) throws {
        random = SeededGenerator(state: seed)
        self.scratch = scratch
        store = try Store(path: scratch.database)
        writer = HistoryWriter(store)
    }

    private func time(_ second: Int) -> Int64 { base + Int64(second) * 1000 }

    mutating func run() throws {
        for tunnel in Self.names {
            try store.add(try makeTunnel(tunnel, port: tunnel == "a" ? 5000 : 6000, links: Self.linkNames), by: byTest)
        }
        _ = try writer.begin(instance: "\(instance)", now: time(now))
        for tunnel in Self.names {
            for link in Self.linkNames { define(LinkSubject(tunnel: tunnel, link: link)) }
        }
        try flush()
        while true {
            now += Int.random(in: 1...(Bool.random(using: &random) ? 60 : 6000), using: &random)
            guard now < Self.seconds - 1000 else { break }
            try step()
            if Int.random(in: 0..<3, using: &random) > 0 { try flush() }
        }
        now = Self.seconds - 1000
        try flush()
    }

    private mutating func step() throws {
        for subject in models.keys { models[subject]?.expire(now) }
        let subject = models.keys.sorted { ($0.tunnel, $0.link) < ($1.tunnel, $1.link) }.randomElement(using: &random)
        guard let subject, let model = models[subject] else { return }
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<2: try restart(after: .stop)
        case 2..<4: try restart(after: .kill)
        case 4..<6: try rollUp()
        case 6..<9: remove(subject)
        case 9..<12 where model.isDefined: stop(subject)
        default: change(subject, model)
        }
    }

    private mutating func change(_ subject: LinkSubject, _ model: Model) {
        guard model.isDefined else {
            define(subject)
            return
        }
        let isUp = [.up, .lossy, .slow].contains(model.current)
        let next: (HistoryState, Letter) =
            isUp && Bool.random(using: &random)
            ? (Bool.random(using: &random) ? .down : .connecting, .down)
            : [(.up, .up), (.lossy, .lossy), (.slow, .slow)].randomElement(using: &random) ?? (.up, .up)
        var heard: Int?
        if next.1 == .down {
            heard = Bool.random(using: &random) ? nil : now - Int.random(in: 0...5000, using: &random)
            models[subject]?.paint(.down, from: max(0, heard ?? now))
        } else {
            models[subject]?.deadline = nil
            if next.1 != model.current { models[subject]?.paint(next.1, from: now) }
        }
        events.append(
            HistoryEvent(
                subject, at: time(now),
                .changed(from: isUp ? .up : .down, to: next.0, lastHeard: heard.map { time(max(0, $0)) }, reason: "")))
    }

    private mutating func define(_ subject: LinkSubject) {
        var model = models[subject] ?? Model()
        model.isDefined = true
        model.paint(.unknown, from: now)
        model.deadline = now + Self.grace
        models[subject] = model
        events.append(HistoryEvent(subject, at: time(now), .defined(grace: Int64(Self.grace) * 1000)))
    }

    private mutating func stop(_ subject: LinkSubject) {
        models[subject]?.deadline = nil
        if models[subject]?.current != .unknown { models[subject]?.paint(.unknown, from: now) }
        events.append(HistoryEvent(subject, at: time(now), .disabled))
    }

    private mutating func remove(_ subject: LinkSubject) {
        guard models[subject]?.isDefined == true else { return }
        models[subject]?.isDefined = false
        models[subject]?.deadline = nil
        models[subject]?.paint(.none, from: now)
        events.append(HistoryEvent(subject, at: time(now), .removed))
    }

    private enum End { case stop, kill }

    /// The daemon ends, and comes back later: what follows its last sign of life is unknown.
    private mutating func restart(after end: End) throws {
        switch end {
        case .stop: try flush()
        case .kill: try kill()
        }
        let died = written.at
        now += Int.random(in: 1...3000, using: &random)
        instance += 1
        writer = HistoryWriter(store)
        _ = try writer.begin(instance: "\(instance)", now: time(now))
        for subject in models.keys.sorted(by: { ($0.tunnel, $0.link) < ($1.tunnel, $1.link) })
        where models[subject]?.isDefined == true {
            if models[subject]?.current != .unknown { models[subject]?.paint(.unknown, from: died) }
            models[subject]?.deadline = now + Self.grace
            events.append(HistoryEvent(subject, at: time(now), .defined(grace: Int64(Self.grace) * 1000)))
        }
        try flush()
    }

    /// kill -9: what was collected and not yet written is lost, and the files are left as they are in that moment.
    private mutating func kill() throws {
        models = written.models
        events = []
        let copy = "\(scratch.path)/after-\(instance)"
        try FileManager.default.createDirectory(atPath: copy, withIntermediateDirectories: false)
        for name in ["mlvpn.db", "mlvpn.db-wal"] {
            let directory = (store.path as NSString).deletingLastPathComponent
            try FileManager.default.copyItem(atPath: "\(directory)/\(name)", toPath: "\(copy)/\(name)")
        }
        store = try Store(path: "\(copy)/mlvpn.db")
    }

    private mutating func rollUp() throws {
        try flush()
        try store.setClock(now: time(now))
        try store.rollUp(Retention(), now: time(now))
    }

    private mutating func flush() throws {
        for subject in models.keys { models[subject]?.expire(now) }
        try writer.record(events, eventsRead: 0, alive: time(now), now: time(now))
        events = []
        written = (models, now)
    }

    // MARK: Comparison

    func compare() throws {
        try store.setClock(now: time(now))
        let broken = try store.rows(
            """
            SELECT * FROM intervals a JOIN intervals b ON a.series_id = b.series_id AND a.id < b.id
            WHERE a.started_at < coalesce(b.ended_at, 9e15) AND b.started_at < coalesce(a.ended_at, 9e15)
                AND a.started_at < coalesce(a.ended_at, 9e15) AND b.started_at < coalesce(b.ended_at, 9e15)
            """)
        #expect(broken.isEmpty, "intervals overlap")
        for day in 0..<Self.days {
            for (subject, model) in models { try compare(subject, model, day) }
            for tunnel in Self.names { try compare(tunnel, day) }
        }
    }

    private func text(day: Int) throws -> String {
        "2024-03-\(10 + day)"
    }

    private func range(_ day: Int) -> Range<Int> { day * 86_400..<min((day + 1) * 86_400, now) }

    private func compare(_ subject: LinkSubject, _ model: Model, _ day: Int) throws {
        let letters = model.timeline[range(day)]
        let row = try store.rows(
            """
            SELECT up_seconds, lossy_seconds, slow_seconds, down_seconds,
                up_seconds + lossy_seconds + slow_seconds + down_seconds + unknown_seconds
            FROM link_uptime_daily
            WHERE day = '\(try text(day: day))' AND tunnel = '\(subject.tunnel)' AND link = '\(subject.link)'
            """)
        guard letters.contains(where: { $0 != .none }) else {
            #expect(row.isEmpty, "\(subject) on day \(day)")
            return
        }
        func count(_ letter: Letter) -> Cell { .real(Double(letters.count { $0 == letter })) }
        #expect(
            row == [[count(.up), count(.lossy), count(.slow), count(.down), .real(Double(letters.count))]],
            "\(subject) on day \(day)")
    }

    private func compare(_ tunnel: String, _ day: Int) throws {
        var (up, down, saved) = (0, 0, 0)
        let timelines = models.filter { $0.key.tunnel == tunnel }.map(\.value.timeline)
        for second in range(day) {
            let letters = timelines.map { $0[second] }.filter { $0 != .none }
            let isUp = letters.contains { $0 == .up || $0 == .lossy || $0 == .slow }
            if isUp { up += 1 }
            if isUp && letters.contains(.down) { saved += 1 }
            if !letters.isEmpty && letters.allSatisfy({ $0 == .down }) { down += 1 }
        }
        let row = try store.rows(
            """
            SELECT up_seconds, down_seconds, saved_seconds FROM tunnel_uptime_daily JOIN bonding_benefit USING (day, tunnel)
            WHERE day = '\(try text(day: day))' AND tunnel = '\(tunnel)'
            """)
        #expect(row == [[.real(Double(up)), .real(Double(down)), .real(Double(saved))]], "\(tunnel) on day \(day)")
    }
}
