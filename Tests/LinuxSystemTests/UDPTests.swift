import CLinux
import Glibc
import Testing
import TunnelTestKit

@testable import LinuxSystem

private func v4(_ address: UInt32, port: UInt16 = 0) -> SystemAddress {
    SystemAddress(high: 0, low: UInt64(address), scope: 0, port: port, version: 4, padding: 0)
}

private func v6(_ low: UInt64, port: UInt16 = 0) -> SystemAddress {
    SystemAddress(high: 0, low: low, scope: 0, port: port, version: 6, padding: 0)
}

private let loopback: UInt32 = 0x7f00_0001

private func send(
    _ bytes: [UInt8], from fd: Int32, to address: SystemAddress, local: SystemAddress? = nil, segment: UInt16 = 0
) -> Int {
    var address = address
    return bytes.withUnsafeBytes { buffer in
        var part = iovec(
            iov_base: UnsafeMutableRawPointer(mutating: buffer.baseAddress), iov_len: buffer.count)
        guard var local else { return clinux_udp_send(fd, &address, nil, &part, 1, segment) }
        return clinux_udp_send(fd, &address, &local, &part, 1, segment)
    }
}

private struct Arrival {
    var bytes: [UInt8]
    var from = SystemAddress()
    var local = SystemAddress()
    var segment: UInt16 = 0
    var result: Int
}

private func receive(_ fd: Int32, capacity: Int = 65536, within milliseconds: Int32 = 5000) -> Arrival {
    var ready = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
    Glibc.poll(&ready, 1, milliseconds)
    var arrival = Arrival(bytes: [UInt8](repeating: 0, count: capacity), result: 0)
    arrival.result = clinux_udp_receive(fd, &arrival.bytes, capacity, &arrival.from, &arrival.local, &arrival.segment)
    arrival.bytes.removeLast(capacity - max(0, arrival.result))
    return arrival
}

struct UDPTests {
    @Test func anAddressInUseIsRefusedAndNamed() throws {
        let socket = try UDPSocket.open(bind: v4(loopback), description: "first")
        let taken = try UDPSocket.localAddress(socket.raw)
        #expect(taken.port != 0)
        let error = #expect(throws: SystemError.self) {
            _ = try UDPSocket.open(bind: v4(loopback, port: taken.port), description: "127.0.0.1:x")
        }
        #expect(error?.code == EADDRINUSE)
        #expect(error?.description.contains("127.0.0.1:x") == true)
    }

    @Test func anAddressOfNoInterfaceAndNoAddressAtAllAreRefused() {
        // 192.0.2.1 is of no network (RFC 5737).
        let error = #expect(throws: SystemError.self) {
            _ = try UDPSocket.open(bind: v4(0xc000_0201), description: "elsewhere")
        }
        #expect(error?.code == EADDRNOTAVAIL)
        var fd: Int32 = -1
        #expect(throws: Never.self) {
            fd = try UDPSocket.open(bind: v4(loopback), description: "any").release()
        }
        #expect(send([1], from: fd, to: SystemAddress()) == -Int(EDESTADDRREQ))
        close(fd)
    }

    @Test func oneSendMakesManyDatagramsAndOneReceiveTakesThem() throws {
        let sender = try UDPSocket.open(bind: v4(loopback), description: "sender")
        let receiver = try UDPSocket.open(bind: v4(loopback), description: "receiver")
        #expect(clinux_udp_set_gro(receiver.raw, 1) == 0)
        let target = try UDPSocket.localAddress(receiver.raw)
        let bytes = (0..<2500).map { UInt8(truncatingIfNeeded: $0) }
        #expect(send(bytes, from: sender.raw, to: target, segment: 1000) == 2500)
        var collected: [UInt8] = []
        while collected.count < bytes.count {
            let arrival = receive(receiver.raw)
            guard arrival.result > 0 else { break }
            #expect(arrival.segment == (arrival.result > 1000 ? 1000 : 0))
            collected += arrival.bytes
        }
        #expect(collected == bytes)
    }

    @Test func aDatagramThatDoesNotFitIsAnErrorAndTheNextArrives() throws {
        let sender = try UDPSocket.open(bind: v6(1), description: "sender")
        let receiver = try UDPSocket.open(bind: v6(1), description: "receiver")
        let target = try UDPSocket.localAddress(receiver.raw)
        #expect(send([UInt8](repeating: 7, count: 200), from: sender.raw, to: target) == 200)
        #expect(send([1, 2, 3], from: sender.raw, to: target) == 3)
        #expect(receive(receiver.raw, capacity: 100).result == -Int(EMSGSIZE))
        let arrival = receive(receiver.raw, capacity: 100)
        #expect(arrival.bytes == [1, 2, 3])
        #expect(arrival.from.version == 6 && arrival.from.low == 1)
        let source = try UDPSocket.localAddress(sender.raw)
        #expect(arrival.from.port == source.port)
    }

    @Test func nothingToReceiveIsNotAnError() throws {
        let socket = try UDPSocket.open(bind: v4(loopback), description: "socket")
        var arrival = Arrival(bytes: [0], result: 0)
        arrival.result = clinux_udp_receive(socket.raw, &arrival.bytes, 1, &arrival.from, nil, &arrival.segment)
        #expect(arrival.result == -Int(EAGAIN))
    }

    @Test(arguments: [UInt8(4), 6]) func aWildcardSocketAnswersFromTheAddressThatWasAsked(version: UInt8) throws {
        let answer = try inNewNetworkNamespace {
            var netlink = try Netlink()
            let device = try #require(try netlink.link(named: "lo"))
            try netlink.change(device.index, .init(isUp: true), description: "lo up")
            let second: [UInt8] = version == 4 ? [10, 7, 7, 7] : [0xfd] + [UInt8](repeating: 0, count: 14) + [7]
            try netlink.addAddress(second, prefix: version == 4 ? 32 : 128, to: device.index, description: "second")
            let asked =
                version == 4
                ? v4(0x0a07_0707) : SystemAddress(high: 0xfd00 << 48, low: 7, scope: 0, port: 0, version: 6, padding: 0)
            let server = try UDPSocket.open(bind: version == 4 ? v4(0) : v6(0), description: "server")
            let client = try UDPSocket.open(bind: version == 4 ? v4(0) : v6(0), description: "client")
            var target = asked
            target.port = try UDPSocket.localAddress(server.raw).port
            // The kernel adds the route of a new IPv6 address when it finds the time: until then it refuses what is
            // sent there, or takes it and loses it.
            let question = try TunnelTestKit.poll("the question", within: .seconds(10)) { () -> Arrival? in
                _ = send([1], from: client.raw, to: target)
                let arrival = receive(server.raw, within: 0)
                return arrival.result > 0 ? arrival : nil
            }
            _ = send([2], from: server.raw, to: question.from, local: question.local)
            return (receive(client.raw).from, target)
        }
        #expect(answer.0.version == version && answer.0.low == answer.1.low && answer.0.high == answer.1.high)
        #expect(answer.0.port == answer.1.port)
    }
}
