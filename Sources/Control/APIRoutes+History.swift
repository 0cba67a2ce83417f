import AdminAPI
import Hummingbird
import LinuxSystem
import NIOCore
import Store
import TunnelModel

extension APIRoutes {
    func addHistory(to group: RouterGroup<APIContext>) {
        group.get("history") { request, _ in
            let range = try Self.range(request)
            try store.requireKnown(tunnel: range.tunnel, link: range.link)
            let table: QueryTable
            if try request.flag("events") {
                table = try await store.stateChanges(range, limit: Store.maximumRows + 1)
                if table.rows.count > Store.maximumRows {
                    throw Problem(
                        .refused,
                        "there are more than \(Store.maximumRows) changes; name a tunnel, or a time with since and until"
                    )
                }
            } else {
                switch request.parameter("by") ?? "day" {
                case "hour": table = try await store.trafficByHour(range)
                case "day": table = try await store.uptimeByDay(range)
                case "month": table = try await store.uptimeByMonth(range)
                case let other: throw Problem(.malformed, "by: \(quoted(other)) is none of hour, day, month")
                }
            }
            return try Response.json(Table(table))
        }
        group.get("events") { request, _ in
            let (tunnel, link) = (try request.tunnel(), try request.link())
            try store.requireKnown(tunnel: tunnel, link: link)
            guard try request.flag("follow") else {
                return try Response.json(
                    Table(try await store.stateChanges(try Self.range(request), limit: try request.limit(default: 100)))
                )
            }
            for name in ["since", "until"] where request.parameter(name) != nil {
                throw Problem(.malformed, "\(name): who follows gets what comes; leave it out")
            }
            return try follow(tunnel, link, latest: try request.limit(default: 0))
        }
        group.post("sql") { request, _ in
            let query = try await request.decode(QueryRequest.self)
            let table = try await BlockingWork.run { try store.query(query.sql) }
            return try Response.json(Table(table))
        }
        group.get("audit") { request, _ in
            let before = try request.numericCursor()
            let limit = try request.limit(default: 1000)
            let entries = try store.audit(limit: limit, before: before)
            let table = Table(
                columns: ["at", "uid", "via", "action", "tunnel", "detail", "old", "new"],
                rows: entries.map {
                    [
                        .string(Timestamp.text($0.at)), JSONValue($0.uid), JSONValue($0.via), .string($0.action),
                        .string($0.tunnel),
                        .string($0.detail), JSONValue($0.old), JSONValue($0.new),
                    ]
                })
            return try Response.json(table).linkingNext(
                entries.count < limit ? nil : entries.last.map { "\($0.id)" }, after: request)
        }
    }

    /// Server-sent events: one JSON document each, a comment every 15 seconds.
    ///
    /// - Parameter latest: how many of the latest come first.
    private func follow(_ tunnel: String?, _ link: String?, latest: Int) throws -> Response {
        guard let events = hub.follow() else {
            throw Problem(.unavailable, "\(EventHub.maximumFollowers) clients follow events already; end one of them")
        }
        // Followed already: what is recorded meanwhile comes twice, and is left out once.
        let lines = EventLines(
            latest: try store.changes(of: tunnel, link: link, limit: min(latest, EventHub.backlog)), events: events,
            tunnel: tunnel, link: link)
        return Response(
            status: .ok, headers: [.contentType: "text/event-stream", .cacheControl: "no-store"],
            body: .init { writer in
                try await writer.write(ByteBuffer(string: ": following\n\n"))
                for try await line in lines.all() { try await writer.write(ByteBuffer(bytes: line)) }
                try await writer.finish(nil)
            })
    }

    private static func range(_ request: Request) throws -> HistoryRange {
        let now = Clock.wallMilliseconds()
        func time(_ name: String) throws -> Int64? {
            guard let text = request.parameter(name) else { return nil }
            guard let time = Timestamp.parse(text, now: now) else {
                throw Problem(
                    .malformed,
                    "\(name): \(quoted(text)) is no time; write 2025-03-01, 2025-03-01T12:00, or 36h for a time ago")
            }
            return time
        }
        let (since, until) = (try time("since"), try time("until"))
        if let since, let until, since > until { throw Problem(.malformed, "since is later than until") }
        return HistoryRange(
            tunnel: try request.tunnel(), link: try request.link(), since: since, until: until)
    }
}

/// A stream of events as text, kept alive by comments.
private struct EventLines: Sendable {
    let latest: [RecordedChange]
    let events: AsyncStream<RecordedChange>
    let tunnel: String?
    let link: String?

    private func isAsked(_ change: RecordedChange) -> Bool {
        (tunnel == nil || change.tunnel == tunnel) && (link == nil || change.link == link)
    }

    func all() -> AsyncThrowingStream<[UInt8], any Error> {
        let (stream, continuation) = AsyncThrowingStream.makeStream(
            of: [UInt8].self, throwing: (any Error).self, bufferingPolicy: .bufferingNewest(1024))
        let task = Task {
            await withTaskGroup { group in
                group.addTask {
                    for change in latest where isAsked(change) { continuation.yield(Self.line(change)) }
                    var known = Set(latest.map(\.id))
                    for await change in events where isAsked(change) {
                        if known.isEmpty || known.remove(change.id) == nil { continuation.yield(Self.line(change)) }
                    }
                }
                group.addTask {
                    while (try? await Task.sleep(for: .seconds(15))) != nil { continuation.yield(Array(": \n\n".utf8)) }
                }
                await group.next()
                group.cancelAll()
            }
            continuation.finish()
        }
        continuation.onTermination = { _ in task.cancel() }
        return stream
    }

    private static func line(_ change: RecordedChange) -> [UInt8] {
        let event = StateEvent(
            at: Timestamp.text(change.at), tunnel: change.tunnel, link: change.link, previous: change.previous,
            state: change.state, reason: change.reason, lastHeard: change.lastHeard.map { Timestamp.text($0) })
        guard let json = try? JSON.encode(event) else { return [] }
        return Array("data: ".utf8) + json + Array("\n\n".utf8)
    }
}

extension Table {
    init(_ table: QueryTable) {
        self.init(columns: table.columns, rows: table.rows.map { $0.map(JSONValue.init) })
    }
}

extension JSONValue {
    init(_ cell: Cell) {
        switch cell {
        case .null: self = .null
        case .integer(let number): self = .integer(number)
        // JSON has no word for those that are infinite.
        case .real(let number): self = number.isFinite ? .number(number) : .string("\(number)")
        case .text(let text): self = .string(text)
        case .bytes(let count): self = .string("(\(count) bytes)")
        }
    }
}
