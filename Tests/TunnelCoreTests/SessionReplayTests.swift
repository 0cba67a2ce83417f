import Testing
import TunnelCore
import TunnelModel
import TunnelWire

@Suite("Session: replay and tampering")
struct SessionReplayTests {
    @Test func `nothing is taken a second time`() {
        let bench = SessionBench()
        bench.network.tamper = { [$0, $0] }
        bench.connect()
        for number in 0..<50 {
            bench.sendFromClient(innerPacket([UInt8(number)]))
            bench.sendFromServer(innerPacket([UInt8(number)]))
            bench.network.run(100 * millisecond)
        }
        bench.network.run(second)
        #expect(bench.server.received == (0..<50).map { innerPacket([UInt8($0)]) })
        #expect(bench.client.received == bench.server.received)
        // The first of each pair is taken, the second not even opened.
        for peer in [bench.client, bench.server] {
            for (number, outcome) in peer.outcomes.enumerated() {
                #expect((outcome == .notOpened) == (number % 2 == 1))
            }
        }
    }

    @Test func `a recorded session, replayed at any time, changes nothing`() {
        let bench = SessionBench()
        bench.connect()
        for _ in 0..<20 {
            bench.sendFromClient()
            bench.sendFromServer()
            bench.network.run(100 * millisecond)
        }
        bench.network.send(bench.client.disconnect(bench.now))
        bench.network.run(5 * second)
        let recorded = bench.network.sent
        let taken = bench.server.received.count
        let before = (bench.server.session.epoch, bench.server.session.disconnects)
        // From the addresses of then and from elsewhere.
        for var flight in recorded {
            for source in [flight.from, .host(66)] {
                flight.from = source
                bench.network.send([flight])
                bench.network.run(3 * millisecond)
            }
        }
        #expect(bench.areBothUp)
        #expect(bench.server.received.count == taken)
        #expect(bench.server.session.epoch == before.0)
        #expect(bench.server.session.disconnects == before.1)
        #expect(bench.server.session.peer == bench.client.address)
        #expect(bench.client.session.peer == bench.server.address)
    }

    @Test func `the datagrams of the last 16 flows are known, even while the present one is silent`() {
        let bench = SessionBench()
        bench.connect()
        for restart in 0..<15 {
            bench.sendFromClient()
            bench.network.run(100 * millisecond)
            bench.stopClient()
            bench.replaceClient(flowID: 0x7000 + UInt32(restart))
            #expect(bench.network.run(atMost: 2 * second) { bench.areBothUp } != nil)
        }
        let recorded = bench.network.sent.filter { $0.to == bench.server.address }
        bench.network.detach(bench.client)
        bench.network.run(5 * second)
        let epoch = bench.server.session.epoch
        let opened = bench.server.outcomes.count
        bench.network.send(recorded.map { Flight(time: 0, bytes: $0.bytes, from: .host(66), to: $0.to) })
        bench.network.run(20 * millisecond)
        #expect(bench.server.outcomes.dropFirst(opened).allSatisfy { $0 == .notOpened })
        #expect(bench.server.session.epoch == epoch)
        #expect(bench.server.session.peer == bench.client.address)
    }

    @Test func `our own datagrams sent back to us are not a peer's`() {
        for isUp in [true, false] {
            let bench = SessionBench()
            if !isUp { bench.loseAll() }
            bench.network.run(2500 * millisecond)
            bench.loseNothing()
            bench.network.detach(bench.client)
            bench.network.detach(bench.server)
            for peer in [bench.client, bench.server] {
                let before = (peer.session.epoch, peer.session.phase, peer.session.lastHeard)
                for flight in bench.network.sent where flight.from == peer.address {
                    _ = peer.take(flight.bytes, from: flight.to, bench.now)
                    let outcome = peer.outcomes.last
                    #expect(outcome == .notOpened || outcome == .taken(.dropped(.unknownFlow)))
                }
                #expect((peer.session.epoch, peer.session.phase, peer.session.lastHeard) == before)
            }
            #expect(bench.client.outcomes.contains(.taken(.dropped(.unknownFlow))))
        }
    }

