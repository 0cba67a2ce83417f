import Testing
import TunnelCore

struct OffloadAcknowledgementTests {
    private func packet(flags: UInt8 = 0x10, options: [UInt8] = [], payload: [UInt8] = []) -> ModelPacket {
        var packet = ModelPacket()
        packet.transport = .tcp(sequence: 1, acknowledgement: 7, flags: flags, window: 1000, options: options)
        packet.payload = payload
        return packet
    }

    private func isAcknowledgement(_ bytes: [UInt8], linkHeaderLength: Int = 0) -> Bool {
        bytes.withUnsafeBytes { TunnelCore.isAcknowledgement($0, linkHeaderLength: linkHeaderLength) }
    }

    @Test func anAcknowledgementIsOneWithItsOptions() {
        #expect(isAcknowledgement(packet().bytes()))
        #expect(isAcknowledgement(packet(options: [1, 1, 5, 10] + [UInt8](repeating: 9, count: 8)).bytes()))
    }

    @Test(arguments: [0x11, 0x12, 0x14, 0x18, 0x30, 0x50, 0x00, 0x02] as [UInt8])
    func anythingElseThatItSaysMakesItNone(flags: UInt8) {
        #expect(!isAcknowledgement(packet(flags: flags).bytes()))
    }

    @Test func dataMakesItNone() {
        #expect(!isAcknowledgement(packet(payload: [1]).bytes()))
        #expect(!isAcknowledgement(packet(payload: [UInt8](repeating: 0, count: 1000)).bytes()))
    }

    @Test func aFrameIsLookedInto() {
        var frame = packet()
        frame.link = [UInt8](repeating: 2, count: 12)
        #expect(isAcknowledgement(frame.bytes(), linkHeaderLength: 14))
        #expect(!isAcknowledgement(frame.bytes()))
    }

    @Test func otherPacketsAreNone() {
        var datagram = ModelPacket()
        datagram.payload = []
        #expect(!isAcknowledgement(datagram.bytes()))
        #expect(!isAcknowledgement([]))
        let whole = packet().bytes()
        for count in 0..<whole.count { #expect(!isAcknowledgement(Array(whole[..<count]))) }
    }
}
