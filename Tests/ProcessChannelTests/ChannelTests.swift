import CLinux
import Glibc
import LinuxSystem
import Testing
import TunnelModel

@testable import ProcessChannel

/// Both ends of a channel in one process.
private struct Ends {
    let near: Channel
    let far: Channel
    /// The far end's descriptor, for what no channel would send.
    var raw: Int32 { far.raw }

    init(queueLimit: Int = 64 << 20) throws {
        var pair = try Channel.pair()
        near = Channel(try unwrapped(pair.takeNear()), queueLimit: queueLimit)
        far = Channel(try unwrapped(pair.takeFar()))
    }
}

/// `#require` for what cannot be copied.
private func unwrapped<Value: ~Copyable>(_ value: consuming Value?) throws -> Value {
    guard let value else { throw ChannelError.ended }
    return value
}

private func isEmpty(_ channel: Channel) throws -> Bool {
    if try channel.receive(EngineRequest.self) != nil { return false }
    return true
}

private func send(_ bytes: [UInt8], descriptors: [Int32] = [], to fd: Int32) -> Int32 {
    clinux_channel_send(fd, bytes, bytes.count, descriptors, Int32(descriptors.count))
}

private func openDescriptors() -> Set<Int32> { Set((0..<1024).filter { fcntl($0, F_GETFD) >= 0 }) }

/// Serialized: the tests count this process's descriptors.
@Suite(.serialized) struct ChannelTests {
    private let device = EngineRequest.device(
        slot: 1, features: DeviceFeatures(hasVirtioHeader: true, tcpSegmentation: true, udpSegmentation: true))

    @Test func messagesArriveWholeInOrderAndWithTheirDescriptors() throws {
        let ends = try Ends()
        let wake = try EventFD()
        try ends.near.send(EngineRequest.undefine(slot: 4))
        try ends.near.send(device, descriptors: [wake.raw])
        let first = try unwrapped(try ends.far.receive(EngineRequest.self)).message
        #expect(first == .undefine(slot: 4))
        var received = try unwrapped(try ends.far.receive(EngineRequest.self))
        #expect(received.message == device)
        #expect(received.descriptors.count == 1)
        let copy = EventFD(adopting: try unwrapped(received.descriptors.take()))
        #expect(copy.raw != wake.raw)
        copy.signal()
        #expect(wake.drain() == 1)
        #expect(fcntl(copy.raw, F_GETFD) & FD_CLOEXEC != 0)
        #expect(try isEmpty(ends.far))
    }

    @Test func theEndOfTheOtherSideIsNoMessage() throws {
        let ends = try Ends()
        let null = OwnedDescriptor(owning: open("/dev/null", O_RDWR | O_CLOEXEC))
        #expect(dup2(null.raw, ends.raw) == ends.raw)
        #expect(throws: ChannelError.ended) { _ = try ends.near.receive(EngineNotice.self) }
        #expect(throws: ChannelError.ended) { try ends.near.send(EngineRequest.stop) }
    }

    @Test func garbageIsMalformedAndNotTheEnd() throws {
        let ends = try Ends()
        #expect(send([99, 1, 2], to: ends.raw) == 0)
        let error = #expect(throws: ChannelError.self) { _ = try ends.near.receive(EngineNotice.self) }
        guard case .malformed = error else {
            Issue.record("\(String(describing: error)) is not malformed")
            return
        }
    }

