import Testing
import TunnelModel

@testable import Helper

struct DeviceConfigTests {
    private func definition(_ change: (inout TunnelDefinition) throws -> Void = { _ in }) throws -> TunnelDefinition {
        var definition = TunnelDefinition(
            name: try TunnelName("home"), mode: .server, interface: try InterfaceName("ml0"),
            password: try Password([1]))
        try change(&definition)
        return definition
    }

    private func config(_ change: (inout TunnelDefinition) throws -> Void = { _ in }) throws -> DeviceConfig? {
        DeviceConfig(try definition(change))
    }

    private func cidr(_ text: String) throws -> CIDR { try CIDR(text, field: "") }

    @Test func aTunnelWithAStatusCommandIsLeftToIt() throws {
        let config = try config { $0.statusCommand = "/etc/mlvpn/up.sh" }
        #expect(config == nil)
        #expect(DeviceConfig.steps(to: nil, from: []) == [])
    }

    @Test func aNewDeviceIsSetUpFirstThenAddressedThenRouted() throws {
        let target = try config {
            $0.ip4 = try cidr("10.0.0.1/30")
            $0.ip6 = try cidr("2001:db8::1/64")
            $0.gateway4 = IPAddress("10.0.0.2")
            $0.routes = [try cidr("10.1.2.3/16"), try cidr("2001:db8:1::/48")]
            $0.mtu = 1400
        }
        #expect(
            try DeviceConfig.steps(to: target, from: []) == [
                .setUp(mtu: 1400), .addAddress(cidr("10.0.0.1/30")), .addAddress(cidr("2001:db8::1/64")),
                .addRoute(.init(network: cidr("10.1.0.0/16"), gateway: IPAddress("10.0.0.2"))),
                .addRoute(.init(network: cidr("2001:db8:1::/48"), gateway: nil)),
            ])
    }

    @Test func onlyWhatIsGoneIsTakenAway() throws {
        let old = try #require(
            try config {
                $0.ip4 = try cidr("10.0.0.1/30")
                $0.routes = [try cidr("10.1.0.0/16"), try cidr("10.2.0.0/16")]
            })
        let new = try config {
            $0.ip4 = try cidr("10.0.0.5/30")
            $0.routes = [try cidr("10.2.0.0/16")]
        }
        let steps = DeviceConfig.steps(to: new, from: [old])
        // The device is never without an address: the kernel would drop everyone's routes with it.
        #expect(
            try steps == [
                .removeRoute(.init(network: cidr("10.1.0.0/16"), gateway: nil)), .setUp(mtu: 1428),
                .addAddress(cidr("10.0.0.5/30")), .removeAddress(cidr("10.0.0.1/30")),
                .addAddress(cidr("10.0.0.5/30")), .addRoute(.init(network: cidr("10.2.0.0/16"), gateway: nil)),
            ])
    }

    @Test func anAddressWithAnotherPrefixReplacesTheOld() throws {
        let old = try #require(try config { $0.ip4 = try cidr("10.0.0.1/30") })
        let steps = DeviceConfig.steps(to: try config { $0.ip4 = try cidr("10.0.0.1/24") }, from: [old])
        #expect(
            try steps == [
                .removeAddress(cidr("10.0.0.1/30")), .setUp(mtu: 1428), .addAddress(cidr("10.0.0.1/24")),
            ])
    }

    @Test func aGatewayThatChangesMakesAnotherRoute() throws {
        let old = try #require(try config { $0.routes = [try cidr("10.1.0.0/16")] })
        let new = try config {
            $0.routes = [try cidr("10.1.0.0/16")]
            $0.gateway4 = IPAddress("10.0.0.2")
        }
        let steps = DeviceConfig.steps(to: new, from: [old])
        #expect(try steps.first == .removeRoute(.init(network: cidr("10.1.0.0/16"), gateway: nil)))
    }

    @Test func whatAFailedAttemptMayHaveLeftIsTakenAwayOnce() throws {
        let first = try #require(try config { $0.ip4 = try cidr("10.0.0.1/30") })
        let second = try #require(try config { $0.ip4 = try cidr("10.0.0.5/30") })
        let steps = DeviceConfig.steps(to: nil, from: [first, second, first])
        #expect(try steps == [.removeAddress(cidr("10.0.0.1/30")), .removeAddress(cidr("10.0.0.5/30"))])
    }

    @Test func problemsAreToldOnceAndTogether() throws {
        let link = try LinkName("adsl1")
        var problems = Problems()
        #expect(problems.set(link, .socket, nil) == nil)
        #expect(problems.set(link, .socket, "bind: taken") == .some("bind: taken"))
        #expect(problems.set(link, .socket, "bind: taken") == nil)
        #expect(problems.set(link, .remoteName, "remote: unknown") == .some("remote: unknown; bind: taken"))
        #expect(problems.set(nil, .device, "no device") == .some("no device"))
        #expect(problems.set(link, .socket, nil) == .some("remote: unknown"))
        #expect(problems.set(link, .remoteName, nil) == .some(nil))
        _ = problems.set(link, .socket, "again")
        #expect(problems.keep(only: []) == [link])
        #expect(problems.keep(only: []) == [])
        #expect(problems.set(nil, .device, nil) == .some(nil))
    }
}
