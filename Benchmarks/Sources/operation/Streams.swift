import Foundation
import StockClients

/// One end of numbered streams, one for each of some tunnels: what it sends, and what it gets of the other end's.
///
/// A packet's payload: the tunnel, its number, and when it was sent.
struct Streams {
    private let tunnels: [Int]
    private let places: [Int: Int]
    private let interval: Int64
    private var dueTimes: [Int64] = []
    private var sent: [Int]
    private var unsent = 0
    private var worstLateness: Int64 = 0
    private var receipts: [Receipt]
    /// By tenths of a millisecond.
    private var delays = [Int](repeating: 0, count: 20_000)
    private(set) var isSending = false
    private var began: Int64 = 0
    private let payload: UnsafeMutableRawBufferPointer
    static let headerSize = 16

    private struct Receipt {
        /// A bit for each number.
        var seen: [UInt64] = []
        var count = 0
        var duplicates = 0
        /// Came after one with a higher number.
        var overtaken = 0
        var highest = -1
    }

    init(_ tunnels: [Int], rate: Int, size: Int) {
        self.tunnels = tunnels
        places = Dictionary(uniqueKeysWithValues: tunnels.enumerated().map { ($1, $0) })
        interval = 1_000_000_000 / Int64(rate)
        sent = Array(repeating: 0, count: tunnels.count)
        receipts = Array(repeating: Receipt(), count: tunnels.count)
        payload = .allocate(byteCount: size, alignment: 8)
        payload.initializeMemory(as: UInt8.self, repeating: 0)
    }

    mutating func start(_ now: Int64) {
        isSending = true
        began = now
        // Spread evenly, as streams of different customers are.
        dueTimes = tunnels.indices.map { now + interval * Int64($0) / Int64(tunnels.count) }
    }

    mutating func stop() { isSending = false }

    /// Sends whatever is due.
    mutating func send(_ now: Int64, _ transmit: (_ tunnel: Int, _ payload: UnsafeRawBufferPointer) -> Bool) {
        guard isSending else { return }
        for place in tunnels.indices {
            while dueTimes[place] <= now {
                worstLateness = max(worstLateness, now - dueTimes[place])
                dueTimes[place] += interval
                payload.storeBytes(of: UInt32(tunnels[place]), toByteOffset: 0, as: UInt32.self)
                payload.storeBytes(of: UInt32(sent[place]), toByteOffset: 4, as: UInt32.self)
                payload.storeBytes(of: StockClients.now(), toByteOffset: 8, as: Int64.self)
                if transmit(tunnels[place], UnsafeRawBufferPointer(payload)) { sent[place] += 1 } else { unsent += 1 }
            }
        }
    }

    mutating func receive(_ payload: UnsafeRawBufferPointer, _ now: Int64) {
        guard payload.count >= Self.headerSize,
            let place = places[Int(payload.loadUnaligned(fromByteOffset: 0, as: UInt32.self))]
        else { return }
        let number = Int(payload.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        let delay = now - payload.loadUnaligned(fromByteOffset: 8, as: Int64.self)
        guard number < 1 << 26 else { return }
        delays[min(delays.count - 1, max(0, Int(delay / 100_000)))] += 1
        let (word, bit) = (number / 64, UInt64(1) << UInt64(number % 64))
        while receipts[place].seen.count <= word { receipts[place].seen.append(0) }
        if receipts[place].seen[word] & bit != 0 {
            receipts[place].duplicates += 1
            return
        }
        receipts[place].seen[word] |= bit
        receipts[place].count += 1
        if number < receipts[place].highest { receipts[place].overtaken += 1 }
        receipts[place].highest = max(receipts[place].highest, number)
    }

    var report: StreamReport {
        var report = StreamReport(began: began, interval: interval, unsent: unsent, worstLateness: worstLateness)
        report.delays = delays.enumerated().filter { $1 > 0 }.map { [$0, $1] }
        for (place, tunnel) in tunnels.enumerated() {
            let receipt = receipts[place]
            let missing = (0..<max(0, receipt.highest)).lazy.filter { number in
                receipt.seen[number / 64] >> UInt64(number % 64) & 1 == 0
            }
            report.streams.append(
                StreamReport.Stream(
                    tunnel: tunnel, sent: sent[place], received: receipt.count, duplicates: receipt.duplicates,
                    overtaken: receipt.overtaken, highest: receipt.highest, missing: Array(missing.prefix(1000))))
        }
        return report
    }
}

/// What one end sent and got.
struct StreamReport: Codable {
    struct Stream: Codable {
        var tunnel: Int
        var sent: Int
        var received: Int
        var duplicates: Int
        var overtaken: Int
        var highest: Int
        /// Numbers below the highest that did not arrive, the first thousand.
        var missing: [Int]
    }

    var began: Int64
    var interval: Int64
    /// What the sender's own system, or a tunnel that is down, did not take.
    var unsent: Int
    /// How long after its time a packet was sent, at most: the generator did not get the processor.
    var worstLateness: Int64
    var streams: [Stream] = []
    /// Pairs: tenths of a millisecond on the way, and how many.
    var delays: [[Int]] = []

    var line: String {
        get throws { "report " + String(decoding: try JSONEncoder().encode(self), as: UTF8.self) }
    }
}
