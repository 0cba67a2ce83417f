/// One part of the data plane, run alone over packets that lie ready.
protocol Stage: AnyObject {
    var name: String { get }
    /// Packets of one ``run()``.
    var packets: Int { get }
    /// Brings the packets into the state that ``run()`` expects, outside the measurement.
    func prepare()
    func run()
}

extension Stage {
    func prepare() {}
}

/// What a stage cost.
struct StageCost: Encodable {
    var stage: String
    var nanosecondsPerPacket: Double
    var least: Double
    var allocationsPerPacket: Double
}