    @Test(arguments: [0, 2, 3]) func aWrongNumberOfDescriptorsIsRefusedAndAllOfThemAreClosed(count: Int) throws {
        let ends = try Ends()
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        defer { close(null) }
        #expect(send(device.encoded(), descriptors: [Int32](repeating: null, count: count), to: ends.raw) == 0)
        let before = openDescriptors()
        #expect(throws: ChannelError.wrongDescriptors(expected: 1, found: count)) {
            _ = try ends.near.receive(EngineRequest.self)
        }
        #expect(openDescriptors() == before)
    }

    @Test func moreDescriptorsThanAnyMessageHasAreClosedToo() throws {
        let ends = try Ends()
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        defer { close(null) }
        // Past the shim's own limit, as a process gone bad would send them.
        let count = 20
        var control = [UInt8](repeating: 0, count: 256)
        let bytes = device.encoded()
        let sent = bytes.withUnsafeBytes { payload in
            control.withUnsafeMutableBytes { control in
                var part = iovec(
                    iov_base: UnsafeMutableRawPointer(mutating: payload.baseAddress), iov_len: payload.count)
                control.storeBytes(of: 16 + count * 4, as: Int.self)
                control.storeBytes(of: Int32(SOL_SOCKET), toByteOffset: 8, as: Int32.self)
                control.storeBytes(of: 1, toByteOffset: 12, as: Int32.self)
                for index in 0..<count { control.storeBytes(of: null, toByteOffset: 16 + index * 4, as: Int32.self) }
                return withUnsafeMutablePointer(to: &part) { part in
                    var message = msghdr()
                    message.msg_iov = part
                    message.msg_iovlen = 1
                    message.msg_control = control.baseAddress
                    message.msg_controllen = 16 + count * 4
                    return sendmsg(ends.raw, &message, 0)
                }
            }
        }
        #expect(sent == bytes.count)
        let before = openDescriptors()
        #expect(throws: ChannelError.self) { _ = try ends.near.receive(EngineRequest.self) }
        #expect(openDescriptors() == before)
    }

    @Test func anOversizedMessageIsRefusedOnBothSides() throws {
        let ends = try Ends()
        let text = String(repeating: "x", count: Channel.maximumMessage)
        #expect(throws: ChannelError.self) { try ends.near.send(ControlNotice.problem(id: 1, link: nil, text: text)) }
        var size: Int32 = 4 << 20
        #expect(setsockopt(ends.raw, SOL_SOCKET, SO_SNDBUFFORCE, &size, 4) == 0)
        #expect(send([UInt8](repeating: 1, count: Channel.maximumMessage + 1), to: ends.raw) == 0)
        #expect(throws: ChannelError.tooLarge(bytes: Channel.maximumMessage + 1)) {
            _ = try ends.near.receive(EngineNotice.self)
        }
    }

    @Test func theLargestMessagePasses() throws {
        let ends = try Ends()
        let overhead = ControlNotice.problem(id: 1, link: nil, text: "").encoded().count
        let text = String(repeating: "x", count: Channel.maximumMessage - overhead)
        let message = ControlNotice.problem(id: 1, link: nil, text: text)
        try ends.near.send(message)
        let received = try unwrapped(try ends.far.receive(ControlNotice.self)).message
        #expect(received == message)
    }

    @Test func whatTheSocketDoesNotTakeWaitsWithItsDescriptorsAndKeepsItsOrder() throws {
        let ends = try Ends()
        let wake = try EventFD()
        let text = String(repeating: "x", count: 100_000)
        var sent = 0
        while !ends.near.wantsWrite {
            try ends.near.send(ControlNotice.problem(id: Int64(sent), link: nil, text: text))
            sent += 1
        }
        do {
            let borrowed = try wake.descriptor.duplicate()
            try ends.near.send(device, descriptors: [borrowed.raw])
        }
        for number in 0..<sent {
            let notice = try unwrapped(try ends.far.receive(ControlNotice.self))
            #expect(notice.message == .problem(id: Int64(number), link: nil, text: text))
            try ends.near.flush()
        }
        #expect(!ends.near.wantsWrite)
        var last = try unwrapped(try ends.far.receive(EngineRequest.self))
        let copy = EventFD(adopting: try unwrapped(last.descriptors.take()))
        copy.signal()
        #expect(wake.drain() == 1)
    }

    @Test func whoDoesNotReadIsGivenUpAtTheLimit() throws {
        let ends = try Ends(queueLimit: 300_000)
        let text = String(repeating: "x", count: 100_000)
        let error = #expect(throws: ChannelError.self) {
            for _ in 0..<1000 { try ends.near.send(ControlNotice.problem(id: 1, link: nil, text: text)) }
        }
        guard case .congested(let bytes) = error else {
            Issue.record("\(String(describing: error)) is not congested")
            return
        }
        #expect(bytes <= 300_000)
    }

    @Test func aQueueThatIsGivenUpClosesItsDescriptors() throws {
        let wake = try EventFD()
        let before = openDescriptors()
        do {
            let ends = try Ends()
            for _ in 0..<100_000 where !ends.near.wantsWrite {
                try ends.near.send(device, descriptors: [wake.raw])
            }
            #expect(ends.near.wantsWrite)
            try ends.near.send(device, descriptors: [wake.raw])
            #expect(openDescriptors().count > before.count)
        }
        #expect(openDescriptors() == before)
    }

    @Test func anAddressKeepsItsBitsOnTheWayToTheSystemAndBack() {
        for address in [
            SocketAddress(.v4(0xc000_0201), port: 5080), SocketAddress(.v6(1 << 63, 7), port: 9, scope: 3), .none,
        ] {
            #expect(SocketAddress(system: address.system) == address)
        }
        let system = SocketAddress(.v6(1, 2), port: 3, scope: 4).system
        #expect(system.high == 1 && system.low == 2 && system.port == 3 && system.scope == 4 && system.version == 6)
    }
}
