import TunnelWire

/// Receiver's side of a packet train: fits a line to when its datagrams came (Dovrolis, Ramanathan, Moore: Packet-Dispersion
/// Techniques and a Capacity-Estimation Methodology, 2004).
///
/// Its two halves are fitted apart: a token bucket lets the first through faster than the line goes on, and where delays
/// vary more than the train takes, they differ as well.
public struct TrainMeter: BitwiseCopyable, Sendable {
    /// Sums of a least-squares fit of arrivals, nanoseconds, to places.
    private struct Fit: BitwiseCopyable, Sendable {
        var count: Double = 0
        var places: Double = 0
        var times: Double = 0
        var squaredPlaces: Double = 0
        var squaredTimes: Double = 0
        var products: Double = 0

        mutating func add(place: Double, time: Double) {
            count += 1
            places += place
            times += time
            squaredPlaces += place * place
            squaredTimes += time * time
            products += place * time
        }

        /// Time from one place to the next, and its standard error, for which it takes three; 0: too few came.
        var slope: (gap: Double, error: Double) {
            guard count >= 2 else { return (0, 0) }
            let spread = squaredPlaces - places * places / count
            // Nobody but the peer says that places differ.
            guard spread > 0 else { return (0, 0) }
            let gap = (products - places * times / count) / spread
            let rest = squaredTimes - times * times / count - gap * gap * spread
            return (max(0, gap), (max(0, rest) / max(1, count - 2) / spread).squareRoot())
        }
    }

    private var train: UInt8 = 0
    private var length: UInt8 = 0
    private var begunAt: Int64 = 0
    private var first = Fit()
    private var last = Fit()

    public init() {}

    /// A datagram of a train came. The result when it is the train's last.
    public mutating func note(_ place: TrainPlace, now: Int64) -> TrainResult? {
        if place.train != train || place.count != length || now - begunAt > 2 * second {
            self = TrainMeter()
            train = place.train
            length = place.count
            begunAt = now
        }
        let time = Double(now - begunAt)
        if place.place < length / 2 {
            first.add(place: Double(place.place), time: time)
        } else {
            last.add(place: Double(place.place), time: time)
        }
        guard place.place == length - 1 else { return nil }
        let slope = last.slope
        defer { length = 0 }
        return TrainResult(
            train: train, received: UInt8(clamping: Int(first.count + last.count)),
            firstGap: UInt32(clamping: Int(first.slope.gap)), lastGap: UInt32(clamping: Int(slope.gap)),
            gapError: UInt32(clamping: Int(slope.error)))
    }
}
