import AdminAPI
import ProcessChannel
import TunnelModel

/// Everything that is counted, in Prometheus' text format (version 0.0.4).
enum Metrics {
    /// - Parameters:
    ///   - startedAt: when control was started, milliseconds since 1970.
    ///   - rejected: how many tunnels of the database cannot be run.
    static func text(
        _ snapshots: [TunnelSnapshot], header: StateMap.Header, startedAt: Int64, rejected: Int
    ) -> String {
        var out = MetricWriter()
        out.begin("mlvpn_build_info", .gauge, "1; the version is in the label.")
        out.add(1, [("version", Version.text)])
        out.begin("mlvpn_control_start_timestamp_seconds", .gauge, "When the control process was started.")
        out.add(Double(startedAt) / 1000)
        out.begin("mlvpn_tunnels", .gauge, "Tunnels that are defined and can be run.")
        out.add(snapshots.count)
        out.begin("mlvpn_tunnels_rejected", .gauge, "Tunnels in the database that cannot be run as they stand.")
        out.add(rejected)
        addEngine(header, &out)
        addTunnels(snapshots, &out)
        addLinks(snapshots, &out)
        return out.text
    }

    private static func addEngine(_ header: StateMap.Header, _ out: inout MetricWriter) {
        out.begin("mlvpn_engine_starts_total", .counter, "Starts of the data plane since the daemon's.")
        out.add(header.engineStarts)
        out.begin("mlvpn_engine_heartbeat_timestamp_seconds", .gauge, "The data plane's last sign of life.")
        if header.heartbeat > 0 { out.add(Double(header.heartbeat) / 1000) }
        out.begin("mlvpn_engine_workers", .gauge, "Worker threads.")
        out.add(header.workers)
        out.begin("mlvpn_engine_busy_seconds_total", .counter, "Time that workers were busy, all together.")
        out.add(Double(header.busyNanoseconds) / 1e9)
        out.begin("mlvpn_engine_wakeups_total", .counter, "How often workers woke up.")
        out.add(header.wakeUps)
        out.begin("mlvpn_events_total", .counter, "Changes of state.")
        out.add(header.eventCount)
    }

