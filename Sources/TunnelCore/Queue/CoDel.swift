/// Controlled delay: when a queue whose packets wait too long is to drop one (RFC 8289, section 5).
///
/// The RFC takes packets in a loop until one may leave. Here each packet at the head is asked about in turn, with the same
/// answers in the same order; taking, marking and dropping are the caller's.
struct CoDel: BitwiseCopyable {
    /// When the delay will have been above the target for one interval; 0: it is not above.
    private var firstAbove: Int64 = 0
    private var dropNext: Int64 = 0
    /// Drops since the dropping state was entered, and what that number started from.
    private var count: UInt32 = 0
    private var lastCount: UInt32 = 0
    private var isDropping = false
    /// ``dropNext`` had its packet. The next time follows from it only if the delay persists after that packet.
    private var isDropNextSpent = false

    /// Whether the packet at the head is to be dropped, or marked and delivered.
    ///
    /// - Parameters:
    ///   - sojourn: nanoseconds that the packet has waited.
    ///   - backlog: bytes that remain behind it.
    ///   - mtu: what is less than a packet's worth of backlog is no standing queue, however slow the link.
    mutating func mustDrop(
        sojourn: Int64, backlog: Int, mtu: Int, now: Int64, target: Int64, interval: Int64
    ) -> Bool {
        let isAbove = sojourn >= target && backlog > mtu
        let persists = isAbove && firstAbove != 0 && now >= firstAbove
        if !isAbove {
            firstAbove = 0
        } else if firstAbove == 0 {
            firstAbove = now + interval
        }
        if isDropping { return mustDropAgain(persists, now: now, interval: interval) }
        if persists { startDropping(now: now, interval: interval) }
        return persists
    }

    /// There was nothing to take: the delay is not above the target.
    mutating func queueWasEmpty() {
        firstAbove = 0
        isDropping = false
    }

    private mutating func mustDropAgain(_ persists: Bool, now: Int64, interval: Int64) -> Bool {
        guard persists else {
            isDropping = false
            return false
        }
        if isDropNextSpent {
            dropNext = controlLaw(from: dropNext, interval: interval)
            isDropNextSpent = false
        }
        guard now >= dropNext else { return false }
        if count < .max { count += 1 }
        isDropNextSpent = true
        return true
    }

    private mutating func startDropping(now: Int64, interval: Int64) {
        // Back soon after the last time: the rate of drops that it took then is a good one to start with.
        let delta = count - lastCount
        count = delta > 1 && now - dropNext < 16 * interval ? delta : 1
        lastCount = count
        dropNext = controlLaw(from: now, interval: interval)
        isDropNextSpent = false
        isDropping = true
    }

    /// Drops grow closer by the square root of their number, which lowers the rate of TCP linearly.
    private func controlLaw(from time: Int64, interval: Int64) -> Int64 {
        time + Int64(Double(interval) / Double(count).squareRoot())
    }
}
