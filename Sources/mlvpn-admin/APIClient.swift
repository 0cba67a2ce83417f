import AdminAPI
import ArgumentParser
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// Speaks HTTP/1.1 to the daemon over its control socket: one connection for each request.
struct APIClient: Sendable {
    /// The control socket.
    let path: String
    /// How long the daemon may take for an ordinary answer, from the request to its end.
    var patience = TimeAmount.seconds(60)

    enum Method: String, Sendable {
        case GET, POST, PUT, PATCH, DELETE
    }

    private typealias Channel = NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>

    /// Bytes of an answer, but for a backup's, which is written as it comes.
    private static let maximumAnswer = 256 << 20

    /// The answer to a request, decoded; problem documents are thrown.
    func send<T: Decodable>(
        _ method: Method, _ target: Target, body: JSONValue? = nil, version: Int64? = nil, as type: T.Type = T.self
    ) async throws -> T {
        let bytes = try await send(method, target, body: body, version: version)
        do { return try JSON.decode(type, from: bytes.readableBytesView) } catch {
            throw Problem(
                .failed, "the daemon's answer is not understood; is mlvpn-admin of another version? (\(error))")
        }
    }

    /// The answer's body as it is; problem documents are thrown.
    @discardableResult
    func send(
        _ method: Method, _ target: Target, body: JSONValue? = nil, version: Int64? = nil
    ) async throws -> ByteBuffer {
        let payload = try body.map { ByteBuffer(bytes: try JSON.encode($0)) }
        let limit = target.takesLong ? nil : patience
        if limit == nil { try await requireDaemon() }
        return try await exchange(
            method, target, contentLength: payload?.readableBytes, version: version, limit: limit
        ) { outbound in
            if let payload { try await outbound.write(.body(.byteBuffer(payload))) }
        } receive: { inbound in
            var buffer = ByteBuffer()
            while let chunk = try await inbound.next() {
                guard buffer.readableBytes + chunk.readableBytes <= Self.maximumAnswer else {
                    throw Problem(.failed, "the answer is longer than \(Self.maximumAnswer) bytes; ask for less")
                }
                buffer.writeImmutableBuffer(chunk)
            }
            return buffer
        }
    }

    /// Hands the answer's body on, piece by piece, as it comes.
    func stream(_ target: Target, _ handle: @Sendable (ByteBuffer) async throws -> Void) async throws {
        try await requireDaemon()
        try await exchange(.GET, target, contentLength: nil, version: nil, limit: nil) { _ in
        } receive: { inbound in
            while let chunk = try await inbound.next() { try await handle(chunk) }
        }
    }

    /// Streams what goes to standard output, until the answer ends or whoever reads it has had enough.
    func streamToOutput(_ target: Target, _ write: @escaping @Sendable (ByteBuffer) async throws -> Void) async throws {
        try await withThrowingTaskGroup { group in
            group.addTask {
                try await stream(target) { chunk in
                    try await write(chunk)
                    guard Output.isComplete else { throw ExitCode(1) }
                }
            }
            group.addTask {
                try await Output.untilUnread()
                throw ExitCode(1)
            }
            try await group.next()
            group.cancelAll()
        }
    }

    /// Sends a body of `size` bytes piece by piece; `next` gives nil at its end.
    func upload(_ target: Target, size: Int, next: @Sendable () throws -> ByteBuffer?) async throws -> ByteBuffer {
        try await requireDaemon()
        return try await exchange(.POST, target, contentLength: size, version: nil, limit: nil) { outbound in
            while let chunk = try next() { try await outbound.write(.body(.byteBuffer(chunk))) }
        } receive: { inbound in
            var buffer = ByteBuffer()
            while let chunk = try await inbound.next() { buffer.writeImmutableBuffer(chunk) }
            return buffer
        }
    }

    /// What may take long as it is, is not asked of a daemon that does not answer.
    private func requireDaemon() async throws { try await send(.GET, Target("healthz")) }

    /// - Parameter limit: of time, until the answer's end; nil: none.
    private func exchange<T: Sendable>(
        _ method: Method, _ target: Target, contentLength: Int?, version: Int64?, limit: TimeAmount?,
        send: (NIOAsyncChannelOutboundWriter<HTTPClientRequestPart>) async throws -> Void,
        receive: (inout Body) async throws -> T
    ) async throws -> T {
        let channel = try await connect()
        let isLate = Atomic(false)
        let alarm = limit.map { limit in
            channel.channel.eventLoop.scheduleTask(in: limit) {
                isLate.store(true, ordering: .relaxed)
                channel.channel.close(promise: nil)
            }
        }
        defer { alarm?.cancel() }
        do {
            return try await channel.executeThenClose { inbound, outbound in
                do {
                    try await outbound.write(.head(head(method, target, contentLength, version)))
                    try await send(outbound)
                    try await outbound.write(.end(nil))
                } catch let error where Self.isClosedByPeer(error) {
                    // The daemon may have answered, and closed, before it had read everything, a refusal most likely, or
                    // before we had said that this is the end of a body whose length it knew.
                }
                var body = Body(parts: inbound.makeAsyncIterator())
                let status = try await body.status()
                if (200..<300).contains(status) { return try await receive(&body) }
                throw try await Self.problem(&body, status)
            }
        } catch {
            if isLate.load(ordering: .relaxed) { throw Self.late(method, after: limit) }
            if let error = error as? IOError { throw Problem(.unreachable, Self.reason(error, path)) }
            if error is HTTPParserError {
                throw Problem(.unreachable, "the daemon closed the connection in the middle of its answer; see its log")
            }
            throw error
        }
    }

