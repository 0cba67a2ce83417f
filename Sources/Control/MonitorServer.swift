import Glibc
import LinuxSystem
import Logging
import NIOCore
import NIOPosix
import TunnelModel

/// MLVPN's monitoring sockets of one tunnel: a UNIX socket and a TCP port, each for lines (`status`, `metrics`, `quit`) and
/// for HTTP (`GET /status`, `GET /metrics`).
///
/// Control has no privileges: the UNIX socket must lie where its user may write, the port be above 1023. Whoever may
/// connect may read; there is nothing else to do here.
final class MonitorServer: Sendable {
    private let channels: [any Channel]
    private let unixPath: String?

    /// What the sockets show, nil while there is nothing.
    typealias Source = @Sendable () async -> MonitorFormat?

    /// Of one socket.
    static let maximumConnections = 64

    /// - Returns: the server, and what kept a socket from being opened.
    static func start(
        _ monitoring: Monitoring, source: @escaping Source
    ) async -> (server: MonitorServer, problems: [String]) {
        var channels: [any Channel] = []
        var problems: [String] = []
        var unixPath: String?
        let gate = ConnectionGate(limit: maximumConnections)
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(ChannelOptions.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(ChannelOptions.allowRemoteHalfClosure, value: true)
            // The handler reads when it has answered.
            .childChannelOption(ChannelOptions.autoRead, value: false)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    // One that fails here is closed.
                    guard gate.enter() else { throw ConnectionGate.Full() }
                    channel.closeFuture.whenComplete { _ in gate.leave() }
                    try channel.pipeline.syncOperations.addHandlers([
                        IdleStateHandler(allTimeout: .seconds(20)), MonitorHandler(source: source),
                    ])
                }
            }
        if let path = monitoring.unixPath {
            do {
                channels.append(
                    try await bootstrap.bind(unixDomainSocketPath: path, cleanupExistingSocketFile: true).get())
                unixPath = path
                // Monitoring agents have users of their own.
                chmod(path, 0o666)
            } catch {
                problems.append("control-unix-path: \(path): \(error); its directory must let \(userName()) write")
            }
        }
        if let port = monitoring.bindPort {
            let host = (monitoring.bindHost ?? Monitoring.standardHost).description
            do { channels.append(try await bootstrap.bind(host: host, port: Int(port)).get()) } catch {
                problems.append("control-bind-port: \(host) port \(port): \(error)")
            }
        }
        return (MonitorServer(channels: channels, unixPath: unixPath), problems)
    }

    private init(channels: [any Channel], unixPath: String?) {
        self.channels = channels
        self.unixPath = unixPath
    }

    func stop() async {
        for channel in channels { try? await channel.close() }
        if let unixPath { unlink(unixPath) }
    }

    private static func userName() -> String { Account.name(of: getuid()) ?? "user \(getuid())" }
}

/// One connection of a monitoring socket: its lines are answered one after the other, and no more is read meanwhile.
private final class MonitorHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let source: MonitorServer.Source
    private var received = ByteBuffer()
    /// The path of an HTTP request whose headers are still coming.
    private var requested: String?
    /// An answer is under way.
    private var isBusy = false
    private var hasEnded = false

    /// Bytes of a line.
    private static let maximumLine = 8192

    init(source: @escaping MonitorServer.Source) { self.source = source }

    func channelActive(context: ChannelHandlerContext) {
        context.fireChannelActive()
        context.read()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var buffer = unwrapInboundIn(data)
        received.discardReadBytes()
        received.writeBuffer(&buffer)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        proceed(context)
        context.fireChannelReadComplete()
    }

    /// Takes line by line until one has to be answered.
    private func proceed(_ context: ChannelHandlerContext) {
        while !isBusy {
            guard let line = nextLine() else {
                // Whoever will send no more has its answers.
                if hasEnded || received.readableBytes > Self.maximumLine {
                    context.close(promise: nil)
                } else {
                    context.read()
                }
                return
            }
            take(line, context)
        }
    }

    private func nextLine() -> String? {
        let view = received.readableBytesView
        let length: Int
        if let end = view.firstIndex(of: UInt8(ascii: "\n")) {
            length = end - view.startIndex
        } else if hasEnded && !view.isEmpty {
            // The last line may lack its end.
            length = view.count
        } else {
            return nil
        }
        var line = received.readString(length: length) ?? ""
        received.moveReaderIndex(forwardBy: min(1, received.readableBytes))
        if line.last == "\r" { line.removeLast() }
        return line
    }

    private func take(_ line: String, _ context: ChannelHandlerContext) {
        if let path = requested {
            // A header; the empty line ends them.
            if line.isEmpty {
                requested = nil
                answer(command: path.hasPrefix("/") ? String(path.dropFirst()) : path, isHTTP: true, context)
            }
            return
        }
        let words = line.split(separator: " ")
        if words.count >= 2, words[0] == "GET" {
            requested = String(words[1])
            return
        }
        answer(command: line.trimmed, isHTTP: false, context)
    }

    private func answer(command: String, isHTTP: Bool, _ context: ChannelHandlerContext) {
        isBusy = true
        if command == "quit" && !isHTTP {
            write("bye.", thenClose: true, context)
            return
        }
        let source = source
        let text = context.eventLoop.makeFutureWithTask { () -> (status: String, type: String, body: String) in
            let format = await source()
            return switch (command, format) {
            case (_, nil): ("503 Service Unavailable", "application/json", "{\"error\":\"starting\"}\n")
            case ("status", let format?): ("200 OK", "application/json", format.status())
            case ("metrics", let format?): ("200 OK", "text/plain; version=0.0.4", format.metrics())
            default: ("404 Not Found", "application/json", "{\"error\":\"unknown command\"}\n")
            }
        }
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        text.whenSuccess { answer in
            let (handler, context) = bound.value
            guard isHTTP else {
                handler.write(answer.body, thenClose: false, context)
                return
            }
            let head =
                "HTTP/1.1 \(answer.status)\r\nContent-Type: \(answer.type)\r\n"
                + "Content-Length: \(answer.body.utf8.count)\r\nConnection: close\r\n\r\n"
            handler.write(head + answer.body, thenClose: true, context)
        }
    }

    private func write(_ text: String, thenClose: Bool, _ context: ChannelHandlerContext) {
        let written = context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)))
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        written.whenComplete { result in
            let (handler, context) = bound.value
            guard case .success = result, !thenClose else {
                context.close(promise: nil)
                return
            }
            handler.isBusy = false
            handler.proceed(context)
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent { context.close(promise: nil) }
        if case ChannelEvent.inputClosed = event {
            hasEnded = true
            proceed(context)
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

extension String {
    fileprivate var trimmed: String {
        let text = drop { $0 == " " || $0 == "\t" }
        return String(text[..<(text.lastIndex { $0 != " " && $0 != "\t" }.map(text.index(after:)) ?? text.startIndex)])
    }
}
