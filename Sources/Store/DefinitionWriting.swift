import GRDB
import TunnelModel

import struct Foundation.Data

// How a definition becomes rows.

extension Store {
    static let columns = [
        "name", "mode", "interface", "device", "enabled", "ip4", "ip6", "gateway4", "gateway6", "mtu", "timeout",
        "reorder",
        "loss_tolerance", "latency_tolerance", "scheduler", "cleartext_data", "clamp_mss", "device_offload",
        "udp_segment",
        "udp_gro", "status_command", "control_unix_path", "control_bind_host", "control_bind_port",
    ]

    /// In the order of `columns`.
    static func values(_ tunnel: TunnelDefinition) -> [(any DatabaseValueConvertible)?] {
        [
            tunnel.name.text, tunnel.mode.rawValue, tunnel.interface.text, tunnel.device.rawValue, tunnel.enabled,
            tunnel.ip4?.description, tunnel.ip6?.description, tunnel.gateway4?.description,
            tunnel.gateway6?.description,
            tunnel.mtu, tunnel.timeout, tunnel.reorder.description, tunnel.lossTolerance, tunnel.latencyTolerance,
            tunnel.scheduler.rawValue, tunnel.cleartextData, tunnel.clampMSS, tunnel.offloads.device,
            tunnel.offloads.udpSegment, tunnel.offloads.udpGRO, tunnel.statusCommand, tunnel.monitoring.unixPath,
            tunnel.monitoring.bindHost?.description, tunnel.monitoring.bindPort.map { Int($0) },
        ]
    }

    static func insertTunnel(_ tunnel: TunnelDefinition, _ db: Database) throws {
        let marks = columns.map { _ in "?" }.joined(separator: ", ")
        try db.execute(
            sql: "INSERT INTO tunnels (\(columns.joined(separator: ", "))) VALUES (\(marks))",
            arguments: StatementArguments(values(tunnel)))
    }

    static func updateTunnel(_ id: Int64, _ tunnel: TunnelDefinition, _ db: Database) throws {
        let settings = columns.map { "\($0) = ?" }.joined(separator: ", ")
        try db.execute(
            sql: "UPDATE tunnels SET \(settings) WHERE id = ?", arguments: StatementArguments(values(tunnel) + [id]))
    }

    /// Writes what a tunnel has several of, and its password, in place of what was there.
    static func replaceParts(of id: Int64, _ tunnel: TunnelDefinition, _ db: Database) throws {
        for table in ["filters", "links", "routes", "secrets"] {
            try db.execute(sql: "DELETE FROM \(table) WHERE tunnel_id = ?", arguments: [id])
        }
        try db.execute(
            sql: "INSERT INTO secrets (tunnel_id, password) VALUES (?, ?)",
            arguments: [id, Data(tunnel.password.bytes)])
        for (position, route) in tunnel.routes.enumerated() {
            try db.execute(
                sql: "INSERT INTO routes (tunnel_id, position, cidr) VALUES (?, ?, ?)",
                arguments: [id, position, route.description])
        }
        for (position, link) in tunnel.links.enumerated() { try insert(link, at: position, of: id, db) }
        for (position, filter) in tunnel.filters.enumerated() {
            try db.execute(
                sql: "INSERT INTO filters (tunnel_id, position, expression) VALUES (?, ?, ?)",
                arguments: [id, position, filter.expression])
            for (preference, link) in filter.links.enumerated() {
                try db.execute(
                    sql: "INSERT INTO filter_links (tunnel_id, filter, preference, link) VALUES (?, ?, ?, ?)",
                    arguments: [id, position, preference, link.text])
            }
        }
    }

    private static func insert(_ link: LinkDefinition, at position: Int, of id: Int64, _ db: Database) throws {
        var bandwidth: Int64?
        if case .bytesPerSecond(let rate) = link.bandwidth { bandwidth = Int64(clamping: rate) }
        try db.execute(
            sql: """
                INSERT INTO links (tunnel_id, position, name, bind_host, bind_port, remote_host, remote_port, bandwidth,
                    rate_limit, timeout, loss_tolerance, latency_tolerance, fallback)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
            arguments: [
                id, position, link.name.text, link.bind.host?.description, link.bind.port.map { Int($0) },
                link.remote?.host.description, link.remote.map { Int($0.port) }, bandwidth,
                link.limit.map { Int64(clamping: $0) }, link.timeout, link.lossTolerance, link.latencyTolerance,
                link.fallback,
            ])
    }
}
