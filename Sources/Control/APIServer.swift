import AdminAPI
import HTTPTypes
import Hummingbird
import HummingbirdCore
import LinuxSystem
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// Serves HTTP/1.1: on the control socket to the superuser and the members of the admin group, on TCP to the holders of a
/// token.
struct APIServer: Sendable {
    let responder: any HTTPResponder<APIContext>
    let access: Access
    let logger: Logger
    /// Who may not come in may not fill the log either.
    private let refusals = LogLimiter(perMinute: 20)

    /// Who may use the API.
    enum Access: Sendable {
        /// The superuser, and the members of this group.
        case peers(adminGroup: UInt32?)
        case tokens(APITokenFile)
    }

    /// Bytes of a request's body, but for a restore's.
    static let maximumBody = 1 << 20
    /// A client that sends nothing for so long, before its request is complete, is let go.
    private static let idleTimeout = TimeAmount.seconds(30)
    private let gate: ConnectionGate

    init(responder: any HTTPResponder<APIContext>, access: Access, maximumConnections: Int = 256, logger: Logger) {
        self.responder = responder
        self.access = access
        self.logger = logger
        gate = ConnectionGate(limit: maximumConnections)
    }

    private var bootstrap: ServerBootstrap {
        ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(ChannelOptions.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(ChannelOptions.allowRemoteHalfClosure, value: true)
    }

    /// Serves a socket that listens, until it is cancelled.
    func run(on listener: consuming OwnedDescriptor) async throws {
        try await serve(try await bootstrap.bind(listener.release()) { accept($0, tls: nil) })
    }

    /// Listens on TCP, until it is cancelled.
    func run(host: String, port: Int, tls: ServerTLS?) async throws {
        try await serve(try await bootstrap.bind(host: host, port: port) { accept($0, tls: tls) })
    }

    private func serve(_ server: NIOAsyncChannel<Accepted, Never>) async throws {
        logger.info("the API listens", metadata: ["address": "\(server.channel.localAddress?.description ?? "?")"])
        try await withThrowingDiscardingTaskGroup { group in
            try await server.executeThenClose { accepted in
                for try await connection in accepted {
                    group.addTask {
                        await connection.http.handle(value: connection.value, logger: logger)
                        gate.leave()
                    }
                }
            }
        }
    }

    private struct Accepted: Sendable {
        var http: HTTP1Channel
        var value: HTTP1Channel.Value
    }

    /// What fails here is closed, and never comes to ``serve(_:)``.
    private func accept(_ channel: any Channel, tls: ServerTLS?) -> EventLoopFuture<Accepted> {
        // Before there is anything else of it: a channel that was set up must be run to its end.
        guard gate.enter() else {
            refusals.warning(
                logger, "the API refused a client: \(gate.limit) are connected already",
                metadata: ["peer": "\(channel.remoteAddress?.description ?? "unknown")"])
            channel.close(promise: nil)
            return channel.eventLoop.makeFailedFuture(ConnectionGate.Full())
        }
        do {
            try tls?.add(to: channel.pipeline.syncOperations)
            let http = HTTP1Channel(
                responder: try responder(on: channel), configuration: .init(idleTimeout: Self.idleTimeout))
            let accepted = http.setup(channel: channel, logger: logger).map { Accepted(http: http, value: $0) }
            accepted.whenFailure { _ in gate.leave() }
            return accepted
        } catch {
            gate.leave()
            channel.close(promise: nil)
            return channel.eventLoop.makeFailedFuture(error)
        }
    }

    /// What answers on one connection: the routes, or, for who may not, a refusal.
    private func responder(on channel: any Channel) throws -> HTTPChannelHandler.Responder {
        switch access {
        case .tokens(let tokens):
            let address = channel.remoteAddress?.description ?? "unknown"
            return { request, writer, channel in
                guard let name = Self.token(of: request).flatMap(tokens.name) else {
                    refusals.warning(
                        logger, "the API refused a client without a valid token", metadata: ["peer": "\(address)"])
                    var response = problemResponse(
                        Problem(.unauthorized, "give a token of api_token_file as 'Authorization: Bearer TOKEN'"))
                    response.headers[.wwwAuthenticate] = "Bearer realm=\"mlvpn\""
                    return try await Self.refuse(response.asAnswer(to: request), writer, channel)
                }
                let source = APIContext.Source(logger: logger, uid: nil, via: "token \(name)")
                let response = await respond(to: request, source)
                try await writer.write(response: response.head, body: response.body)
            }
        case .peers(let adminGroup):
            let peer = try channel.pipeline.syncOperations.withUnsafeTransportIfAvailable {
                (socket: NIOBSDSocket.Handle) in PeerCredentials(of: socket)
            }.flatMap { $0 }
            if peer?.mayAdminister(adminGroup: adminGroup) ?? false {
                return { request, writer, _ in
                    let source = APIContext.Source(logger: logger, uid: peer?.uid)
                    let response = await respond(to: request, source)
                    try await writer.write(response: response.head, body: response.body)
                }
            }
            refusals.warning(
                logger, "the control socket refused a peer",
                metadata: ["uid": "\(peer.map { "\($0.uid)" } ?? "unknown")"])
            return { request, writer, channel in
                let response = problemResponse(
                    Problem(.forbidden, "only root and the members of the admin group may use this socket"))
                try await Self.refuse(response.asAnswer(to: request), writer, channel)
            }
        }
    }

    private func respond(to request: Request, _ source: APIContext.Source) async -> Response {
        do { return try await responder.respond(to: request, context: APIContext(source: source)) } catch {
            return problemResponse(for: error, logger)
        }
    }

    private static func refuse(
        _ response: Response, _ writer: consuming ResponseWriter, _ channel: any Channel
    ) async throws {
        var response = response
        response.headers[.connection] = "close"
        try await writer.write(response: response.head, body: response.body)
        channel.close(promise: nil)
    }

    private static func token(of request: Request) -> Substring? {
        guard let words = request.headers[.authorization]?.split(separator: " "), words.count == 2,
            words[0].lowercased() == "bearer"
        else { return nil }
        return words[1]
    }
}
