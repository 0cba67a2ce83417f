import Glibc
import Testing
import TunnelTestKit

@testable import LinuxSystem

/// What a device of the namespace looks like to another program.
private func show(_ command: String) throws -> String {
    let loop = try EventLoop()
    let children = Children(loop: loop)
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { throw SystemError.last("make a pipe") }
    var launch = ChildProcess.Launch(
        path: "/bin/sh", arguments: ["sh", "-c", "ip \(command)"],
        environment: ["PATH=/usr/sbin:/sbin:/usr/bin:/bin"])
    launch.standardOutput = ends[1]
    let pid = try ChildProcess.start(launch)
    close(ends[1])
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while case let count = read(ends[0], &buffer, buffer.count), count > 0 { output += buffer.prefix(count) }
    close(ends[0])
    children.add(pid) { _ in loop.stop() }
    try loop.run()
    return String(decoding: output, as: UTF8.self)
}

struct NetlinkTests {
    @Test func aDeviceThatIsNotThereIsNilAndChangingItAnErrorInTheKernelsWords() throws {
        try inNewNetworkNamespace {
            var netlink = try Netlink()
            #expect(try netlink.link(named: "nothing") == nil)
            let error = #expect(throws: SystemError.self) {
                try netlink.change(4711, .init(isUp: true), description: "set nothing up")
            }
            #expect(error?.code == ENODEV && error?.action == "set nothing up")
            let device = try makeDevice("t0")
            let link = try #require(try netlink.link(named: "t0"))
            let refused = #expect(throws: SystemError.self) {
                try netlink.change(link.index, .init(mtu: 10), description: "set the MTU")
            }
            #expect(refused?.hint.contains("the kernel says: mtu less than device minimum") == true)
            _ = device.raw
        }
    }

    @Test func aDeviceTakesItsSettings() throws {
        try inNewNetworkNamespace {
            let device = try makeDevice("t0")
            var netlink = try Netlink()
            let link = try #require(try netlink.link(named: "t0"))
            #expect(!link.isUp && link.kind == "tun")
            try netlink.change(
                link.index, .init(isUp: true, mtu: 1300, group: 77, queueLength: 321), description: "set t0 up")
            let changed = try #require(try netlink.link(named: "t0"))
            #expect(changed.isUp && changed.mtu == 1300 && changed.group == 77)
            #expect(try netlink.groups() == [0, 77])
            let text = try show("-d link show t0")
            #expect(text.contains("qlen 321"))
            _ = device.raw
        }
    }

    @Test func addressesAreAddedTwiceAndRemovedTwiceWithoutHarm() throws {
        try inNewNetworkNamespace {
            let device = try makeDevice("t0")
            var netlink = try Netlink()
            let index = try #require(try netlink.link(named: "t0")).index
            let six: [UInt8] = [0x20, 1, 0xd, 0xb8] + [UInt8](repeating: 0, count: 11) + [1]
            for _ in 0..<2 {
                try netlink.addAddress([10, 1, 2, 3], prefix: 30, to: index, description: "add")
                try netlink.addAddress(six, prefix: 64, to: index, description: "add")
            }
            let text = try show("addr show t0")
            #expect(text.contains("inet 10.1.2.3/30") && text.contains("inet6 2001:db8::1/64"))
            #expect(!text.contains("tentative"))
            for _ in 0..<2 {
                try netlink.removeAddress([10, 1, 2, 3], prefix: 30, from: index, description: "remove")
                try netlink.removeAddress(six, prefix: 64, from: index, description: "remove")
            }
            #expect(try !show("addr show t0").contains("inet"))
            _ = device.raw
        }
    }

    @Test func routesAreSetThroughTheDeviceOrAGatewayAnywhereBehindIt() throws {
        try inNewNetworkNamespace {
            let device = try makeDevice("t0")
            var netlink = try Netlink()
            let index = try #require(try netlink.link(named: "t0")).index
            try netlink.change(index, .init(isUp: true), description: "up")
            try netlink.addAddress([10, 1, 2, 3], prefix: 32, to: index, description: "address")
            let direct = Netlink.Route(destination: [10, 9, 0, 0], prefix: 16, gateway: nil, index: index)
            let far = Netlink.Route(destination: [0, 0, 0, 0], prefix: 0, gateway: [10, 200, 0, 1], index: index)
            let six = Netlink.Route(
                destination: [0x20, 1, 0xd, 0xb8] + [UInt8](repeating: 0, count: 12), prefix: 32, gateway: nil,
                index: index)
            for route in [direct, far, six, direct, far, six] { try netlink.addRoute(route, description: "add") }
            let text = try show("route") + show("-6 route")
            #expect(text.contains("10.9.0.0/16 dev t0"))
            #expect(text.contains("default via 10.200.0.1 dev t0"))
            #expect(text.contains("2001:db8::/32 dev t0"))
            for route in [direct, direct, far, six] { try netlink.removeRoute(route, description: "remove") }
            #expect(try !show("route").contains("10.9.0.0"))
            _ = device.raw
        }
    }

    @Test func aRouteThatAnotherDeviceHasIsRefused() throws {
        try inNewNetworkNamespace {
            let devices = (try makeDevice("t0").release(), try makeDevice("t1").release())
            defer {
                close(devices.0)
                close(devices.1)
            }
            var netlink = try Netlink()
            var routes: [Netlink.Route] = []
            for name in ["t0", "t1"] {
                let index = try #require(try netlink.link(named: name)).index
                try netlink.change(index, .init(isUp: true), description: "up")
                routes.append(Netlink.Route(destination: [10, 9, 0, 0], prefix: 16, gateway: nil, index: index))
            }
            try netlink.addRoute(routes[0], description: "first")
            let error = #expect(throws: SystemError.self) { try netlink.addRoute(routes[1], description: "second") }
            #expect(error?.code == EEXIST && error?.hint.contains("another route") == true)
        }
    }

    @Test func aGroupOfDevicesIsDeletedAtOnceAndNoOther() throws {
        try inNewNetworkNamespace {
            var netlink = try Netlink()
            var descriptors = DescriptorList()
            for name in ["a0", "a1", "b0"] {
                descriptors.append(try makeDevice(name))
                let index = try #require(try netlink.link(named: name)).index
                try netlink.change(index, .init(group: name.hasPrefix("a") ? 500 : 501), description: "group")
            }
            try netlink.deleteGroup(500)
            try netlink.deleteGroup(500)
            #expect(try netlink.link(named: "a0") == nil)
            #expect(try netlink.link(named: "a1") == nil)
            #expect(try netlink.link(named: "b0") != nil)
        }
    }

    @Test func garbageFromTheKernelIsCutOffNotRead() {
        #expect(NetlinkMessage.messages(in: []).isEmpty)
        #expect(NetlinkMessage.messages(in: [UInt8](repeating: 0xff, count: 40)[...]).isEmpty)
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            let bytes = (0..<Int.random(in: 0...80, using: &generator)).map { _ in
                UInt8.random(in: 0...40, using: &generator)
            }
            for part in NetlinkMessage.messages(in: bytes[...]) {
                #expect(part.payload.count + 16 <= bytes.count)
                for (_, value) in NetlinkMessage.attributes(of: part.payload, from: 4) {
                    #expect(value.count + 8 <= part.payload.count)
                }
            }
        }
    }
}

