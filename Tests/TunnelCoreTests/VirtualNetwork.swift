import Testing
import TunnelCore
import TunnelModel

/// A datagram on its way.
struct Flight {
    var time: Int64
    var bytes: [UInt8]
    var from: SocketAddress
    var to: SocketAddress
}

/// What is attached to the network: a session of ours, or a model of a stock peer.
protocol VirtualEnd: AnyObject {
    var address: SocketAddress { get }
    /// When ``tick(_:)`` is wanted though nothing comes.
    var deadline: Int64 { get }
    func tick(_ now: Int64) -> [Flight]
    func take(_ bytes: [UInt8], from: SocketAddress, _ now: Int64) -> [Flight]
}

/// One link between ends, in virtual time: datagrams take ``delay``, and ``tamper`` may drop, change or copy them.
final class VirtualNetwork {
    private(set) var now: Int64 = 1000 * second
    var delay = 10 * millisecond
    /// What becomes of a datagram: none, one or several.
    var tamper: (Flight) -> [Flight] = { [$0] }
    /// Everything that was sent, before it was tampered with.
    private(set) var sent: [Flight] = []
    private var inTheAir: [Flight] = []
    private var ends: [any VirtualEnd] = []

    func attach(_ end: any VirtualEnd) { ends.append(end) }
    func detach(_ end: any VirtualEnd) { ends.removeAll { $0 === end } }

    func send(_ flights: [Flight]) {
        for var flight in flights {
            flight.time = now + delay
            sent.append(flight)
            inTheAir += tamper(flight)
        }
    }

    /// Runs until `time` from now has passed.
    func run(_ time: Int64) {
        let end = now + time
        // No more than a few datagrams a millisecond: otherwise somebody spins.
        var steps = 100_000 + time / 100_000
        while let next = nextMoment(), next <= end {
            now = max(now, next)
            step()
            steps -= 1
            guard steps > 0 else {
                Issue.record("the ends never come to rest")
                break
            }
        }
        now = end
    }

    /// Runs until `condition` holds, for at most `time`; how long it took, or nil.
    func run(atMost time: Int64, until condition: () -> Bool) -> Int64? {
        let start = now
        while !condition() {
            guard let next = nextMoment(), next <= start + time else {
                now = start + time
                return nil
            }
            now = max(now, next)
            step()
        }
        return now - start
    }

    private func nextMoment() -> Int64? {
        let moments = ends.map(\.deadline).filter { $0 != .max } + inTheAir.map(\.time)
        return moments.min()
    }

    private func step() {
        let arrived = inTheAir.filter { $0.time <= now }
        inTheAir.removeAll { $0.time <= now }
        for flight in arrived {
            for end in ends where end.address == flight.to { send(end.take(flight.bytes, from: flight.from, now)) }
        }
        for end in ends where end.deadline <= now { send(end.tick(now)) }
    }
}

extension SocketAddress {
    static func host(_ number: UInt32, port: UInt16 = 5080) -> SocketAddress {
        SocketAddress(.v4(0xc000_0200 | number), port: port)
    }
}
