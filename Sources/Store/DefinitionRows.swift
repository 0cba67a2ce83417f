import GRDB
import TunnelModel

import struct Foundation.Data

/// A tunnel as it is in the database.
public struct StoredTunnel: Equatable, Sendable {
    /// Stable for the tunnel's life, over renames.
    public var id: Int64
    /// Grows with every change, whoever makes it.
    public var version: Int64
    public var definition: TunnelDefinition

    public init(id: Int64, version: Int64, definition: TunnelDefinition) {
        self.id = id
        self.version = version
        self.definition = definition
    }
}

/// What the database holds: the tunnels that can be run, and what is wrong with the others.
public struct LoadedDefinitions: Equatable, Sendable {
    public var tunnels: [StoredTunnel] = []
    public var rejected: [RejectedTunnel] = []
}

/// Rows (edited with SQL, most likely) that make no valid tunnel.
public struct RejectedTunnel: Equatable, Sendable {
    public var id: Int64
    /// As it stands in its row.
    public var name: String
    public var problems: [DefinitionError]

    public init(id: Int64, name: String, problems: [DefinitionError]) {
        self.id = id
        self.name = name
        self.problems = problems
    }
}

/// The rows of one or all tunnels, grouped by tunnel.
struct DefinitionRows {
    private var tunnels: [Row]
    private var secrets: [Int64: [UInt8]] = [:]
    private var routes: [Int64: [Row]]
    private var links: [Int64: [Row]]
    private var filters: [Int64: [Row]]

    /// Of the tunnel with `id`, or of all.
    init(_ db: Database, id: Int64? = nil) throws {
        func rows(_ table: String, _ column: String, order: String) throws -> [Row] {
            let filter = id.map { " WHERE \(column) = \($0)" } ?? ""
            return try Row.fetchAll(db, sql: "SELECT * FROM \(table)\(filter) ORDER BY \(order)")
        }
        func grouped(_ rows: [Row]) -> [Int64: [Row]] { Dictionary(grouping: rows) { $0["tunnel_id"] } }
        tunnels = try rows("tunnels", "id", order: "name")
        routes = grouped(try rows("routes", "tunnel_id", order: "position"))
        links = grouped(try rows("links", "tunnel_id", order: "position, name"))
        let filter = id.map { " WHERE filters.tunnel_id = \($0)" } ?? ""
        filters = grouped(
            try Row.fetchAll(
                db,
                sql: """
                    SELECT filters.tunnel_id, filters.position, filters.expression, filter_links.link
                    FROM filters LEFT JOIN filter_links
                    ON filter_links.tunnel_id = filters.tunnel_id AND filter_links.filter = filters.position\(filter)
                    ORDER BY filters.position, filter_links.preference
                    """))
        for row in try rows("secrets", "tunnel_id", order: "tunnel_id") {
            secrets[row["tunnel_id"]] = Array(row["password"] as Data)
        }
    }

    /// Each tunnel alone; what tunnels cannot share is not looked at.
    ///
    /// - Parameter missingPassword: what stands for a password that cannot be read; nil: its tunnel is rejected.
    func load(missingPassword: Password? = nil) -> LoadedDefinitions {
        var loaded = LoadedDefinitions()
        for row in tunnels {
            let id: Int64 = row["id"]
            var reader = RowReader(row)
            let definition = definition(id, missingPassword, &reader)
            var problems = reader.problems
            if problems.isEmpty, let definition { problems = definition.problems }
            if let definition, problems.isEmpty {
                loaded.tunnels.append(StoredTunnel(id: id, version: row["version"], definition: definition))
            } else {
                loaded.rejected.append(RejectedTunnel(id: id, name: row["name"], problems: problems))
            }
        }
        return loaded
    }

