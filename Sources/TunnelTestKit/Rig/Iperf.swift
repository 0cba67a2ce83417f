import Foundation

/// What one run of `iperf3 --json` reports, as far as anything here asks.
public struct Iperf: Sendable {
    /// Bits per second of payload that arrived.
    public var receivedBitsPerSecond: Double
    /// Bytes of payload that arrived.
    public var receivedBytes: Double
    public var seconds: Double
    /// Segments sent again; nil for UDP.
    public var retransmits: Int?
    /// Percent of datagrams that did not arrive; nil for TCP.
    public var lostPercent: Double?

    /// Bits per second in each interval, by its end in seconds from the start.
    public var intervals: [(end: Double, bitsPerSecond: Double)]

    /// - Parameter json: its output, with or without warnings around the document.
    public init(json: String) throws {
        guard let start = json.firstIndex(of: "{"), let end = json.lastIndex(of: "}"), start < end else {
            throw RigError.unexpected("iperf3 printed no report: \(json.suffix(500))")
        }
        let report: Report
        do {
            report = try JSONDecoder().decode(Report.self, from: Data(json[start...end].utf8))
        } catch {
            throw RigError.unexpected("iperf3's report cannot be read: \(error)\n\(json.suffix(2000))")
        }
        if let error = report.error {
            throw RigError.unexpected("iperf3: \(error)")
        }
        guard let received = report.end?.sum_received else {
            throw RigError.unexpected("iperf3 reported no result: \(json.suffix(2000))")
        }
        receivedBitsPerSecond = received.bits_per_second
        receivedBytes = received.bytes
        seconds = received.seconds
        retransmits = report.end?.sum_sent?.retransmits
        lostPercent = received.lost_percent
        intervals = report.intervals?.map { ($0.sum.end, $0.sum.bits_per_second) } ?? []
    }

    /// The fields' names are iperf3's.
    private struct Report: Decodable {
        struct End: Decodable {
            var sum_sent: Sum?
            var sum_received: Sum?
        }
        struct Sum: Decodable {
            var bits_per_second: Double
            var bytes: Double
            var seconds: Double
            var retransmits: Int?
            var lost_percent: Double?
        }
        struct Interval: Decodable {
            struct Sum: Decodable {
                var end: Double
                var bits_per_second: Double
            }
            var sum: Sum
        }
        var error: String?
        var intervals: [Interval]?
        var end: End?
    }
}
