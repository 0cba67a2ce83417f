import TunnelModel

extension LinkSession {
    /// What may change while the link runs.
    public struct Settings: BitwiseCopyable, Sendable {
        public var isServer: Bool
        /// Inner packets are Ethernet frames.
        public var isTAP: Bool
        /// DATA is not encrypted, so nothing is believed of it: loss, which is counted over all datagrams, is unknown.
        public var isCleartext: Bool
        /// Nanoseconds.
        public var timeout: Int64
        /// Percent; 100 is off.
        public var lossTolerance: Int
        /// Milliseconds; 1000 is off.
        public var latencyTolerance: Int

        public init(
            isServer: Bool, isTAP: Bool, isCleartext: Bool = false, timeoutSeconds: Int, lossTolerance: Int,
            latencyTolerance: Int
        ) {
            self.isServer = isServer
            self.isTAP = isTAP
            self.isCleartext = isCleartext
            timeout = Int64(timeoutSeconds) * second
            self.lossTolerance = lossTolerance
            self.latencyTolerance = latencyTolerance
        }

        var judgesQuality: Bool { lossTolerance < 100 || latencyTolerance != 1000 }
    }
}
