/// What one direction of an emulated link does to the packets that enter it.
///
/// Durations are nanoseconds, probabilities 0 to 1, sizes bytes of the IP packet (without the Ethernet header).
public struct PathConditions: Sendable, Equatable {
    /// Bits per second that the bottleneck sends; 0 sends everything at once.
    public var rate: UInt64 = 0
    /// Bytes that each packet costs at the bottleneck beside its own, such as a DSL line's framing.
    public var overhead = 0
    /// What the bottleneck's drop-tail queue holds, beside the packet that is being sent.
    public var queue = QueueLimit.duration(100_000_000)
    /// Propagation: from the end of sending to arrival.
    public var delay: UInt64 = 0
    /// Largest deviation from `delay`, uniformly distributed. Packets stay in order, and so arrive in bunches.
    public var jitter: UInt64 = 0
    /// Independent loss of each packet, after the queue: a lost packet has used the bottleneck.
    public var loss = 0.0
    /// Loss in bursts, beside the independent loss.
    public var burstLoss: BurstLoss?
    /// Probability that a packet arrives twice.
    public var duplicate = 0.0
    /// Probability that a packet arrives `reorderDelay` later than its turn, with others overtaking it.
    public var reorder = 0.0
    public var reorderDelay: UInt64 = 5_000_000
    /// Larger packets vanish without a word, as behind a router that sends no ICMP; 0 lets every size pass.
    public var mtu = 0
    /// The line is dead and no one says so.
    public var blackhole = false

    public init() {}

    /// Conditions given as words, `rate=50mbit delay=10ms loss=5%`, beginning with a perfect line.
    public init(_ text: some StringProtocol) throws(EmulationTextError) {
        self.init()
        for setting in try PathSetting.parse(text) {
            apply(setting)
        }
    }

    public mutating func apply(_ setting: PathSetting) {
        switch setting {
        case .rate(let value): rate = value
        case .overhead(let value): overhead = value
        case .queue(let value): queue = value
        case .delay(let value): delay = value
        case .jitter(let value): jitter = value
        case .loss(let value): loss = value
        case .burstLoss(let value): burstLoss = value
        case .duplicate(let value): duplicate = value
        case .reorder(let value): reorder = value
        case .reorderDelay(let value): reorderDelay = value
        case .mtu(let value): mtu = value
        case .blackhole(let value): blackhole = value
        }
    }
}

/// How much the drop-tail queue in front of the bottleneck holds.
public enum QueueLimit: Sendable, Equatable {
    case bytes(Int)
    case packets(Int)
    /// Nanoseconds of sending at the current rate, and never less than two packets of 1500 bytes.
    case duration(UInt64)
}

/// The Gilbert-Elliott model: a good and a bad state, left with a probability drawn at every packet.
public struct BurstLoss: Sendable, Equatable {
    /// Probability of passing from good to bad, per packet.
    public var enter: Double
    /// Probability of passing from bad to good, per packet; its inverse is the mean length of a burst.
    public var leave: Double
    public var lossWhileBad = 1.0
    public var lossWhileGood = 0.0

    public init(enter: Double, leave: Double, lossWhileBad: Double = 1, lossWhileGood: Double = 0) {
        self.enter = enter
        self.leave = leave
        self.lossWhileBad = lossWhileBad
        self.lossWhileGood = lossWhileGood
    }
}