struct TunDeviceTests {
    @Test func aNameThatIsTakenIsRefusedWithWhoHasIt() throws {
        try inNewNetworkNamespace {
            let device = try makeDevice("t0")
            let error = #expect(throws: SystemError.self) { _ = try makeDevice("t0") }
            #expect(error?.code == EBUSY && error?.hint.contains("another device (kind tun)") == true)
            _ = device.raw
            let loopback = #expect(throws: SystemError.self) { _ = try makeDevice("lo") }
            #expect(loopback != nil)
            #expect(throws: SystemError.self) { _ = try makeDevice("a-name-of-16-byt") }
        }
    }

    @Test func aDeviceLivesAsLongAsItsDescriptor() throws {
        try inNewNetworkNamespace {
            var netlink = try Netlink()
            do {
                let device = try makeDevice("t0")
                #expect(try netlink.link(named: "t0") != nil)
                _ = device.raw
            }
            #expect(try netlink.link(named: "t0") == nil)
        }
    }

    @Test func offloadsAreProbedAndCanBeLeftOut() throws {
        try inNewNetworkNamespace {
            let with = try TunDevice.create(name: "t0", kind: .tap, offloads: true)
            // The header that precedes packets is older than any kernel that this runs on.
            #expect(with.features.hasVirtioHeader && with.features.tcpSegmentation)
            let without = try TunDevice.create(name: "t1", kind: .tun, offloads: false)
            #expect(without.features == TunDevice.Features())
        }
    }
}

private func makeDevice(_ name: String) throws(SystemError) -> OwnedDescriptor {
    var device = try TunDevice.create(name: name, kind: .tun, offloads: true)
    guard let descriptor = device.takeDescriptor() else { throw SystemError(EINVAL, "take the device") }
    return descriptor
}
