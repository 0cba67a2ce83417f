import AdminAPI
import Glibc
import LinuxSystem
import ProcessChannel
import TunnelModel

/// What MLVPN's monitoring shows of one tunnel (mlvpn(8), Monitoring). Uptime and pid are those of the daemon as a whole.
struct MonitorFormat: Sendable {
    var snapshot: TunnelSnapshot
    /// Seconds.
    var uptime: Int64
    /// Milliseconds since 1970.
    var reloadedAt: Int64

    private var definition: TunnelDefinition { snapshot.definition }

    /// One JSON document, a line.
    func status() -> String {
        let document = JSONValue.object([
            "name": .string(definition.name.text),
            "version": .string(Version.text),
            "uptime": .integer(uptime),
            "last_reload": .integer(reloadedAt / 1000),
            "pid": JSONValue(getppid()),
            "tuntap": .object([
                "type": .string(definition.device.rawValue), "name": .string(definition.interface.text),
            ]),
            "tunnels": .array(snapshot.links.map { link($0.definition, $0.record) }),
        ])
        guard let bytes = try? JSON.encode(document) else { return "{}\n" }
        return String(decoding: bytes, as: UTF8.self) + "\n"
    }

    private func link(_ link: LinkDefinition, _ record: StateMap.LinkRecord?) -> JSONValue {
        let peer = record?.peer
        let peerPort = peer.flatMap { $0.isNone ? nil : "\($0.port)" }
        return .object([
            "name": .string(link.name.text),
            "mode": .string(definition.mode.rawValue),
            "bindaddr": .string(link.bind.host?.description ?? "any"),
            "bindport": .string(link.bind.port.map { "\($0)" } ?? "any"),
            "destaddr": .string(link.remote?.host.description ?? peer?.address?.description ?? ""),
            "destport": .string(link.remote.map { "\($0.port)" } ?? peerPort ?? ""),
            "status": .string(Self.word(snapshot.state(of: record))),
            "sentpackets": JSONValue(record?.txPackets ?? 0),
            "recvpackets": JSONValue(record?.rxPackets ?? 0),
            "sentbytes": JSONValue(record?.txBytes ?? 0),
            "recvbytes": JSONValue(record?.rxBytes ?? 0),
            "bandwidth": JSONValue(Self.bandwidth(link, record)),
            "srtt": JSONValue(Self.roundTrip(record)),
            "loss": JSONValue(Self.loss(record)),
            "disconnects": JSONValue(record?.disconnects ?? 0),
            "last_packet": .integer((record?.lastHeard ?? 0) / 1000),
            "timeout": JSONValue(definition.timeout(of: link)),
        ])
    }

    /// Prometheus' text format, with MLVPN's names: `tunnel` is the link.
    func metrics() -> String {
        var text = "uptime \(uptime)\nlast_reload \(reloadedAt / 1000)\npid \(getppid())\n"
        for (link, record) in snapshot.links {
            let state = snapshot.state(of: record)
            let values: [(String, UInt64)] = [
                ("disconnected", state == .down ? 1 : 0), ("waitingpeer", state == .connecting ? 1 : 0),
                ("connected", state == .up ? 1 : 0), ("lossy", state == .lossy ? 1 : 0),
                ("slow", state == .slow ? 1 : 0),
                ("sentpackets", record?.txPackets ?? 0), ("recvpackets", record?.rxPackets ?? 0),
                ("sentbytes", record?.txBytes ?? 0), ("recvbytes", record?.rxBytes ?? 0),
                ("bandwidth", Self.bandwidth(link, record)), ("srtt", Self.roundTrip(record)),
                ("loss", Self.loss(record)),
                ("disconnects", record?.disconnects ?? 0),
                ("last_packet", UInt64(max(0, record?.lastHeard ?? 0) / 1000)),
                ("timeout", UInt64(definition.timeout(of: link))),
            ]
            for (name, value) in values { text += "\(name){tunnel=\"\(link.name)\"} \(value)\n" }
        }
        return text
    }

    private static func word(_ state: LinkState) -> String {
        switch state {
        case .down: "disconnected"
        case .connecting: "waiting peer"
        case .up: "connected"
        case .lossy: "lossy link"
        case .slow: "slow link"
        }
    }

    /// Bytes per second: what is defined, or what was found.
    private static func bandwidth(_ link: LinkDefinition, _ record: StateMap.LinkRecord?) -> UInt64 {
        if case .bytesPerSecond(let rate) = link.bandwidth { rate } else { record?.capacity ?? 0 }
    }

    /// Milliseconds.
    private static func roundTrip(_ record: StateMap.LinkRecord?) -> UInt64 {
        UInt64((record?.smoothedRTT ?? 0) / 1000)
    }

    /// Percent.
    private static func loss(_ record: StateMap.LinkRecord?) -> UInt64 {
        UInt64(min(record?.lossPermille ?? 0, 1000) / 10)
    }
}
