import TunnelCore
import TunnelModel
import TunnelWire

/// A client and a server of ours on one link, with somebody in between who can do anything but break the cipher.
final class SessionBench {
    let network = VirtualNetwork()
    private(set) var client: VirtualPeer
    private(set) var server: VirtualPeer

    init(
        isTAP: Bool = false, isCleartext: Bool = false, timeout: Int = 10, lossTolerance: Int = 100,
        latencyTolerance: Int = 1000, announces: Bool = false
    ) {
        client = VirtualPeer(
            1, isServer: false, isTAP: isTAP, isCleartext: isCleartext, timeout: timeout, lossTolerance: lossTolerance,
            latencyTolerance: latencyTolerance, now: network.now)
        server = VirtualPeer(
            2, isServer: true, isTAP: isTAP, isCleartext: isCleartext, timeout: timeout, lossTolerance: lossTolerance,
            latencyTolerance: latencyTolerance, now: network.now)
        client.session.configure(peer: server.address)
        client.announces = announces
        server.announces = announces
        network.attach(client)
        network.attach(server)
    }

    var now: Int64 { network.now }
    var areBothUp: Bool { client.isUp && server.isUp }

    /// Lets the handshake happen, and half a second more.
    func connect() { network.run(500 * millisecond) }

    /// The client's process is another: it knows nothing, and numbers its flow anew.
    func replaceClient(flowID: UInt32 = 0x77, number: UInt32 = 1) {
        network.detach(client)
        client = VirtualPeer(number, isServer: false, flowID: flowID, now: now)
        client.session.configure(peer: server.address)
        network.attach(client)
    }

    /// The client's process ends as it should.
    func stopClient() {
        network.detach(client)
        network.send(client.disconnect(now))
        network.run(network.delay)
    }

    /// The server's process is another.
    func replaceServer(flowID: UInt32 = 0x88) {
        network.detach(server)
        server = VirtualPeer(2, isServer: true, flowID: flowID, now: now)
        network.attach(server)
    }

    func sendFromClient(_ packet: [UInt8] = innerPacket()) { network.send(client.data(packet, now)) }
    func sendFromServer(_ packet: [UInt8] = innerPacket()) { network.send(server.data(packet, now)) }

    /// Loses what `lost` says, from here on.
    func lose(_ lost: @escaping (Flight) -> Bool) { network.tamper = { lost($0) ? [] : [$0] } }
    func loseNothing() { network.tamper = { [$0] } }
    func loseAll() { network.tamper = { _ in [] } }
}
