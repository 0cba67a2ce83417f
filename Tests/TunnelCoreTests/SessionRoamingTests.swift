import Testing
import TunnelCore
import TunnelModel
import TunnelWire

@Suite("Session: roaming and cleartext")
struct SessionRoamingTests {
    // MARK: Roaming

    @Test func `a peer that moves is followed with its first fresh datagram`() {
        let bench = SessionBench()
        bench.connect()
        bench.client.address = .host(33, port: 4000)
        bench.sendFromClient()
        bench.network.run(10 * millisecond)
        #expect(bench.server.session.peer == .host(33, port: 4000))
        bench.sendFromServer()
        bench.network.run(10 * millisecond)
        #expect(bench.client.received.count == 1)
        bench.network.run(60 * second)
        #expect(bench.areBothUp)
        #expect(bench.server.session.disconnects == 0)
    }

    @Test func `a datagram that was overtaken moves nothing, though it is delivered`() {
        let bench = SessionBench()
        bench.connect()
        var late = bench.client.data(innerPacket([1]), bench.now)[0]
        bench.sendFromClient(innerPacket([2]))
        bench.network.run(10 * millisecond)
        late.from = .host(66)
        bench.network.send([late])
        bench.network.run(10 * millisecond)
        #expect(bench.server.received == [innerPacket([2]), innerPacket([1])])
        #expect(bench.server.session.peer == bench.client.address)
    }

    @Test func `neither a replayed nor a forged nor an implausible datagram moves the peer`() {
        let bench = SessionBench()
        bench.connect()
        bench.sendFromClient()
        bench.network.run(10 * millisecond)
        var replayed = bench.network.sent.filter { $0.from == bench.client.address }
        var forged = bench.client.data(innerPacket(), bench.now)[0]
        forged.bytes[50] ^= 1
        replayed += [forged, bench.client.flight(.data, [1, 2, 3], to: bench.server.address, bench.now)]
        for var flight in replayed {
            flight.from = .host(66)
            bench.network.send([flight])
        }
        bench.network.run(10 * millisecond)
        #expect(bench.server.session.peer == bench.client.address)
        #expect(bench.network.sent.allSatisfy { $0.to != .host(66) })
    }

    @Test func `a client goes back to its configured server when the session ends`() {
        let bench = SessionBench(timeout: 5)
        bench.connect()
        bench.server.address = .host(44)
        bench.sendFromServer()
        bench.network.run(10 * millisecond)
        #expect(bench.client.session.peer == .host(44))
        bench.loseAll()
        bench.network.run(10 * second)
        #expect(bench.client.session.peer == .host(2))
        #expect(bench.client.controls.last?.to == .host(2))
    }

    @Test func `another server address waits for the end of the session`() {
        let bench = SessionBench()
        bench.connect()
        bench.client.session.configure(peer: .host(44))
        #expect(bench.client.session.peer == .host(2))
        _ = bench.client.disconnect(bench.now)
        #expect(bench.client.session.peer == .host(44))
    }

    // MARK: Cleartext DATA

    @Test func `cleartext DATA flows, and control stays encrypted`() {
        let bench = SessionBench(isCleartext: true)
        bench.connect()
        for number in 0..<20 {
            bench.sendFromClient(innerPacket([UInt8(number)]))
            bench.sendFromServer(innerPacket([UInt8(number)]))
            bench.network.run(50 * millisecond)
        }
        #expect(bench.server.received == (0..<20).map { innerPacket([UInt8($0)]) })
        #expect(bench.client.received == bench.server.received)
        for flight in bench.network.sent where flight.bytes[2] >> 4 != DatagramType.data.rawValue {
            #expect(flight.bytes.count >= 44)
            #expect(!flight.bytes.dropFirst(28).starts(with: "AU".utf8))
        }
    }

    @Test func `cleartext DATA changes no replay, loss, time or address state`() {
        let bench = SessionBench(isCleartext: true)
        bench.connect()
        let flight = bench.client.data(innerPacket([1]), bench.now)[0]
        let before = bench.server.session
        bench.network.send([flight, flight])
        bench.network.run(10 * millisecond)
        #expect(bench.server.received == [innerPacket([1]), innerPacket([1])])
        let after = bench.server.session
        #expect(isSame(before, after))
    }

    @Test func `cleartext DATA is taken from the present address only, and only while up`() {
        let bench = SessionBench(isCleartext: true)
        bench.connect()
        for source in [.host(66), .host(1, port: 1), .none] as [SocketAddress] {
            var flight = bench.client.data(innerPacket(), bench.now)[0]
            flight.from = source
            bench.network.send([flight])
            bench.network.run(10 * millisecond)
            #expect(bench.server.outcomes.last == .taken(.dropped(.state)))
        }
        bench.network.detach(bench.client)
        bench.network.run(20 * second)
        bench.network.send(bench.client.data(innerPacket(), bench.now))
        bench.network.run(10 * millisecond)
        #expect(bench.server.outcomes.last == .taken(.dropped(.state)))
        #expect(bench.server.received.isEmpty)
    }

    @Test func `cleartext that is no inner packet is not delivered`() {
        let bench = SessionBench(isCleartext: true)
        bench.connect()
        for body in [[0x41, 0x55], [0x45], [UInt8](repeating: 0, count: 60)] as [[UInt8]] {
            bench.sendFromClient(body)
            bench.network.run(10 * millisecond)
            #expect(bench.server.outcomes.last == .taken(.dropped(.implausible)))
        }
    }

    @Test func `an encrypted tunnel takes no cleartext, and a cleartext tunnel nothing from an encrypted one`() {
        for isClear in [true, false] {
            let bench = SessionBench(isCleartext: isClear)
            bench.connect()
            bench.client.session.settings.isCleartext = !isClear
            bench.sendFromClient([0x45, 0, 0, 60] + [UInt8](repeating: 0x11, count: 56))
            bench.network.run(10 * millisecond)
            // What is taken for cleartext begins with a MAC: an IP packet once in sixteen times at most.
            if !isClear { #expect(bench.server.outcomes.last == .forged) }
            #expect(bench.server.received.allSatisfy { $0.count != 60 })
        }
    }

    @Test func `numbers that cleartext DATA took are no loss`() {
        let bench = SessionBench(isCleartext: true, lossTolerance: 5)
        bench.connect()
        for _ in 0..<200 {
            bench.sendFromClient()
            bench.network.run(50 * millisecond)
        }
        #expect(bench.server.session.loss.permille == 0)
        #expect(bench.server.session.visibleState == .up)
    }

    @Test func `the round-trip time is measured though cleartext DATA fills the link`() {
        let bench = SessionBench(isCleartext: true)
        bench.connect()
        for _ in 0..<1000 {
            bench.sendFromClient()
            bench.sendFromServer()
            bench.network.run(10 * millisecond)
        }
        #expect(bench.now - bench.client.session.lastEcho < 2 * second)
        #expect(bench.now - bench.server.session.lastEcho < 2 * second)
    }

    private func isSame(_ a: LinkSession, _ b: LinkSession) -> Bool {
        var a = a
        var b = b
        return withUnsafeBytes(of: &a) { a in withUnsafeBytes(of: &b) { b in a.elementsEqual(b) } }
    }
}
