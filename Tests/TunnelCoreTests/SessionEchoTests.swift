import Testing
import TunnelCore
import TunnelCrypto
import TunnelModel
import TunnelWire

@Suite("Session: timestamps")
struct SessionEchoTests {
    /// A moment whose millisecond clock shows 0.
    private let zero = 65536 * 1000 * millisecond

    private struct Bench {
        let peer: VirtualPeer
        private var sequence: UInt64 = 1
        private let cipher: SessionCipher

        init(_ now: Int64) {
            peer = VirtualPeer(2, isServer: true, now: now)
            cipher = SessionCipher(password: VirtualPeer.password)
            take(.auth, timestamp: 0xffff, at: now)
        }

        /// A datagram of the peer's with these timestamps.
        mutating func take(
            _ type: DatagramType = .keepalive, timestamp: UInt16, reply: UInt16 = 0xffff, at now: Int64,
            overtaken: Bool = false
        ) {
            sequence += overtaken ? 0 : 2
            let body: [UInt8] = type == .auth ? Array("AU".utf8) : []
            let header = DatagramHeader(
                type: type, reorder: false, length: UInt16(16 + body.count), timestamp: timestamp,
                timestampReply: reply,
                flowID: 5, sequence: overtaken ? sequence - 1 : sequence, dataSequence: 0)
            _ = peer.take(encode(header, body, cipher: cipher), from: .host(1), now)
        }

        func echo(at now: Int64) -> UInt16 {
            peer.session.nextHeader(
                .data, bodyLength: 36, reorder: true, dataSequence: 0,
                stamp: Moment(nanoseconds: now, wallMilliseconds: 0).wireTimestamp, now: now
            ).timestampReply
        }
    }

    // MARK: Our clock

    @Test func `the clock of the wire never shows 65535`() {
        for milliseconds in [0, 1, 65534, 65535, 65536, 131_071, 131_072] as [Int64] {
            let stamp = Moment(nanoseconds: zero + milliseconds * millisecond, wallMilliseconds: 0).wireTimestamp
            let expected = UInt16(truncatingIfNeeded: milliseconds)
            #expect(stamp == (expected == 65535 ? 0 : expected))
        }
    }

    // MARK: Echo

    @Test(arguments: [0, 1, 500, 999])
    func `a timestamp is echoed, advanced by how long it was held, once`(held: Int) {
        var bench = Bench(zero)
        bench.take(timestamp: 1000, at: zero)
        let later = zero + Int64(held) * millisecond
        #expect(bench.echo(at: later) == 1000 + UInt16(held))
        #expect(bench.echo(at: later) == 0xffff)
    }

    @Test func `a timestamp held for a second is not echoed, nor later`() {
        var bench = Bench(zero)
        bench.take(timestamp: 1000, at: zero)
        #expect(bench.echo(at: zero + second) == 0xffff)
        #expect(bench.echo(at: zero + 1) == 0xffff)
    }

    @Test func `an echo wraps, and one that would be 65535 is none`() {
        for (timestamp, held, expected) in [(65530, 10, 4), (65534, 1, 65535), (65534, 2, 0)]
            as [(UInt16, Int64, UInt16)]
        {
            var bench = Bench(zero)
            bench.take(timestamp: 1, at: zero)
            bench.take(timestamp: timestamp, at: zero)
            #expect(bench.echo(at: zero + held * millisecond) == expected)
        }
    }

    @Test func `65535 is no timestamp to echo`() {
        var bench = Bench(zero)
        bench.take(timestamp: 0xffff, at: zero)
        #expect(bench.echo(at: zero) == 0xffff)
    }

    @Test func `the last timestamp is echoed, not one that was overtaken`() {
        var bench = Bench(zero)
        bench.take(timestamp: 1, at: zero)
        bench.take(timestamp: 2000, at: zero)
        bench.take(timestamp: 3000, at: zero)
        bench.take(timestamp: 1000, at: zero, overtaken: true)
        #expect(bench.echo(at: zero) == 3000)
    }

    // MARK: Samples

    @Test func `a sample is our clock less the echo, across the wrap`() {
        for (clock, reply, expected) in [
            (1000, 900, 100), (5, 65526, 15), (0, 0, 0), (4999, 0, 4999), (65534, 65533, 1),
        ] as [(Int64, UInt16, Int64)] {
            var bench = Bench(zero)
            bench.take(timestamp: 1, reply: reply, at: zero + clock * millisecond)
            #expect(bench.peer.session.roundTrip.smoothed == expected * 1000)
            #expect(bench.peer.session.roundTrip.hasSample)
            #expect(bench.peer.session.takeRoundTrip() == expected * 1000)
            #expect(bench.peer.session.takeRoundTrip() == nil)
        }
    }

    @Test(arguments: 1...3 as ClosedRange<UInt16>)
    func `a peer next door that rounds may seem to answer before it was asked, which is a sample and a sign of life`(
        early: UInt16
    ) {
        var bench = Bench(zero)
        let now = zero + 10_000 * millisecond
        bench.take(timestamp: 1000, reply: 10_000 + early, at: now)
        #expect(bench.peer.session.roundTrip.hasSample)
        #expect(bench.peer.session.roundTrip.smoothed == 0)
        #expect(bench.peer.session.lastEcho == now)
    }

    @Test func `5 s and more is no sample, nor is a reply from the future`() {
        for (clock, reply) in [(5000, 0), (30000, 0), (100, 104), (0, 4)] as [(Int64, UInt16)] {
            var bench = Bench(zero)
            bench.take(timestamp: 1, reply: reply, at: zero + clock * millisecond)
            #expect(!bench.peer.session.roundTrip.hasSample)
            #expect(bench.peer.session.lastEcho == 0)
            #expect(bench.peer.session.takeRoundTrip() == nil)
        }
    }

    @Test func `a datagram sent in the millisecond that is sent as 0 measures no negative time`() {
        let last = zero + 65535 * millisecond
        for later in 0...3 as ClosedRange<Int64> {
            var bench = Bench(last)
            bench.take(timestamp: 1, reply: 0, at: last + later * millisecond)
            #expect(bench.peer.session.roundTrip.hasSample)
            #expect(bench.peer.session.roundTrip.smoothed == max(0, later - 1) * 1000)
        }
    }

    @Test func `the time measured is that of the path, at every stand of the clock`() {
        let bench = SessionBench()
        bench.network.delay = 17 * millisecond
        // The clock wraps twice; DATA at odd moments takes most echoes.
        for number in 0..<1400 {
            if number % 3 == 0 { bench.sendFromClient() }
            if number % 7 == 0 { bench.sendFromServer() }
            bench.network.run(100_300_000)
        }
        for peer in [bench.client, bench.server] {
            #expect((32_000...36_000).contains(peer.session.roundTrip.smoothed))
            #expect((32_000...34_000).contains(peer.session.roundTrip.minimum))
            #expect(bench.now - peer.session.lastEcho < 2 * second)
        }
    }

    @Test func `forged timestamps stay within bounds`() {
        let bench = SessionBench()
        var random = SeededRandom(seed: 11)
        bench.network.tamper = { flight in
            var flight = flight
            for position in 4...7 { flight.bytes[position] = UInt8(truncatingIfNeeded: random.next()) }
            return [flight]
        }
        for _ in 0..<600 {
            bench.sendFromClient()
            bench.network.run(100 * millisecond)
        }
        #expect(bench.areBothUp)
        for peer in [bench.client, bench.server] {
            #expect(peer.session.roundTrip.smoothed < RoundTrip.ceiling)
            #expect(peer.session.roundTrip.minimum >= 0)
        }
    }
}