    private static func addTunnels(_ snapshots: [TunnelSnapshot], _ out: inout MetricWriter) {
        func each(
            _ name: String, _ type: MetricWriter.Kind, _ help: String,
            _ value: (TunnelSnapshot, StateMap.TunnelRecord) -> UInt64
        ) {
            out.begin(name, type, help)
            for snapshot in snapshots {
                guard let record = snapshot.record else { continue }
                out.add(value(snapshot, record), [("tunnel", snapshot.definition.name.text)])
            }
        }
        out.begin("mlvpn_tunnel_up", .gauge, "1 while any link of the tunnel is up.")
        for snapshot in snapshots {
            out.add(snapshot.state == "up" ? 1 : 0, [("tunnel", snapshot.definition.name.text)])
        }
        out.begin("mlvpn_tunnel_info", .gauge, "1; what the tunnel is, in labels.")
        for snapshot in snapshots {
            let definition = snapshot.definition
            out.add(
                1,
                [
                    ("tunnel", definition.name.text), ("interface", definition.interface.text),
                    ("mode", definition.mode.rawValue), ("device", definition.device.rawValue),
                    ("scheduler", definition.scheduler.rawValue),
                ])
        }
        out.begin("mlvpn_tunnel_problem", .gauge, "1 while something keeps the tunnel, or a link of it, from working.")
        for snapshot in snapshots {
            let entry = snapshot.entry
            let isTroubled = entry.problem != nil || !entry.linkProblems.isEmpty || !entry.rejected.isEmpty
            out.add(isTroubled ? 1 : 0, [("tunnel", snapshot.definition.name.text)])
        }
        out.begin("mlvpn_tunnel_state_change_timestamp_seconds", .gauge, "When the tunnel last went up or down.")
        for snapshot in snapshots {
            guard let since = snapshot.record?.since, since > 0 else { continue }
            out.add(Double(since) / 1000, [("tunnel", snapshot.definition.name.text)])
        }
        out.begin("mlvpn_tunnel_busy_seconds_total", .counter, "Time that its worker gave the tunnel.")
        for snapshot in snapshots {
            guard let record = snapshot.record else { continue }
            out.add(Double(record.busyNanoseconds) / 1e9, [("tunnel", snapshot.definition.name.text)])
        }
        out.begin("mlvpn_tunnel_enabled", .gauge, "0 for a disabled tunnel.")
        for snapshot in snapshots {
            out.add(snapshot.definition.enabled ? 1 : 0, [("tunnel", snapshot.definition.name.text)])
        }
        each("mlvpn_tunnel_rx_bytes_total", .counter, "Inner bytes from the tunnel to its device.") { $1.deviceTxBytes }
        each("mlvpn_tunnel_tx_bytes_total", .counter, "Inner bytes from the device into the tunnel.") {
            $1.deviceRxBytes
        }
        each("mlvpn_tunnel_rx_packets_total", .counter, "Inner packets to the device.") { $1.deviceTxPackets }
        each("mlvpn_tunnel_tx_packets_total", .counter, "Inner packets from the device.") { $1.deviceRxPackets }
        each("mlvpn_tunnel_device_reads_total", .counter, "Batches read from the device.") { $1.deviceReads }
        each("mlvpn_tunnel_device_writes_total", .counter, "Batches written to the device.") { $1.deviceWrites }
        each("mlvpn_tunnel_queued_packets", .gauge, "Packets that wait to be sent.") { $1.queuedPackets }
        each("mlvpn_tunnel_reorder_held_packets", .gauge, "Packets held to restore their order.") { $1.reorderHeld }
        each("mlvpn_tunnel_reorder_timeouts_total", .counter, "Gaps given up after waiting.") { $1.reorderTimeouts }
        each("mlvpn_tunnel_reorder_overflows_total", .counter, "Gaps given up for want of room.") {
            $1.reorderOverflows
        }
        each("mlvpn_tunnel_duplicates_total", .counter, "Packets that came twice.") { $1.duplicates }
        out.begin("mlvpn_tunnel_dropped_packets_total", .counter, "Inner packets dropped.")
        for snapshot in snapshots {
            guard let record = snapshot.record else { continue }
            for (reason, count) in [
                ("no_link", record.droppedNoLink), ("queue", record.droppedQueue), ("too_big", record.droppedTooBig),
                ("device", record.droppedDevice),
            ] {
                out.add(count, [("tunnel", snapshot.definition.name.text), ("reason", reason)])
            }
        }
    }

