import AdminAPI
import TunnelModel

/// The API described by itself (OpenAPI 3.1), as `GET /v1/openapi.json` gives it. The tests compare it with the routes and
/// with what is really answered.
enum OpenAPI {
    static var document: JSONValue {
        .object([
            "openapi": .string("3.1.0"),
            "info": .object([
                "title": .string("MLVPN Concentrator"), "version": .string(Version.text),
                "description": .string(
                    """
                    Served over the control socket, to root and the members of the admin group, and, where mlvpnd.conf has \
                    api_listen, on TCP to the holders of a token. Errors are problem documents (RFC 9457). Lists take limit \
                    and cursor; a further page is named by the Link header (RFC 8288). Times are ISO 8601 in UTC. Changes of \
                    a tunnel take If-Match with its version; another version is a conflict.
                    """),
            ]),
            "security": .array([.object([:]), .object(["token": .array([])])]),
            "paths": .object(paths),
            "components": .object([
                "schemas": .object(OpenAPISchemas.all),
                "securitySchemes": .object([
                    "token": .object(["type": .string("http"), "scheme": .string("bearer")])
                ]),
                "responses": .object([
                    "Problem": .object([
                        "description": .string("What went wrong, and what to do."),
                        "content": .object([
                            "application/problem+json": .object(["schema": OpenAPISchemas.reference("Problem")])
                        ]),
                    ])
                ]),
            ]),
        ])
    }

    private static var paths: [String: JSONValue] {
        var paths: [String: [String: JSONValue]] = [:]
        for operation in operations { paths[operation.path, default: [:]][operation.method] = operation.document }
        return paths.mapValues(JSONValue.object)
    }

    /// What a path answers to, in the order of the description; empty for one that there is not.
    static func methods(of path: String) -> [String] {
        let parts = path.split(separator: "/")
        let there = operations.filter { operation in
            let pattern = operation.path.split(separator: "/")
            return pattern.count == parts.count && zip(pattern, parts).allSatisfy { $0.hasPrefix("{") || $0 == $1 }
        }.map { $0.method.uppercased() }
        return probed.contains(path) ? there + ["HEAD"] : there
    }

    /// What is asked with HEAD, too: to run the others for nothing would copy a database, or packets.
    static let probed: Set = ["/metrics", "/v1/metrics", "/v1/healthz"]

    /// One method of one path.
    struct Operation: Sendable {
        var method: String
        var path: String
        var summary: String
        var query: [(name: String, meaning: String)] = []
        /// The schema of the request's body.
        var body: String?
        var status = 200
        var type = "application/json"
        /// The schema of the answer; nil: none, or no JSON.
        var answer: String?
        /// The answer is an array of it.
        var isList = false

        fileprivate var document: JSONValue {
            var document: [String: JSONValue] = ["summary": .string(summary), "operationId": .string(identifier)]
            let names = path.split(separator: "/").filter { $0.hasPrefix("{") }.map {
                String($0.dropFirst().dropLast())
            }
            let parameters =
                names.map { Self.parameter($0, in: "path", $0 == "name" ? "The tunnel's name." : "The link's name.") }
                + query.map { Self.parameter($0.name, in: "query", $0.meaning) }
            if !parameters.isEmpty { document["parameters"] = .array(parameters) }
            if let body {
                document["requestBody"] = .object([
                    "content": .object([
                        body == "Backup" ? "application/vnd.sqlite3" : "application/json":
                            .object(["schema": OpenAPISchemas.reference(body)])
                    ])
                ])
            }
            var response: [String: JSONValue] = ["description": .string(status == 204 ? "Done." : "The answer.")]
            if status != 204 {
                var content: [String: JSONValue] = [:]
                if let answer {
                    let schema = OpenAPISchemas.reference(answer)
                    content["schema"] = isList ? .object(["type": .string("array"), "items": schema]) : schema
                }
                response["content"] = .object([type: .object(content)])
            }
            document["responses"] = .object([
                "\(status)": .object(response),
                "default": .object(["$ref": .string("#/components/responses/Problem")]),
            ])
            return .object(document)
        }

        private var identifier: String {
            method + path.split { "/{}.".contains($0) }.filter { $0 != "v1" }.map(\.capitalizedFirst).joined()
        }

        private static func parameter(_ name: String, in place: String, _ meaning: String) -> JSONValue {
            .object([
                "name": .string(name), "in": .string(place), "description": .string(meaning),
                "required": .bool(place == "path"), "schema": .object(["type": .string("string")]),
            ])
        }
    }

    private static let page = [("limit", "Items of a page, at most."), ("cursor", "Where a page begins.")]
    private static let range = [
        ("tunnel", "Of this tunnel alone."), ("link", "Of this link alone."),
        ("since", "From then on: 2025-03-01, 2025-03-01T12:00, or a time ago such as 36h."), ("until", "Up to then."),
    ]

