import AdminAPI
import HTTPTypes
import Hummingbird
import LinuxSystem
import Logging
import NIOCore
import ProcessChannel
import Store
import TunnelModel

/// The API, version 1. Bodies are JSON; errors are problem documents (RFC 9457).
struct APIRoutes: Sendable {
    let directory: TunnelDirectory
    let store: Store
    let recorder: Recorder
    let hub: EventHub
    let state: StateReader
    let logger: Logger
    /// Where uploads and copies of the database are kept while they pass.
    let stateDirectory: String
    /// What of mlvpnd.conf could not be followed.
    var settingsProblems: [String] = []
    /// Milliseconds since 1970.
    let startedAt = Clock.wallMilliseconds()

    func responder() -> any HTTPResponder<APIContext> { router().buildResponder() }

    func router() -> Router<APIContext> {
        let router = Router(context: APIContext.self)
        router.add(middleware: Problems(logger: logger))
        let v1 = router.group("v1")
        addTunnels(to: v1)
        addLinks(to: v1)
        addStatus(to: v1)
        // Where scrapers look.
        router.get("metrics") { _, _ in try await metrics() }
        addHistory(to: v1)
        addMaintenance(to: v1)
        addDiagnosis(to: v1)
        // What those ask who only want to know whether there is an answer.
        for path in OpenAPI.probed {
            router.head(RouterPath(path)) { _, _ in Response(status: .ok) }
        }
        return router
    }

    private func addTunnels(to group: RouterGroup<APIContext>) {
        group.get("tunnels") { request, _ in
            let page = try request.page(of: try await directory.snapshots()) { $0.definition.name.text }
            return try Response.json(page.items.map(TunnelSummary.init)).linkingNext(page.next, after: request)
        }
        group.post("tunnels") { request, context in
            let change = try TunnelChange(try await request.decode(JSONValue.self))
            let isHere = try request.flag("host")
            let trial: TunnelDirectory.Trial? = try request.flag("dry_run") ? isHere ? .here : .alone : nil
            let stored = try await directory.add(change, by: context.change("add-tunnel"), trial: trial)
            return try Response.json(document(stored), status: trial == nil ? .created : .ok)
        }
        group.get("tunnels/:name") { request, context in
            let name = try context.tunnel()
            return try Response.json(document(try store.tunnel(named: name), secrets: try request.flag("secrets")))
        }
        group.patch("tunnels/:name") { request, context in
            let change = try TunnelChange(try await request.decode(JSONValue.self))
            let stored = try await edit(request, context, "set-tunnel") { definition, interfaces in
                try change.apply(to: &definition, interfaces: interfaces)
            }
            return try Response.json(document(stored))
        }
        group.delete("tunnels/:name") { request, context in
            let name = try context.tunnel()
            try await directory.remove(
                name, expectedVersion: try request.expectedVersion(),
                by: context.change("remove-tunnel"))
            return Response(status: .noContent)
        }
        for (action, enabled) in [("enable", true), ("disable", false)] {
            group.post("tunnels/:name/\(action)") { request, context in
                let stored = try await edit(request, context, action) { definition, _ in definition.enabled = enabled }
                return try Response.json(document(stored))
            }
        }
    }

    private func addLinks(to group: RouterGroup<APIContext>) {
        group.post("tunnels/:name/links") { request, context in
            let spec = try LinkSpec(try await request.decode(JSONValue.self))
            let stored = try await edit(request, context, "add-link", detail: spec.name.text) { definition, _ in
                if definition.links.contains(where: { $0.name == spec.name }) {
                    throw DefinitionError("link \(spec.name)", "exists already; change it with set-link")
                }
                definition.links.append(spec.definition)
            }
            return try Response.json(document(stored), status: .created)
        }
        group.patch("tunnels/:name/links/:link") { request, context in
            let link = try context.link()
            var body = try await request.decode(JSONValue.self)
            if case .object(var members) = body {
                members["name"] = members["name"] ?? .string(link)
                body = .object(members)
            }
            let spec = try LinkSpec(body)
            let stored = try await edit(request, context, "set-link", detail: link) { definition, _ in
                let index = try Self.index(of: link, in: definition)
                let old = definition.links[index].name
                definition.links[index].name = spec.name
                for filter in definition.filters.indices {
                    definition.filters[filter].links = definition.filters[filter].links.map {
                        $0 == old ? spec.name : $0
                    }
                }
                spec.change.apply(to: &definition.links[index])
            }
            return try Response.json(document(stored))
        }
        group.delete("tunnels/:name/links/:link") { request, context in
            let link = try context.link()
            let stored = try await edit(request, context, "remove-link", detail: link) { definition, _ in
                let index = try Self.index(of: link, in: definition)
                if let filter = definition.filters.first(where: { $0.links.contains { $0.text == link } }) {
                    throw DefinitionError(
                        "link \(link)", "is used by the filter \(quoted(filter.expression)); change the filters first")
                }
                definition.links.remove(at: index)
            }
            return try Response.json(document(stored))
        }
        group.put("tunnels/:name/filters") { request, context in
            let body = try await request.decode(JSONValue.self)
            let change = try TunnelChange(.object(["filters": body]))
            let stored = try await edit(request, context, "set-filters") { definition, interfaces in
                try change.apply(to: &definition, interfaces: interfaces)
            }
            return try Response.json(document(stored))
        }
    }