    /// Nil when not even a name, an interface and a password can be read; otherwise complete unless `reader` has problems.
    private func definition(
        _ id: Int64, _ missingPassword: Password?, _ reader: inout RowReader
    ) -> TunnelDefinition? {
        let name = reader.value("name") { text throws(DefinitionError) in try TunnelName(text) }
        let interface = reader.value("interface") { text throws(DefinitionError) in try InterfaceName(text) }
        var password: Password?
        do throws(DefinitionError) {
            guard let bytes = secrets[id] else {
                throw DefinitionError("password", "is missing; give one with 'mlvpn-admin set-tunnel --password-stdin'")
            }
            password = try Password(bytes)
        } catch {
            password = missingPassword
            if missingPassword == nil { reader.note(error) }
        }
        guard let name, let interface, let password else { return nil }
        var tunnel = TunnelDefinition(
            name: name, mode: reader.word("mode", .server), interface: interface, device: reader.word("device", .tun),
            password: password)
        tunnel.enabled = reader.flag("enabled")
        tunnel.ip4 = reader.optional("ip4") { text throws(DefinitionError) in try CIDR(text, field: "ip4") }
        tunnel.ip6 = reader.optional("ip6") { text throws(DefinitionError) in try CIDR(text, field: "ip6") }
        tunnel.gateway4 = reader.address("gateway4")
        tunnel.gateway6 = reader.address("gateway6")
        tunnel.mtu = reader.row["mtu"]
        tunnel.timeout = reader.row["timeout"]
        tunnel.reorder =
            reader.value("reorder") { text throws(DefinitionError) in try ReorderBuffer(text, field: "reorder") }
            ?? .auto
        tunnel.lossTolerance = reader.row["loss_tolerance"]
        tunnel.latencyTolerance = reader.row["latency_tolerance"]
        tunnel.scheduler = reader.word("scheduler", .adaptive)
        tunnel.cleartextData = reader.flag("cleartext_data")
        tunnel.clampMSS = reader.flag("clamp_mss")
        tunnel.offloads = OffloadSwitches(
            device: reader.flag("device_offload"), udpSegment: reader.flag("udp_segment"),
            udpGRO: reader.flag("udp_gro"))
        tunnel.statusCommand = reader.row["status_command"]
        tunnel.monitoring = Monitoring(
            unixPath: reader.row["control_unix_path"], bindHost: reader.host("control_bind_host"),
            bindPort: reader.port("control_bind_port"))
        for row in routes[id] ?? [] {
            var inner = RowReader(row)
            let route = inner.value("cidr") { text throws(DefinitionError) in try CIDR(text, field: "route") }
            if let route { tunnel.routes.append(route) }
            reader.take(inner, within: nil)
        }
        for row in links[id] ?? [] {
            var inner = RowReader(row)
            if let link = Self.link(&inner) { tunnel.links.append(link) }
            reader.take(inner, within: "link \(row["name"] as String)")
        }
        tunnel.filters = Self.filters(filters[id] ?? [], &reader)
        return tunnel
    }

    private static func link(_ reader: inout RowReader) -> LinkDefinition? {
        guard let name = reader.value("name", { text throws(DefinitionError) in try LinkName(text) }) else {
            return nil
        }
        var link = LinkDefinition(name: name)
        link.bind = BindAddress(host: reader.host("bind_host"), port: reader.port("bind_port"))
        if let host = reader.host("remote_host"), let port = reader.port("remote_port") {
            link.remote = HostPort(host: host, port: port)
        }
        link.bandwidth = (reader.row["bandwidth"] as Int64?).map { .bytesPerSecond(UInt64(clamping: $0)) } ?? .auto
        link.limit = (reader.row["rate_limit"] as Int64?).map { UInt64(clamping: $0) }
        link.timeout = reader.row["timeout"]
        link.lossTolerance = reader.row["loss_tolerance"]
        link.latencyTolerance = reader.row["latency_tolerance"]
        link.fallback = reader.flag("fallback")
        return link
    }

    /// Rows of one tunnel, one for each link of each filter.
    private static func filters(_ rows: [Row], _ reader: inout RowReader) -> [FilterDefinition] {
        var filters: [FilterDefinition] = []
        var position: Int64?
        for row in rows {
            if position != row["position"] {
                position = row["position"]
                filters.append(FilterDefinition(links: [], expression: row["expression"]))
            }
            guard let link = row["link"] as String? else { continue }
            do { filters[filters.count - 1].links.append(try LinkName(link)) } catch { reader.note(error) }
        }
        return filters
    }
}

/// Takes typed values out of a row and collects what is wrong with them.
private struct RowReader {
    let row: Row
    private(set) var problems: [DefinitionError] = []

    init(_ row: Row) { self.row = row }

    mutating func note(_ problem: DefinitionError) { problems.append(problem) }

    mutating func take(_ inner: RowReader, within place: String?) {
        problems += place.map { place in inner.problems.map { $0.within(place) } } ?? inner.problems
    }

    mutating func value<T>(_ column: String, _ parse: (String) throws(DefinitionError) -> T) -> T? {
        do { return try parse(row[column]) } catch {
            note(error)
            return nil
        }
    }

    mutating func optional<T>(_ column: String, _ parse: (String) throws(DefinitionError) -> T) -> T? {
        (row[column] as String?) == nil ? nil : value(column, parse)
    }

    mutating func host(_ column: String) -> Host? {
        optional(column) { text throws(DefinitionError) in try Host(text, field: column) }
    }

    mutating func address(_ column: String) -> IPAddress? {
        optional(column) { text throws(DefinitionError) in
            guard let address = IPAddress(text) else { throw DefinitionError(column, "\(quoted(text)) is no address") }
            return address
        }
    }

    mutating func port(_ column: String) -> UInt16? {
        guard let number = row[column] as Int64? else { return nil }
        guard let port = UInt16(exactly: number), port > 0 else {
            note(DefinitionError(column, "\(number) is no port from 1 to 65535"))
            return nil
        }
        return port
    }

    mutating func word<T: RawRepresentable<String>>(_ column: String, _ fallback: T) -> T {
        value(column) { text throws(DefinitionError) in
            guard let value = T(rawValue: text) else { throw DefinitionError(column, "\(quoted(text)) is not known") }
            return value
        } ?? fallback
    }

    func flag(_ column: String) -> Bool { row[column] != 0 as Int64 }
}
