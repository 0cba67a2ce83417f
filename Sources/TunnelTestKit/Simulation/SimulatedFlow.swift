import TunnelCore

/// A TCP sender with unlimited data, as far as it matters to a bond: CUBIC (RFC 9438) with slow start that ends at growing
/// delay, loss found by time (RACK, RFC 8985) with a reordering window that grows when it was wrong, windows restored when
/// nothing was lost after all. Packets are numbered; every arrival is acknowledged by itself.
struct SimulatedFlow {
    private enum State: UInt8 { case inFlight, lost, delivered }
    private struct Segment {
        var sentAt: Int64
        var state: State
        var transmissions: UInt16
    }

    private var segments: [Segment] = []
    /// The oldest that was not delivered.
    private var oldest = 0
    private var lost: [Int] = []
    private var lostHead = 0
    /// In the order of sending, for finding what RACK gives up.
    private var order: [(segment: Int, transmission: UInt16)] = []
    private var orderHead = 0
    private var inFlight = 0

    private var window = 10.0
    private var threshold = Double.infinity
    private var windowBefore = 0.0
    private var epoch: Int64 = 0
    private var windowAtEpoch = 0.0
    private var recoverUntil = -1
    private var undoWindow = 0.0
    private var undoLeft = 0

    // The present round of slow start: its last segment, when it began, and the last acknowledgement close to others.
    private var roundEnd = -1
    private var roundStart: Int64 = 0
    private var lastClose: Int64 = 0
    private var roundSamples = 0
    private var roundLeast = Int64.max

    private var smoothed: Int64 = 0
    private var variation: Int64 = 0
    private var least = Int64.max
    private var reorderSteps: Int64 = 1
    private var latestDelivered: Int64 = 0
    private var progressAt: Int64 = 0
    private(set) var deliveredCount = 0

    /// Segments that the receiver's buffer holds at most.
    private static let receiveWindow = 4096

    // MARK: Sending

    /// The next segment to send now, with how often it was sent before; nil when the window is full.
    mutating func next(now: Int64) -> (segment: Int, transmission: UInt16)? {
        guard inFlight < Int(window) else { return nil }
        if inFlight == 0 { progressAt = now }
        while lostHead < lost.count {
            let segment = lost[lostHead]
            lostHead += 1
            if lostHead == lost.count {
                lost.removeAll(keepingCapacity: true)
                lostHead = 0
            }
            guard segments[segment].state == .lost else { continue }
            segments[segment].state = .inFlight
            segments[segment].sentAt = now
            segments[segment].transmissions += 1
            return noteSent(segment)
        }
        guard segments.count - oldest < Self.receiveWindow else { return nil }
        segments.append(Segment(sentAt: now, state: .inFlight, transmissions: 1))
        return noteSent(segments.count - 1)
    }

    private mutating func noteSent(_ segment: Int) -> (segment: Int, transmission: UInt16) {
        inFlight += 1
        order.append((segment, segments[segment].transmissions))
        return (segment, segments[segment].transmissions)
    }

    /// When everything in flight is given up unless something arrives.
    var deadline: Int64 {
        inFlight == 0 && lostHead == lost.count ? .max : progressAt + patience
    }

    /// RFC 6298, 2.
    private var patience: Int64 { smoothed == 0 ? second : max(200 * millisecond, smoothed + 4 * variation) }

    mutating func timeOut(now: Int64) {
        guard now >= deadline else { return }
        progressAt = now
        for segment in oldest..<segments.count where segments[segment].state == .inFlight { giveUp(segment) }
        threshold = max(2, window * 0.7)
        windowBefore = window
        window = 1
        epoch = 0
        recoverUntil = -1
    }

    // MARK: Acknowledgements

    mutating func acknowledge(_ segment: Int, transmission: UInt16, now: Int64) {
        progressAt = now
        let isLatest = segments[segment].transmissions == transmission
        switch segments[segment].state {
        case .delivered:
            // The copy was needless, and so was what was thought when it was sent.
            return noteNeedless(now)
        case .lost: noteNeedless(now)
        case .inFlight:
            inFlight -= 1
            if !isLatest { noteNeedless(now) }
        }
        segments[segment].state = .delivered
        deliveredCount += 1
        while oldest < segments.count, segments[oldest].state == .delivered { oldest += 1 }
        if isLatest {
            addSample(now - segments[segment].sentAt, now)
            latestDelivered = max(latestDelivered, segments[segment].sentAt)
        }
        if oldest > recoverUntil { recoverUntil = -1 }
        findLost(now)
        if recoverUntil < 0 { grow(now) }
    }

