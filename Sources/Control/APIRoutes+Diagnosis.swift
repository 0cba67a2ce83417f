import AdminAPI
import Hummingbird
import NIOCore
import ProcessChannel
import Store
import TunnelModel

extension APIRoutes {
    func addDiagnosis(to group: RouterGroup<APIContext>) {
        group.get("tunnels/:name/capture") { request, context in
            let link = try request.link()
            let limits = CaptureLimits(
                packets: try number(request, "packets", 1...1_000_000, default: 10_000),
                snapLength: try number(request, "snap_length", 1...CaptureLimits.maximumSnapLength, default: 65535),
                seconds: try number(request, "seconds", 1...3600, default: 60))
            let capture = try await directory.capture(
                try context.tunnel(), link: link, limits: limits, by: context.change("capture", detail: link ?? ""))
            return Response(
                status: .ok, headers: [.contentType: "application/vnd.tcpdump.pcap", .cacheControl: "no-store"],
                body: .init { writer in
                    for await chunk in capture.chunks { try await writer.write(ByteBuffer(bytes: chunk)) }
                    try await writer.finish(nil)
                })
        }
        group.put("tunnels/:name/debug") { request, context in
            let body = try await request.decode(DebugTokenList.self)
            try await directory.debug(
                try context.tunnel(), tokens: body.tokens,
                by: context.change("debug", detail: body.tokens.isEmpty ? "off" : body.tokens.joined(separator: " ")))
            return try Response.json(body)
        }
    }

    private func number(
        _ request: Request, _ name: String, _ range: ClosedRange<UInt32>, default value: UInt32
    ) throws -> UInt32 {
        guard let text = request.parameter(name) else { return value }
        guard let number = UInt32(text), range.contains(number) else {
            throw Problem(
                .malformed, "\(name): \(quoted(text)) is no number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }
}

extension TunnelDirectory {
    /// Begins to copy packets: a tunnel's inner ones, or a link's datagrams.
    func capture(
        _ name: String, link: String?, limits: CaptureLimits, by change: Change
    ) throws -> PacketCapture {
        let entry = try entry(named: name)
        var linkName: LinkName?
        if let link {
            guard let found = entry.definition.links.first(where: { $0.name.text == link }) else {
                throw StoreError.noSuchLink(tunnel: name, link: link)
            }
            linkName = found.name
        }
        guard entry.definition.enabled else {
            throw Problem(.refused, "tunnel \(name) is disabled; enable it first, there is nothing to capture")
        }
        let type: PacketCapture.LinkType = linkName == nil && entry.definition.device == .tap ? .ethernet : .raw
        // Nothing is looked at that is not recorded.
        try store.record(change, of: name)
        return try PacketCapture(type, limits) { descriptor in
            send(.capture(id: entry.stored.id, link: linkName, limits: limits), [descriptor])
        }
    }

    /// Which of the engine's doings are logged for one tunnel, until the daemon ends or this is called again.
    func debug(_ name: String, tokens: [String], by change: Change) throws {
        let entry = try entry(named: name)
        var set: DebugTokens = []
        for token in tokens {
            guard let bit = DebugTokens(name: token) else {
                throw Problem(
                    .refused,
                    "\(quoted(token)) is no debug token; there are \(DebugTokens.names.joined(separator: ", "))")
            }
            set.insert(bit)
        }
        try store.record(change, of: name)
        send(.debug(id: entry.stored.id, tokens: set.rawValue), [])
    }

    private func entry(named name: String) throws(StoreError) -> TunnelEntry {
        guard let entry = entries.values.first(where: { $0.definition.name.text == name }) else {
            throw .noSuchTunnel(name)
        }
        return entry
    }
}