    private static func late(_ method: Method, after limit: TimeAmount?) -> Problem {
        let seconds = (limit?.nanoseconds ?? 0) / 1_000_000_000
        let what = "the daemon has not answered within \(seconds) seconds; see its log"
        return Problem(
            .unreachable,
            method == .GET ? what : "\(what). Whether it did what was asked is not known: 'mlvpn-admin audit' will tell"
        )
    }

    private func head(
        _ method: Method, _ target: Target, _ contentLength: Int?, _ version: Int64?
    ) -> HTTPRequestHead {
        var headers: HTTPHeaders = ["Host": "localhost", "Connection": "close", "Accept": "application/json"]
        if let contentLength {
            headers.add(name: "Content-Type", value: "application/json")
            headers.add(name: "Content-Length", value: "\(contentLength)")
        }
        if let version { headers.add(name: "If-Match", value: "\"\(version)\"") }
        return HTTPRequestHead(
            version: .http1_1, method: HTTPMethod(rawValue: method.rawValue), uri: target.text, headers: headers)
    }

    private static func isClosedByPeer(_ error: any Error) -> Bool {
        switch error {
        case let error as IOError: error.errnoCode == EPIPE || error.errnoCode == ECONNRESET
        case ChannelError.ioOnClosedChannel, ChannelError.outputClosed: true
        default: error is NIOAsyncWriterError
        }
    }

    private func connect() async throws -> Channel {
        do {
            return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(.seconds(5))
                .connect(unixDomainSocketPath: path) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHTTPClientHandlers()
                        return try Channel(wrappingChannelSynchronously: channel)
                    }
                }
        } catch {
            throw Problem(.unreachable, Self.reason(error, path))
        }
    }

    private static func reason(_ error: any Error, _ path: String) -> String {
        if case ChannelError.connectTimeout = error { return "\(path): the daemon takes no connection; it hangs" }
        guard let error = error as? IOError else { return "\(path): \(error)" }
        switch error.errnoCode {
        case ENOENT: return "\(path) does not exist: mlvpnd is not running, or its run directory is another (--socket)"
        case ECONNREFUSED: return "\(path): nobody listens; mlvpnd is not running (systemctl start mlvpnd)"
        case EACCES, EPERM: return "\(path): no permission; be root, or a member of the group mlvpn-admin"
        case ECONNRESET, EPIPE: return "\(path): the daemon closed the connection without an answer; see its log"
        default: return "\(path): \(error)"
        }
    }

    private static func problem(_ body: inout Body, _ status: Int) async throws -> Problem {
        var buffer = ByteBuffer()
        while let chunk = try await body.next(), buffer.readableBytes < 1 << 20 { buffer.writeImmutableBuffer(chunk) }
        if let problem = try? JSON.decode(Problem.self, from: buffer.readableBytesView) { return problem }
        return Problem(.failed, "the daemon answered with HTTP status \(status)")
    }

    /// The parts of one answer.
    struct Body {
        var parts: NIOAsyncChannelInboundStream<HTTPClientResponsePart>.AsyncIterator

        mutating func status() async throws -> Int {
            while let part = try await parts.next() {
                if case .head(let head) = part, head.status.code >= 200 { return Int(head.status.code) }
            }
            throw Problem(.unreachable, "the daemon closed the connection without an answer; see its log")
        }

        /// Nil at the end.
        mutating func next() async throws -> ByteBuffer? {
            while let part = try await parts.next() {
                switch part {
                case .head: continue
                case .body(let buffer): return buffer
                case .end: return nil
                }
            }
            throw Problem(.unreachable, "the daemon closed the connection in the middle of its answer; see its log")
        }
    }
}

/// A path of the API, its parts escaped.
struct Target: Sendable, Equatable {
    let text: String
    /// The larger the database, or the more there is to apply, the longer.
    var takesLong: Bool { ["/v1/check", "/v1/reload"].contains(text) }

    /// `Target("tunnels", name, query: ["secrets": "1"])`; parameters that are nil are left out.
    init(_ parts: String..., query: KeyValuePairs<String, String?> = [:]) {
        var text = "/v1/" + parts.map(Self.escaped).joined(separator: "/")
        let given = query.compactMap { key, value in value.map { "\(key)=\(Self.escaped($0))" } }
        if !given.isEmpty { text += "?" + given.joined(separator: "&") }
        self.text = text
    }

    /// All but RFC 3986's unreserved characters.
    private static func escaped(_ text: String) -> String {
        text.utf8.reduce(into: "") { out, byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                out.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                out += "%" + (digits.count < 2 ? "0" : "") + digits
            }
        }
    }
}