    static let operations: [Operation] = [
        Operation(
            method: "get", path: "/v1/tunnels", summary: "Every tunnel, in short.", query: page, answer: "Summary",
            isList: true),
        Operation(
            method: "post", path: "/v1/tunnels", summary: "Define a tunnel, and run it.",
            query: [
                ("dry_run", "1: check everything, and change nothing (the status is 200)."),
                ("host", "1: with dry_run, also against what the host has in use now."),
            ],
            body: "DefinitionChange", status: 201, answer: "Definition"),
        Operation(
            method: "get", path: "/v1/tunnels/{name}", summary: "A tunnel's definition.",
            query: [("secrets", "1: with the password.")], answer: "Definition"),
        Operation(
            method: "patch", path: "/v1/tunnels/{name}",
            summary: "Change what is named; null is the default. Lists are replaced.", body: "DefinitionChange",
            answer: "Definition"),
        Operation(
            method: "delete", path: "/v1/tunnels/{name}", summary: "End a tunnel and forget it; its history stays.",
            status: 204),
        Operation(
            method: "post", path: "/v1/tunnels/{name}/enable", summary: "Run a disabled tunnel.", answer: "Definition"),
        Operation(
            method: "post", path: "/v1/tunnels/{name}/disable", summary: "End a tunnel, and keep its definition.",
            answer: "Definition"),
        Operation(
            method: "post", path: "/v1/tunnels/{name}/links", summary: "Add a link.", body: "Link", status: 201,
            answer: "Definition"),
        Operation(
            method: "patch", path: "/v1/tunnels/{name}/links/{link}",
            summary: "Change what is named of a link; null is the default.", body: "Link", answer: "Definition"),
        Operation(
            method: "delete", path: "/v1/tunnels/{name}/links/{link}", summary: "Remove a link.", answer: "Definition"),
        Operation(
            method: "put", path: "/v1/tunnels/{name}/filters", summary: "Replace the filters.", body: "Filters",
            answer: "Definition"),
        Operation(
            method: "put", path: "/v1/tunnels/{name}/debug", summary: "Which of the engine's doings are logged.",
            body: "DebugTokens", answer: "DebugTokens"),
        Operation(
            method: "get", path: "/v1/tunnels/{name}/capture",
            summary: "Packets as a pcap file: the inner ones, or a link's datagrams.",
            query: [
                ("link", "Whose datagrams."), ("packets", "At most, 10000 if not given."),
                ("seconds", "At most, 60 if not given."), ("snap_length", "Bytes kept of each packet."),
            ], type: "application/vnd.tcpdump.pcap"),
        Operation(
            method: "get", path: "/v1/status", summary: "How tunnels and their links are doing.",
            query: [("tunnel", "Of this tunnel alone.")] + page, answer: "Status", isList: true),
        Operation(
            method: "get", path: "/v1/metrics", summary: "Metrics for Prometheus.", type: "text/plain"),
        Operation(method: "get", path: "/metrics", summary: "The same.", type: "text/plain"),
        Operation(method: "get", path: "/v1/healthz", summary: "Whether the data plane is alive.", answer: "Health"),
        Operation(
            method: "get", path: "/v1/openapi.json", summary: "This document.", answer: nil),
        Operation(
            method: "post", path: "/v1/reload", summary: "Apply what was changed in the database.",
            body: "ReloadRequest", answer: "ReloadReport"),
        Operation(
            method: "get", path: "/v1/history", summary: "Uptime, traffic, or every change of state.",
            query: range + [
                ("by", "hour (traffic), day or month (uptime)."), ("events", "1: changes of state, as they were seen."),
            ], answer: "Table"),
        Operation(
            method: "get", path: "/v1/events",
            summary: "The latest changes of state; with follow, those to come as server-sent events.",
            query: range + [
                ("limit", "The latest so many, 100 if not given; none with follow."),
                ("follow", "1: a stream of events, a JSON document each, as recorded; not with since or until."),
            ], answer: "Table"),
        Operation(
            method: "post", path: "/v1/sql", summary: "One SELECT, which can change nothing and see no password.",
            body: "Query", answer: "Table"),
        Operation(
            method: "get", path: "/v1/audit", summary: "Who changed what, the latest first.", query: page,
            answer: "Table"),
        Operation(
            method: "post", path: "/v1/check", summary: "What is wrong with the database, or with what runs.",
            answer: "CheckReport"),
        Operation(
            method: "get", path: "/v1/backup", summary: "A consistent copy of the database; it holds every password.",
            type: "application/vnd.sqlite3"),
        Operation(
            method: "post", path: "/v1/restore", summary: "Put a backup in place of the database, and apply it.",
            body: "Backup", answer: "ReloadReport"),
    ]
}

extension Substring {
    fileprivate var capitalizedFirst: String { prefix(1).uppercased() + dropFirst() }
}
