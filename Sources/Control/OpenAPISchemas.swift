import AdminAPI
import TunnelModel

/// The types of the API's documents, as JSON Schema.
enum OpenAPISchemas {
    static func reference(_ name: String) -> JSONValue { .object(["$ref": .string("#/components/schemas/\(name)")]) }

    static var all: [String: JSONValue] {
        [
            "Summary": object([
                ("name", text), ("mode", words(TunnelMode.self)), ("interface", text), ("state", tunnelState),
                ("links_up", integer), ("links", integer),
            ]),
            "Definition": object(definition),
            "DefinitionChange": object(
                definition.filter { $0.0 != "version" } + [("password", text), ("password_base64", text)], required: []),
            "Link": object(link, required: ["name"]),
            "Filters": list(reference("Filter")),
            "Filter": object([("link", text), ("expression", text)]),
            "Status": object([
                ("name", text), ("interface", text), ("state", tunnelState), ("since", nullable("string")),
                ("rx_bytes", integer), ("tx_bytes", integer), ("offloads", list(text)), ("problem", nullable("string")),
                ("links", list(reference("LinkStatus"))),
            ]),
            "LinkStatus": object([
                ("name", text), ("state", choice(LinkState.allCases.map(\.word))), ("since", nullable("string")),
                ("bind", nullable("string")), ("remote", nullable("string")), ("peer", nullable("string")),
                ("rtt_ms", nullable("number")), ("loss_percent", number), ("rate_bps", nullable("integer")),
                ("rx_bytes", integer), ("tx_bytes", integer), ("last_heard", nullable("string")),
                ("offloads", list(text)), ("problem", nullable("string")),
            ]),
            "Health": object([
                ("status", choice(["ok", "degraded"])), ("engine_running", boolean), ("tunnels", integer),
                ("version", text),
            ]),
            "Table": object([
                ("columns", list(text)), ("rows", list(list(.object([:])))),
            ]),
            "Query": object([("sql", text)]),
            "ReloadRequest": object([("tunnels", list(text)), ("dry_run", boolean)], required: []),
            "ReloadReport": object([
                ("added", list(text)), ("changed", list(text)), ("removed", list(text)), ("unchanged", integer),
                ("rejected", list(object([("name", text), ("problems", list(text))]))),
            ]),
            "CheckReport": object([("problems", list(text)), ("notes", list(text))]),
            "DebugTokens": object([("tokens", list(text))]),
            "StateEvent": object(
                [
                    ("at", text), ("tunnel", text), ("link", nullable("string")), ("previous", text), ("state", text),
                    ("reason", text), ("last_heard", nullable("string")),
                ]),
            "Problem": object(
                [
                    ("type", choice(Problem.Kind.allCases.map(\.uri))), ("title", text), ("status", integer),
                    ("detail", text), ("errors", list(object([("field", text), ("problem", text)]))),
                ], required: ["type", "title", "status", "detail"]),
            "Backup": .object(["type": .string("string"), "format": .string("binary")]),
        ]
    }

    private static var definition: [(String, JSONValue)] {
        [
            ("name", text), ("mode", words(TunnelMode.self)), ("interface", text), ("tap", boolean),
            ("ip4", nullable("string")), ("ip6", nullable("string")), ("gateway4", nullable("string")),
            ("gateway6", nullable("string")), ("route", list(text)), ("mtu", nullable("integer")),
            ("timeout", integer), ("reorder", .object(["type": .array([.string("string"), .string("integer")])])),
            ("loss_tolerance", integer), ("latency_tolerance", integer), ("scheduler", words(Scheduler.self)),
            ("cleartext_data", boolean), ("clamp_mss", boolean), ("device_offload", boolean), ("udp_segment", boolean),
            ("udp_gro", boolean), ("status_command", nullable("string")), ("control_unix_path", nullable("string")),
            ("control_bind_host", nullable("string")), ("control_bind_port", nullable("integer")),
            ("links", list(reference("Link"))), ("filters", list(reference("Filter"))), ("disabled", boolean),
            ("version", integer),
        ]
    }

    private static var link: [(String, JSONValue)] {
        [
            ("name", text), ("bind", nullable("string")), ("remote", nullable("string")),
            ("bandwidth", .object(["type": .array([.string("string"), .string("integer")])])),
            ("limit", .object(["type": .array([.string("string"), .string("integer"), .string("null")])])),
            ("timeout", nullable("integer")), ("loss_tolerance", nullable("integer")),
            ("latency_tolerance", nullable("integer")), ("fallback", boolean),
        ]
    }

    private static let tunnelState = choice(["up", "down", "disabled"])
    private static let text = type("string")
    private static let integer = type("integer")
    private static let number = type("number")
    private static let boolean = type("boolean")

    private static func type(_ name: String) -> JSONValue { .object(["type": .string(name)]) }

    private static func nullable(_ name: String) -> JSONValue {
        .object(["type": .array([.string(name), .string("null")])])
    }

    private static func list(_ items: JSONValue) -> JSONValue {
        .object(["type": .string("array"), "items": items])
    }

    private static func choice(_ words: [String]) -> JSONValue {
        .object(["type": .string("string"), "enum": .array(words.map(JSONValue.string))])
    }

    private static func words<T: RawRepresentable<String> & CaseIterable>(_ type: T.Type) -> JSONValue {
        choice(type.allCases.map(\.rawValue))
    }

    /// - Parameter required: nil: all of them.
    private static func object(_ members: [(String, JSONValue)], required: [String]? = nil) -> JSONValue {
        var schema: [String: JSONValue] = [
            "type": .string("object"),
            "properties": .object(Dictionary(members) { first, _ in first }),
        ]
        let required = required ?? members.map(\.0)
        if !required.isEmpty { schema["required"] = .array(required.map(JSONValue.string)) }
        return .object(schema)
    }
}