    private func addStatus(to group: RouterGroup<APIContext>) {
        group.get("status") { request, _ in
            let snapshots = try await directory.snapshots(of: try request.tunnel())
            let page = try request.page(of: snapshots) { $0.definition.name.text }
            return try Response.json(page.items.map(TunnelStatus.init)).linkingNext(page.next, after: request)
        }
        group.get("metrics") { _, _ in try await metrics() }
        group.get("openapi.json") { _, _ in try Response.json(OpenAPI.document) }
        group.get("healthz") { _, _ in
            let alive = state.header.heartbeat
            let isRunning = HistoryWriter.isAlive(alive, now: Clock.wallMilliseconds())
            return try Response.json(
                Health(
                    status: isRunning ? "ok" : "degraded", engineRunning: isRunning,
                    tunnels: await directory.entries.count, version: Version.text))
        }
        group.post("reload") { request, context in
            let body = try await request.decode(ReloadRequest.self, whenEmpty: ReloadRequest())
            if let other = body.tunnels?.first(where: { !$0.isASCII }) { throw StoreError.noSuchTunnel(other) }
            return try Response.json(
                try await directory.reloadPrepared(
                    names: body.tunnels.map(Set.init), dryRun: body.dryRun ?? false,
                    by: context.change("reload")))
        }
    }

    private func metrics() async throws -> Response {
        let snapshots = try await directory.snapshots()
        return Response.text(
            Metrics.text(
                snapshots, header: state.header, startedAt: startedAt, rejected: await directory.rejected.count),
            type: "text/plain; version=0.0.4; charset=utf-8")
    }

    /// A change of the tunnel that the path names.
    private func edit(
        _ request: Request, _ context: APIContext, _ action: String, detail: String = "",
        _ edit: @Sendable (inout TunnelDefinition, Set<String>) throws -> Void
    ) async throws -> StoredTunnel {
        try await directory.change(
            try context.tunnel(), expectedVersion: try request.expectedVersion(),
            by: context.change(action, detail: detail), edit)
    }

    private func document(_ stored: StoredTunnel, secrets: Bool = false) -> JSONValue {
        JSONValue(stored.definition, version: stored.version, secrets: secrets)
    }

    private static func index(of link: String, in definition: TunnelDefinition) throws(StoreError) -> Int {
        guard let index = definition.links.firstIndex(where: { $0.name.text == link }) else {
            throw .noSuchLink(tunnel: definition.name.text, link: link)
        }
        return index
    }
}

/// Turns every error into a problem document.
private struct Problems: RouterMiddleware {
    let logger: Logger

    func handle(
        _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
    ) async throws -> Response {
        try await answer(request, context, next).asAnswer(to: request)
    }

    private func answer(
        _ request: Request, _ context: APIContext, _ next: (Request, APIContext) async throws -> Response
    ) async throws -> Response {
        do { return try await next(request, context) } catch let error as HTTPError where error.status == .notFound {
            let methods = OpenAPI.methods(of: request.uri.path)
            if methods.isEmpty { return problemResponse(for: error, logger) }
            let allowed = methods.joined(separator: ", ")
            var response = problemResponse(
                Problem(.wrongMethod, "\(request.uri.path) has no \(request.method.rawValue), but \(allowed)"))
            response.headers[.allow] = allowed
            return response
        } catch {
            return problemResponse(for: error, logger)
        }
    }
}

extension Response {
    /// An answer to HEAD has no body, whatever it says: the client would take it for the next answer (RFC 9110, 9.3.2).
    func asAnswer(to request: Request) -> Response { request.method == .head ? createHeadResponse() : self }
}