    @Test func `a server without a session is not brought up by its own AUTH_OK`() {
        let bench = SessionBench()
        bench.network.detach(bench.client)
        let own = bench.server.flight(.authOK, Array("OK".utf8), to: bench.client.address, bench.now)
        bench.network.send([Flight(time: 0, bytes: own.bytes, from: .host(66), to: bench.server.address)])
        bench.network.run(20 * millisecond)
        #expect(bench.server.outcomes == [.taken(.dropped(.unknownFlow))])
        #expect(bench.server.session.peer.isNone)
        #expect(bench.server.controls.isEmpty)
    }

    // MARK: Type confusion

    /// Every type whose body this may not be: the type bits are not authenticated.
    @Test func `a datagram whose type was changed is not taken for another`() {
        let bodies: [(type: DatagramType, body: [UInt8])] = [
            (.auth, Array("AU".utf8)), (.authOK, Array("OK".utf8)), (.data, innerPacket()),
            (.data, [0x60] + [UInt8](repeating: 1, count: 39)), (.auth, Array("AU".utf8) + [1, 2, 3]),
        ]
        for (real, body) in bodies {
            for forged in DatagramType.allCases where forged != real {
                let bench = SessionBench()
                bench.connect()
                var flight = bench.client.flight(real, body, to: bench.server.address, bench.now)
                setType(&flight, forged)
                bench.network.send([flight])
                bench.network.run(10 * millisecond)
                #expect(bench.server.outcomes.last == .taken(.dropped(.implausible)), "\(real) as \(forged)")
                #expect(bench.server.received.isEmpty)
                #expect(bench.areBothUp)
                // The real one is not lost by it.
                setType(&flight, real)
                bench.network.send([flight])
                bench.network.run(10 * millisecond)
                #expect(bench.server.outcomes.last == .taken(real == .data ? .data : .control), "\(real) as \(forged)")
            }
        }
    }

    @Test func `an empty body is neither DATA nor a handshake`() {
        let bench = SessionBench()
        bench.connect()
        for type in [.auth, .authOK, .data] as [DatagramType] {
            bench.network.send([bench.client.flight(type, [], to: bench.server.address, bench.now)])
            bench.network.run(10 * millisecond)
            #expect(bench.server.outcomes.last == .taken(.dropped(.implausible)))
        }
    }

    @Test func `what cannot be an inner packet is not delivered`() {
        let short: [[UInt8]] = [
            [0x45], innerPacket().dropLast(), [0x44] + innerPacket().dropFirst(), [0x46] + innerPacket().dropFirst(),
            [0x4f] + [UInt8](repeating: 0, count: 58), [0x60] + [UInt8](repeating: 0, count: 38), [0] + innerPacket(),
            [0x50] + innerPacket(), Array("OK".utf8) + [UInt8](repeating: 0, count: 40),
        ]
        let bench = SessionBench()
        bench.connect()
        for body in short {
            bench.network.send([bench.client.flight(.data, body, to: bench.server.address, bench.now)])
            bench.network.run(10 * millisecond)
            #expect(bench.server.outcomes.last == .taken(.dropped(.implausible)), "\(body)")
        }
        #expect(bench.server.received.isEmpty)
    }

    @Test func `a TAP tunnel carries frames of 14 bytes and more`() {
        let bench = SessionBench(isTAP: true)
        bench.connect()
        bench.sendFromClient([UInt8](repeating: 2, count: 13))
        bench.sendFromClient([UInt8](repeating: 2, count: 14))
        bench.network.run(20 * millisecond)
        #expect(bench.server.received == [[UInt8](repeating: 2, count: 14)])
    }

    private func setType(_ flight: inout Flight, _ type: DatagramType) {
        flight.bytes[2] = flight.bytes[2] & 0x0f | type.rawValue << 4
    }
}