    private static func addLinks(_ snapshots: [TunnelSnapshot], _ out: inout MetricWriter) {
        func labels(_ snapshot: TunnelSnapshot, _ link: LinkDefinition) -> [(String, String)] {
            [("tunnel", snapshot.definition.name.text), ("link", link.name.text)]
        }
        func each(
            _ name: String, _ type: MetricWriter.Kind, _ help: String,
            _ value: (TunnelSnapshot, StateMap.LinkRecord) -> Double?
        ) {
            out.begin(name, type, help)
            for snapshot in snapshots {
                for link in snapshot.links {
                    guard let record = link.record, let value = value(snapshot, record) else { continue }
                    out.add(value, labels(snapshot, link.definition))
                }
            }
        }
        out.begin("mlvpn_link_state", .gauge, "1 for the state that the link is in.")
        for snapshot in snapshots {
            for link in snapshot.links {
                let current = snapshot.state(of: link.record)
                for state in LinkState.allCases {
                    out.add(state == current ? 1 : 0, labels(snapshot, link.definition) + [("state", state.word)])
                }
            }
        }
        each("mlvpn_link_rtt_seconds", .gauge, "Smoothed round-trip time.") {
            $1.smoothedRTT > 0 ? Double($1.smoothedRTT) / 1e6 : nil
        }
        each("mlvpn_link_rtt_variation_seconds", .gauge, "Variation of the round-trip time.") {
            $1.smoothedRTT > 0 ? Double($1.rttVariation) / 1e6 : nil
        }
        each("mlvpn_link_state_change_timestamp_seconds", .gauge, "When the link's state last changed.") {
            $1.since > 0 ? Double($1.since) / 1000 : nil
        }
        each("mlvpn_link_loss_ratio", .gauge, "Share of lost datagrams, of those sent to us.") {
            Double(min($1.lossPermille, 1000)) / 1000
        }
        each("mlvpn_link_remote_loss_ratio", .gauge, "Share of lost datagrams, of those that we send.") {
            Double(min($1.remoteLossPermille, 1000)) / 1000
        }
        each("mlvpn_link_capacity_bytes_per_second", .gauge, "What the link is found able to carry.") {
            $1.capacity > 0 ? Double($1.capacity) : nil
        }
        each("mlvpn_link_last_heard_timestamp_seconds", .gauge, "When the last authenticated datagram came.") {
            $1.lastHeard > 0 ? Double($1.lastHeard) / 1000 : nil
        }
        each("mlvpn_link_rx_bytes_total", .counter, "Outer bytes received.") { Double($1.rxBytes) }
        each("mlvpn_link_tx_bytes_total", .counter, "Outer bytes sent.") { Double($1.txBytes) }
        each("mlvpn_link_rx_packets_total", .counter, "Datagrams received.") { Double($1.rxPackets) }
        each("mlvpn_link_tx_packets_total", .counter, "Datagrams sent.") { Double($1.txPackets) }
        each("mlvpn_link_rx_batches_total", .counter, "Batches of datagrams received.") { Double($1.rxBatches) }
        each("mlvpn_link_tx_batches_total", .counter, "Batches of datagrams sent.") { Double($1.txBatches) }
        each("mlvpn_link_disconnects_total", .counter, "How often the link went down.") { Double($1.disconnects) }
        out.begin("mlvpn_link_dropped_datagrams_total", .counter, "Datagrams dropped.")
        for snapshot in snapshots {
            for link in snapshot.links {
                guard let record = link.record else { continue }
                for (reason, count) in [
                    ("authentication", record.droppedAuthentication), ("replay", record.droppedReplay),
                    ("malformed", record.droppedMalformed), ("state", record.droppedState),
                    ("send", record.droppedSend),
                ] {
                    out.add(count, labels(snapshot, link.definition) + [("reason", reason)])
                }
            }
        }
    }
}

/// Writes metrics line by line.
struct MetricWriter {
    enum Kind: String { case counter, gauge }

    private(set) var text = ""
    private var name = ""

    mutating func begin(_ name: String, _ kind: Kind, _ help: String) {
        self.name = name
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
    }

    mutating func add(_ value: some BinaryInteger, _ labels: [(String, String)] = []) { line("\(value)", labels) }
    mutating func add(_ value: Double, _ labels: [(String, String)] = []) { line("\(value)", labels) }

    /// A device's name may hold what ends a label's value.
    private static func escaped(_ value: String) -> String {
        guard value.utf8.contains(where: { $0 == UInt8(ascii: "\\") || $0 == UInt8(ascii: "\"") || $0 == 10 }) else {
            return value
        }
        return value.reduce(into: "") { out, character in
            switch character {
            case "\\": out += "\\\\"
            case "\"": out += "\\\""
            case "\n": out += "\\n"
            default: out.append(character)
            }
        }
    }

    private mutating func line(_ value: String, _ labels: [(String, String)]) {
        let list = labels.map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ",")
        text += list.isEmpty ? "\(name) \(value)\n" : "\(name){\(list)} \(value)\n"
    }
}
