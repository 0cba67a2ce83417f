import Testing
import TunnelModel

@testable import ProcessChannel

/// Bytes from another process are not trusted: they decode to what was sent, or not at all.
struct MessageTests {
    private func decode<M: ChannelMessage>(_ bytes: [UInt8], as type: M.Type) throws -> M {
        try M(try MessageReader(bytes))
    }

    private func checkAll<M: ChannelMessage>(_ messages: [M], sourceLocation: SourceLocation = #_sourceLocation) throws
    {
        for message in messages {
            let bytes = message.encoded()
            #expect(bytes.count <= Channel.maximumMessage, sourceLocation: sourceLocation)
            #expect(try decode(bytes, as: M.self) == message, sourceLocation: sourceLocation)
            for length in 0..<bytes.count {
                #expect(throws: (any Error).self, sourceLocation: sourceLocation) {
                    try decode(Array(bytes.prefix(length)), as: M.self)
                }
            }
            #expect(throws: (any Error).self, sourceLocation: sourceLocation) { try decode(bytes + [0], as: M.self) }
        }
    }

    @Test func everyMessageRoundTripsAndNoTruncationOfItDecodes() throws {
        try checkAll(try Samples.controlRequests())
        try checkAll(try Samples.controlNotices())
        try checkAll(try Samples.helperRequests())
        try checkAll(try Samples.helperNotices())
        try checkAll(try Samples.engineRequests())
        try checkAll(Samples.engineNotices())
    }

    @Test func unknownKindsAreRefused() {
        for kind: UInt8 in [0, 20, 255] {
            #expect(throws: MalformedMessage.self) { try decode([kind], as: ControlRequest.self) }
            #expect(throws: MalformedMessage.self) { try decode([kind], as: ControlNotice.self) }
            #expect(throws: MalformedMessage.self) { try decode([kind], as: HelperRequest.self) }
            #expect(throws: MalformedMessage.self) { try decode([kind], as: HelperNotice.self) }
            #expect(throws: MalformedMessage.self) { try decode([kind], as: EngineRequest.self) }
            #expect(throws: MalformedMessage.self) { try decode([kind], as: EngineNotice.self) }
        }
    }

    @Test func onlySignalsThatOperatorsSendArePassedOn() {
        for number: Int32 in [0, 9, 17, -1, 64, .max] {
            let bytes = EngineNotice.signalled(number: number).encoded()
            #expect(throws: MalformedMessage.self) { try decode(bytes, as: EngineNotice.self) }
        }
    }

    @Test func aDefinitionThatCannotBeRunDoesNotDecode() throws {
        var tunnel = try Samples.tunnels()[1]
        tunnel.definition.timeout = 0
        let bytes = ControlRequest.apply(id: 1, generation: 1, tunnel: tunnel).encoded()
        #expect(throws: MalformedMessage.self) { try decode(bytes, as: ControlRequest.self) }
        var unequal = try Samples.tunnels()[1]
        unequal.filterPrograms = []
        let other = ControlRequest.apply(id: 1, generation: 1, tunnel: unequal).encoded()
        #expect(throws: MalformedMessage.self) { try decode(other, as: ControlRequest.self) }
    }

    @Test func aCaptureHasAnEnd() throws {
        for (packets, snapLength, seconds): (UInt32, UInt32, UInt32) in [
            (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 65536, 1),
        ] {
            let limits = CaptureLimits(packets: packets, snapLength: snapLength, seconds: seconds)
            let bytes = EngineRequest.capture(slot: 1, linkSlot: nil, limits: limits).encoded()
            #expect(throws: MalformedMessage.self) { try decode(bytes, as: EngineRequest.self) }
        }
    }

    @Test func aCountThatCannotBeTrueReservesNothing() {
        // A message of HelperNotice.resolved whose list claims four thousand million addresses.
        var writer = MessageWriter(kind: 3)
        writer.integer(UInt64(1))
        writer.text("adsl1")
        writer.integer(UInt32.max)
        let bytes = writer.bytes
        #expect(throws: MalformedMessage.self) { try decode(bytes, as: HelperNotice.self) }
    }

    /// 20,000 messages per vocabulary from a fixed seed: damaged samples and noise.
    @Test func noBytesCrashADecoder() throws {
        var generator = SeededGenerator(seed: 0x6d6c_7670)
        try attack(try Samples.controlRequests(), &generator)
        try attack(try Samples.controlNotices(), &generator)
        try attack(try Samples.helperRequests(), &generator)
        try attack(try Samples.helperNotices(), &generator)
        try attack(try Samples.engineRequests(), &generator)
        try attack(Samples.engineNotices(), &generator)
    }

    private func attack<M: ChannelMessage>(_ samples: [M], _ generator: inout SeededGenerator) throws {
        let seeds = samples.map { $0.encoded() }
        for _ in 0..<20_000 {
            var bytes = seeds[Int.random(in: 0..<seeds.count, using: &generator)]
            if Bool.random(using: &generator) {
                for _ in 0..<Int.random(in: 1...8, using: &generator) {
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(
                        in: 0...255, using: &generator)
                }
            } else {
                let length = Int.random(in: 0...64, using: &generator)
                bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
                if let first = bytes.indices.first { bytes[first] %= 10 }
            }
            guard let message = try? decode(bytes, as: M.self) else { continue }
            // What decodes means one thing: it encodes to a message that decodes to the same.
            #expect(try decode(message.encoded(), as: M.self) == message)
        }
    }
}

/// SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
