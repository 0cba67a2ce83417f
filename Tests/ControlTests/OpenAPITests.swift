import AdminAPI
import Hummingbird
import ProcessChannel
import Testing
import TunnelModel

@testable import Control

/// The API's description against the API.
@Suite struct OpenAPITests {
    @Test func everyRouteIsDescribedAndNoOther() async throws {
        let control = try await Fixture()
        let routes = control.routes.router().routes.filter { $0.method != .head }.map { route in
            let path = "\(route.path)".split(separator: "/").map { $0.hasPrefix(":") ? "{\($0.dropFirst())}" : "\($0)" }
            return "\(route.method.rawValue.lowercased()) /\(path.joined(separator: "/"))"
        }
        #expect(Set(routes) == Set(OpenAPI.operations.map { "\($0.method) \($0.path)" }))
        #expect(routes.count == OpenAPI.operations.count)
    }

    @Test func everyReferenceLeadsSomewhere() async throws {
        let document = OpenAPI.document
        var references: [String] = []
        func collect(_ value: JSONValue) {
            switch value {
            case .object(let members):
                for (key, value) in members {
                    if key == "$ref", let text = value.text { references.append(text) }
                    collect(value)
                }
            case .array(let items): for item in items { collect(item) }
            default: break
            }
        }
        collect(document)
        #expect(references.count > 30)
        for reference in Set(references) {
            let found = reference.split(separator: "/").dropFirst().reduce(document as JSONValue?) { $0?[String($1)] }
            #expect(found != nil, "\(reference)")
        }
        let control = try await Fixture()
        #expect(try await control.send(.get, "/v1/openapi.json").json == document)
    }

    /// What is answered is what the schemas say: the same members, of the types given.
    @Test(arguments: [
        ("/v1/tunnels", "Summary"), ("/v1/tunnels/acme", "Definition"), ("/v1/status", "Status"),
        ("/v1/healthz", "Health"), ("/v1/history", "Table"), ("/v1/events", "Table"), ("/v1/audit", "Table"),
        ("/v1/nothing", "Problem"),
    ])
    func answersAreAsDescribed(path: String, schema: String) async throws {
        let control = try await Fixture()
        try await control.addTunnel("acme", port: 5080)
        _ = try await control.send(
            .put, "/v1/tunnels/acme/filters", #"[{"link": "lte", "expression": "udp port 53"}]"#)
        try await control.show("acme", "lte") { $0.state = LinkState.up.rawValue }
        let answer = try await control.send(.get, path).json
        let schema = try #require(OpenAPISchemas.all[schema])
        if case .array(let items) = answer {
            #expect(!items.isEmpty)
            for item in items { #expect(Self.differences(item, schema, "") == [], "\(path)") }
        } else {
            #expect(Self.differences(answer, schema, "") == [], "\(path)")
        }
    }

    @Test func aDocumentThatIsNotAsDescribedIsNoticed() throws {
        let schema = try #require(OpenAPISchemas.all["Health"])
        let health = JSONValue.object([
            "status": .string("fine"), "engine_running": .integer(1), "tunnels": .integer(1), "more": .null,
        ])
        #expect(
            Self.differences(health, schema, "").sorted()
                == ["/engine_running: type", "/more: not described", "/status: enum", "/version: missing"])
    }

    private static func differences(_ value: JSONValue, _ schema: JSONValue, _ place: String) -> [String] {
        if let name = schema["$ref"]?.text?.split(separator: "/").last {
            guard let target = OpenAPISchemas.all[String(name)] else { return ["\(place): \(name)"] }
            return differences(value, target, place)
        }
        guard let type = schema["type"] else { return [] }
        let types = if case .array(let several) = type { several.compactMap(\.text) } else { [type.text ?? ""] }
        guard types.contains(where: { fits(value, $0) }) else { return ["\(place): type"] }
        if case .array(let words)? = schema["enum"], !words.contains(value) { return ["\(place): enum"] }
        switch value {
        case .array(let items):
            return items.flatMap { differences($0, schema["items"] ?? .null, place + "[]") }
        case .object(let members):
            guard case .object(let properties)? = schema["properties"] else { return [] }
            var found: [String] = []
            if case .array(let required)? = schema["required"] {
                found += required.compactMap(\.text).filter { members[$0] == nil }.map { "\(place)/\($0): missing" }
            }
            for (name, member) in members {
                guard let property = properties[name] else {
                    found.append("\(place)/\(name): not described")
                    continue
                }
                found += differences(member, property, "\(place)/\(name)")
            }
            return found
        default: return []
        }
    }

    private static func fits(_ value: JSONValue, _ type: String) -> Bool {
        switch (value, type) {
        case (.null, "null"), (.bool, "boolean"), (.integer, "integer"), (.integer, "number"), (.number, "number"),
            (.string, "string"), (.array, "array"), (.object, "object"):
            true
        default: false
        }
    }
}
