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

    /// Whatever passes the check fits every message that it goes into.
    @Test func theLargestTunnelFitsAllMessages() throws {
        var tunnel = try #require(try Samples.tunnels().last)
        tunnel.definition.links = try (0..<32).map { number in
            LinkDefinition(name: try LinkName("link\(number)" + String(repeating: "x", count: 57)))
        }
        tunnel.definition.filters = []
        tunnel.filterPrograms = []
        let names = tunnel.definition.links.map(\.name)
        let slots = names.map { LinkSlot(link: $0, slot: 1) }
        let route = try CIDR("2001:db8:1234:5678::/64", field: "route")
        let program = [BPFInstruction](repeating: BPFInstruction(code: 6, jt: 0, jf: 0, k: 1), count: 1000)
        while tunnel.sizeProblem == nil {
            tunnel.definition.routes += [CIDR](repeating: route, count: 50)
        }
        #expect(tunnel.sizeProblem?.description.contains("routes") == true)
        tunnel.definition.routes.removeLast(50)
        let resume = HelperResume(
            previous: tunnel, hasDevice: true, sockets: names.map { BoundSocket(link: $0, isIPv6: true) },
            linksUp: names, scripts: ToldScripts(links: names, device: true, running: 1 << 22))
        let configure = HelperRequest.configure(generation: 1, tunnel: tunnel, resume: resume)
        #expect(configure.encoded().count <= Channel.maximumMessage)
        while tunnel.sizeProblem == nil {
            tunnel.definition.filters.append(FilterDefinition(links: [names[0]], expression: "udp"))
            tunnel.filterPrograms.append(program)
        }
        #expect(tunnel.sizeProblem?.description.contains("filters") == true)
        tunnel.definition.filters.removeLast()
        tunnel.filterPrograms.removeLast()
        let define = EngineRequest.define(slot: 1, generation: 1, tunnel: tunnel, linkSlots: slots)
        #expect(define.encoded().count <= Channel.maximumMessage)
        #expect(ControlRequest.apply(id: 1, generation: 1, tunnel: tunnel).encoded().count <= Channel.maximumMessage)
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
