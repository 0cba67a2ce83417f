import AdminAPI
import HTTPTypes
import Hummingbird
import HummingbirdCore
import LinuxSystem
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// Serves HTTP/1.1 on the control socket, to the superuser and the members of the admin group.
struct APIServer: Sendable {
    let responder: any HTTPResponder<APIContext>
    let adminGroup: UInt32?
    let logger: Logger

    /// Bytes of a request's body, but for a restore's.
    static let maximumBody = 1 << 20
    /// A client that sends nothing for so long, before its request is complete, is let go.
    private static let idleTimeout = TimeAmount.seconds(30)
    private static let maximumConnections = 256

    /// Runs until it is cancelled.
    func run(on listener: consuming OwnedDescriptor) async throws {
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelOption(ChannelOptions.allowRemoteHalfClosure, value: true)
            .bind(listener.release()) { channel in
                do {
                    let http = try connection(on: channel)
                    return http.setup(channel: channel, logger: logger).map { Accepted(http: http, value: $0) }
                } catch {
                    return channel.eventLoop.makeFailedFuture(error)
                }
            }
        logger.info("the API listens on the control socket")
        try await withThrowingDiscardingTaskGroup { group in
            try await server.executeThenClose { accepted in
                let gate = ConnectionGate(limit: Self.maximumConnections)
                for try await connection in accepted {
                    guard gate.enter() else {
                        connection.value.channel.close(promise: nil)
                        continue
                    }
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

    /// What answers on one connection: the routes, or, for who may not, a refusal.
    private func connection(on channel: any Channel) throws -> HTTP1Channel {
        let peer = try channel.pipeline.syncOperations.withUnsafeTransportIfAvailable {
            (socket: NIOBSDSocket.Handle) in PeerCredentials(of: socket)
        }.flatMap { $0 }
        let isAllowed = peer?.mayAdminister(adminGroup: adminGroup) ?? false
        if !isAllowed {
            logger.warning(
                "the control socket refused a peer", metadata: ["uid": "\(peer.map { "\($0.uid)" } ?? "unknown")"])
        }
        return HTTP1Channel(
            responder: { request, writer, channel in
                var response: Response
                if isAllowed {
                    let source = APIContext.Source(logger: logger, uid: peer?.uid)
                    do {
                        response = try await responder.respond(to: request, context: APIContext(source: source))
                    } catch {
                        response = problemResponse(for: error, logger)
                    }
                } else {
                    response = problemResponse(
                        Problem(.forbidden, "only root and the members of the admin group may use this socket"))
                    response.headers[.connection] = "close"
                }
                try await writer.write(response: response.head, body: response.body)
                if !isAllowed { channel.close(promise: nil) }
            },
            configuration: .init(idleTimeout: Self.idleTimeout))
    }
}

/// How many connections there are at once.
private final class ConnectionGate: Sendable {
    private let count = Mutex(0)
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    func enter() -> Bool {
        count.withLock { count in
            guard count < limit else { return false }
            count += 1
            return true
        }
    }

    func leave() { count.withLock { $0 -= 1 } }
}
