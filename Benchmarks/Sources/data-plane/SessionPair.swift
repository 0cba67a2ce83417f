import TunnelCore
import TunnelModel
import TunnelWire

/// The two ends of a link whose handshake is done.
struct SessionPair {
    var client: LinkSession
    var server: LinkSession
    var now: Int64
    let clientAddress: SocketAddress
    let serverAddress: SocketAddress

    init(link: Int) {
        now = 1000 * second
        func settings(_ isServer: Bool) -> LinkSession.Settings {
            LinkSession.Settings(
                isServer: isServer, isTAP: false, timeoutSeconds: 60, lossTolerance: 100, latencyTolerance: 1000)
        }
        clientAddress = SocketAddress(.v4(0x0a00_0002 + UInt32(link) * 256), port: 5080)
        serverAddress = SocketAddress(.v4(0x0a00_0001 + UInt32(link) * 256), port: 5080)
        client = LinkSession(settings: settings(false), flowID: UInt32(2 * link + 1), sequence: 1, now: now)
        server = LinkSession(settings: settings(true), flowID: UInt32(2 * link + 2), sequence: 1, now: now)
        client.configure(peer: serverAddress)
        client.tick(now: now)
        // AUTH, AUTH_OK, and the keepalives that follow.
        for _ in 0..<4 {
            Self.exchange(&client, &server, clientAddress, now)
            Self.exchange(&server, &client, serverAddress, now)
        }
        precondition(client.isUp && server.isUp, "the handshake has failed")
    }

    private static func exchange(
        _ from: inout LinkSession, _ to: inout LinkSession, _ source: SocketAddress, _ now: Int64
    ) {
        while let control = from.nextControl(now: now) {
            var body: [UInt8] = []
            switch control.type {
            case .auth: body = [0x41, 0x55]
            case .authOK: body = [0x4f, 0x4b]
            default: break
            }
            let header = from.nextHeader(
                control.type, bodyLength: body.count + Datagram.macSize, reorder: false, dataSequence: 0, stamp: 1,
                now: now)
            body.withUnsafeBytes { bytes in
                _ = to.receive(header, control.type, body: bytes, from: source, now: now, isOwnFlow: { _ in false })
            }
        }
    }
}
