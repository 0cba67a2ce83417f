import Testing
import TunnelCore
import TunnelModel
import TunnelWire

/// Everything at once: loss, delay, disorder, copies, replays, tampering, and ends that die and come back.
@Suite("Session: simulation")
struct SessionSimulationTests {
    @Test(arguments: 1...100 as ClosedRange<UInt64>)
    func `whatever happened, no packet comes twice, none that was not sent, and the link recovers`(seed: UInt64) {
        let run = Simulation(seed: seed)
        run.play()
        #expect(run.strays == 0, "seed \(seed): packets that nobody sent, or that came twice")
        // Silence of 3 s for a flow that nobody knows, a second to the next AUTH, half a second of rest, and the answers.
        run.calm()
        #expect(run.bench.network.run(atMost: 12 * second) { run.isCarrying } != nil, "seed \(seed): stays down")
        #expect(run.strays == 0, "seed \(seed)")
    }
}

private final class Simulation {
    let bench = SessionBench(timeout: 5)
    private var random: SeededRandom
    private var nextPacket: UInt32 = 0
    private var nextFlow: UInt32 = 0x10000
    /// Packets on their way, by what they carry, to the end that they are for.
    private var expected: Set<[UInt8]> = []
    private(set) var strays = 0
    private var isCalm = false
    private var delivered: [ObjectIdentifier: Int] = [:]
    /// Ends that were replaced stay alive, so that none takes another's identity.
    private var retired: [VirtualPeer] = []
    /// How much was sent before the client began anew. It forgot all of that, so in v1 nothing tells it that it is old.
    private var forgotten = 0

    init(seed: UInt64) { random = SeededRandom(seed: seed) }

    func play() {
        let loss = Double(random.number(0...30)) / 100
        bench.network.tamper = { [self] flight in isCalm ? [flight] : tamper(flight, loss) }
        for _ in 0..<150 {
            for _ in 0..<random.number(0...6) { send() }
            if random.oneIn(12) { disturb() }
            bench.network.run(Int64(random.number(1...600)) * millisecond)
            collect()
        }
    }

    func calm() {
        isCalm = true
        bench.network.run(second)
        collect()
    }

    /// Both ends are up and what one sends reaches the other.
    var isCarrying: Bool {
        guard bench.areBothUp else { return false }
        let before = (bench.client.received.count, bench.server.received.count)
        send()
        send()
        bench.network.run(50 * millisecond)
        collect()
        return bench.client.received.count > before.0 && bench.server.received.count > before.1
    }

    private func send() {
        for (from, mark) in [(bench.client, UInt8(1)), (bench.server, 2)] where from.isUp {
            nextPacket += 1
            let packet = innerPacket([mark] + withUnsafeBytes(of: nextPacket) { Array($0) })
            expected.insert(packet)
            bench.network.send(from.data(packet, bench.now))
        }
    }

    private func collect() {
        for peer in [bench.client, bench.server] {
            let known = delivered[ObjectIdentifier(peer)] ?? 0
            for packet in peer.received.dropFirst(known) {
                let isForHere = packet[20] == (peer === bench.server ? 1 : 2)
                if !isForHere || expected.remove(packet) == nil { strays += 1 }
            }
            delivered[ObjectIdentifier(peer)] = peer.received.count
        }
    }

    private func disturb() {
        collect()
        switch random.number(0...5) {
        case 0:
            retired.append(bench.client)
            forgotten = bench.network.sent.count
            if random.oneIn(2) { bench.stopClient() }
            collect()
            nextFlow += 1
            bench.replaceClient(flowID: nextFlow, number: random.oneIn(2) ? 1 : UInt32(random.number(10...20)))
            bench.client.session.announceStart()
        case 1:
            // A server that lost its state can be told what it once took: this is what the state map is there for.
            bench.server.session.resume(now: bench.now)
        case 2: bench.network.send(bench.server.disconnect(bench.now))
        case 3: bench.client.address = .host(UInt32(random.number(30...40)))
        case 4: bench.client.session.resume(now: bench.now)
        default: replay()
        }
    }

    /// Old datagrams, from where they came or from elsewhere.
    private func replay() {
        guard let last = bench.network.sent.indices.last else { return }
        for _ in 0..<random.number(1...40) {
            let index = random.number(0...last)
            var flight = bench.network.sent[index]
            if random.oneIn(2) { flight.from = .host(66) }
            if random.oneIn(4) { flight.to = random.oneIn(2) ? bench.server.address : bench.client.address }
            if flight.to == bench.client.address, index < forgotten { continue }
            bench.network.send([flight])
        }
    }

    private func tamper(_ flight: Flight, _ loss: Double) -> [Flight] {
        if random.chance(loss) { return [] }
        var flights = [flight]
        if random.oneIn(20) { flights.append(flight) }
        for index in flights.indices {
            if random.oneIn(4) { flights[index].time += Int64(random.number(0...80)) * millisecond }
            if random.oneIn(40) {
                let position = random.number(0...flight.bytes.count - 1)
                flights[index].bytes[position] ^= UInt8(truncatingIfNeeded: random.next()) | 1
            }
        }
        return flights
    }
}