    private mutating func addSample(_ sample: Int64, _ now: Int64) {
        least = min(least, sample)
        if smoothed == 0 {
            smoothed = sample
            variation = sample / 2
        }
        variation += (abs(sample - smoothed) - variation) / 4
        smoothed += (sample - smoothed) / 8
        if window < threshold, window >= 16 { findSlowStartsEnd(sample, now) }
    }

    /// As Linux does it (HyStart, tcp_cubic.c): by the least of a round's samples, once there are eight, and by
    /// acknowledgements that follow each other closely for half of the least round trip.
    private mutating func findSlowStartsEnd(_ sample: Int64, _ now: Int64) {
        if oldest > roundEnd {
            roundEnd = segments.count - 1
            roundStart = now
            roundSamples = 0
            roundLeast = .max
            lastClose = now
        }
        if now - lastClose <= 2 * millisecond {
            lastClose = now
            if now - roundStart > least / 2 { threshold = window }
        }
        roundLeast = min(roundLeast, sample)
        roundSamples += 1
        let slack = min(max(least / 8, 4 * millisecond), 16 * millisecond)
        if roundSamples > 8, roundLeast > least + slack { threshold = window }
    }

    /// What was sent a reordering window before something that arrived, and has had a round trip's time, is lost.
    private mutating func findLost(_ now: Int64) {
        let patience = smoothed + min(smoothed, least / 4 * reorderSteps)
        while orderHead < order.count {
            let (segment, transmission) = order[orderHead]
            if segments[segment].state == .inFlight, segments[segment].transmissions == transmission {
                guard segments[segment].sentAt < latestDelivered, now - segments[segment].sentAt >= patience else {
                    break
                }
                giveUp(segment)
                if recoverUntil < 0 { reduce() }
                undoLeft += 1
            }
            orderHead += 1
        }
        if orderHead > 4096 {
            order.removeFirst(orderHead)
            orderHead = 0
        }
    }

    private mutating func giveUp(_ segment: Int) {
        segments[segment].state = .lost
        inFlight -= 1
        lost.append(segment)
    }

    private mutating func reduce() {
        undoWindow = window
        undoLeft = 0
        recoverUntil = segments.count - 1
        windowBefore = window < windowBefore ? window * 0.85 : window
        window = max(2, window * 0.7)
        threshold = window
        epoch = 0
    }

    private mutating func noteNeedless(_ now: Int64) {
        if least != .max, least / 4 * reorderSteps < smoothed { reorderSteps += 1 }
        guard undoLeft > 0 else { return }
        undoLeft -= 1
        guard undoLeft == 0, undoWindow > window else { return }
        window = undoWindow
        threshold = max(threshold, undoWindow)
        recoverUntil = -1
        epoch = 0
    }

    private mutating func grow(_ now: Int64) {
        if window < threshold {
            window += 1
            return
        }
        if epoch == 0 {
            epoch = now
            windowAtEpoch = window
        }
        let time = Double(now - epoch) / 1e9
        let peak = max(windowBefore, windowAtEpoch)
        let rise = cubeRoot(max(0, peak - windowAtEpoch) / 0.4)
        let offset = time + Double(smoothed) / 1e9 - rise
        let cubic = 0.4 * offset * offset * offset + peak
        let friendly = windowAtEpoch + 0.529 * time / max(0.001, Double(smoothed) / 1e9)
        let target = min(max(cubic, friendly), window * 1.5)
        window += target > window ? (target - window) / window : 0.01 / window
    }

    private func cubeRoot(_ value: Double) -> Double {
        guard value > 0 else { return 0 }
        var root = max(1, value / 3)
        for _ in 0..<30 { root = (2 * root + value / (root * root)) / 3 }
        return root
    }
}
