import Testing
import TunnelModel

@testable import Helper

struct ScriptLedgerTests {
    private let a: LinkName
    private let b: LinkName
    private var definition: TunnelDefinition

    init() throws {
        a = try LinkName("adsl1")
        b = try LinkName("wifi")
        definition = TunnelDefinition(
            name: try TunnelName("home"), mode: .client, interface: try InterfaceName("ml0"),
            password: try Password([1]))
        definition.statusCommand = "/etc/mlvpn/updown.sh"
    }

    private func drain(_ ledger: inout ScriptLedger) -> [String] {
        var events: [String] = []
        while let event = ledger.next() { events.append(event.arguments.joined(separator: " ")) }
        return events
    }

    @Test func theEnvironmentIsWhatScriptsOfStockExpect() throws {
        var definition = definition
        definition.ip4 = try CIDR("10.0.0.1/30", field: "")
        definition.gateway4 = IPAddress("10.0.0.2")
        definition.routes = [
            try CIDR("10.1.0.0/16", field: ""), try CIDR("2001:db8::/32", field: ""),
            try CIDR("10.2.0.9/24", field: ""),
        ]
        definition.mtu = 1400
        #expect(
            ScriptContext(definition)?.environment == [
                "IP4=10.0.0.1/30", "IP6=", "IP4_GATEWAY=10.0.0.2", "IP6_GATEWAY=",
                "IP4_ROUTES=10.1.0.0/16 10.2.0.0/24", "IP6_ROUTES=2001:db8::/32", "DEVICE=ml0", "MTU=1400",
            ])
        definition.statusCommand = nil
        #expect(ScriptContext(definition) == nil)
    }

    @Test func theFirstLinkBringsTheDeviceUpAndTheLastTakesItDown() {
        var ledger = ScriptLedger()
        ledger.set(ScriptContext(definition))
        #expect(drain(&ledger) == [])
        ledger.set(a, isUp: true)
        #expect(drain(&ledger) == ["rtun_up adsl1", "tuntap_up"])
        ledger.set(b, isUp: true)
        #expect(drain(&ledger) == ["rtun_up wifi"])
        ledger.set(a, isUp: false)
        #expect(drain(&ledger) == ["rtun_down adsl1"])
        ledger.set(b, isUp: false)
        #expect(drain(&ledger) == ["rtun_down wifi", "tuntap_down"])
    }

    @Test func repeatedStatesAreToldOnce() {
        var ledger = ScriptLedger()
        ledger.set(ScriptContext(definition))
        ledger.set(a, isUp: false)
        for _ in 0..<3 { ledger.set(a, isUp: true) }
        #expect(drain(&ledger) == ["rtun_up adsl1", "tuntap_up"])
        ledger.set(a, isUp: true)
        #expect(drain(&ledger) == [])
    }

    @Test func flappingWhileAScriptRunsDoesNotPileUp() {
        var ledger = ScriptLedger()
        ledger.set(ScriptContext(definition))
        ledger.set(a, isUp: true)
        let first = ledger.next()
        #expect(first?.arguments == ["rtun_up", "adsl1"])
        for round in 0..<1000 { ledger.set(a, isUp: round % 2 == 1) }
        #expect(drain(&ledger) == ["tuntap_up"])
        for round in 0..<1001 { ledger.set(a, isUp: round % 2 == 1) }
        #expect(drain(&ledger) == ["rtun_down adsl1", "tuntap_down"])
    }

    @Test func linksTakeTurnsInTheOrderOfTheirChanges() {
        var ledger = ScriptLedger()
        ledger.set(ScriptContext(definition))
        ledger.set(b, isUp: true)
        ledger.set(a, isUp: true)
        #expect(drain(&ledger) == ["rtun_up wifi", "tuntap_up", "rtun_up adsl1"])
    }

    @Test func aLinkThatIsTakenAwayIsDown() {
        var ledger = ScriptLedger()
        ledger.set(ScriptContext(definition))
        ledger.set(a, isUp: true)
        ledger.set(b, isUp: true)
        _ = drain(&ledger)
        ledger.keep(only: [b])
        #expect(drain(&ledger) == ["rtun_down adsl1"])
    }

    @Test func anotherContextUndoesWhatTheOldOneDidFirst() throws {
        var ledger = ScriptLedger()
        let old = ScriptContext(definition)
        ledger.set(old)
        ledger.set(a, isUp: true)
        ledger.set(b, isUp: true)
        _ = drain(&ledger)
        var changed = definition
        changed.ip4 = try CIDR("10.0.0.1/30", field: "")
        let new = ScriptContext(changed)
        ledger.set(new)
        var events: [ScriptEvent] = []
        while let event = ledger.next() { events.append(event) }
        #expect(
            events.map { $0.arguments.joined(separator: " ") } == [
                "rtun_down adsl1", "rtun_down wifi", "tuntap_down", "rtun_up adsl1", "tuntap_up", "rtun_up wifi",
            ])
        #expect(events.prefix(3).allSatisfy { $0.context == old } && events.suffix(3).allSatisfy { $0.context == new })
    }

    @Test func aDeviceThatIsMadeAgainIsConfiguredAgain() {
        var ledger = ScriptLedger()
        ledger.set(ScriptContext(definition))
        ledger.startOver()
        #expect(drain(&ledger) == [])
        ledger.set(a, isUp: true)
        ledger.set(b, isUp: true)
        _ = drain(&ledger)
        ledger.startOver()
        #expect(
            drain(&ledger) == [
                "rtun_down adsl1", "rtun_down wifi", "tuntap_down", "rtun_up adsl1", "tuntap_up", "rtun_up wifi",
            ])
        #expect(drain(&ledger) == [])
    }

    @Test func withoutAStatusCommandThereIsNothingToRun() {
        var ledger = ScriptLedger()
        ledger.set(nil)
        ledger.set(a, isUp: true)
        #expect(drain(&ledger) == [])
        ledger.set(ScriptContext(definition))
        #expect(drain(&ledger) == ["rtun_up adsl1", "tuntap_up"])
        ledger.set(nil)
        #expect(drain(&ledger) == ["rtun_down adsl1", "tuntap_down"])
    }

    @Test func aSuccessorTellsOnlyWhatChanged() {
        var ledger = ScriptLedger(
            context: ScriptContext(definition), linksUp: [a], toldLinks: [a], toldDevice: true)
        ledger.set(a, isUp: true)
        #expect(drain(&ledger) == [])
        ledger.set(b, isUp: true)
        #expect(drain(&ledger) == ["rtun_up wifi"])
        ledger.allDown()
        #expect(drain(&ledger) == ["rtun_down adsl1", "rtun_down wifi", "tuntap_down"])
    }

    @Test func aSuccessorTellsWhatItsPredecessorCouldNot() {
        var ledger = ScriptLedger(
            context: ScriptContext(definition), linksUp: [a], toldLinks: [a], toldDevice: false)
        #expect(drain(&ledger) == ["tuntap_up"])
        #expect(ledger.told.links == [a] && ledger.told.device)
        ledger = ScriptLedger(context: ScriptContext(definition), linksUp: [b], toldLinks: [a], toldDevice: true)
        #expect(drain(&ledger) == ["rtun_down adsl1", "rtun_up wifi"])
        ledger = ScriptLedger(context: ScriptContext(definition), linksUp: [], toldLinks: [], toldDevice: true)
        #expect(drain(&ledger) == ["tuntap_down"])
        ledger.set(nil)
        #expect(ledger.told.links.isEmpty && !ledger.told.device)
    }

    @Test func randomStatesEndInWhatScriptsWereTold() {
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<300 {
            var ledger = ScriptLedger()
            ledger.set(ScriptContext(definition))
            var up: Set<LinkName> = []
            var told: Set<String> = []
            var device = false
            for _ in 0..<60 {
                if Bool.random(using: &generator) {
                    let link = Bool.random(using: &generator) ? a : b
                    let isUp = Bool.random(using: &generator)
                    ledger.set(link, isUp: isUp)
                    if isUp { up.insert(link) } else { up.remove(link) }
                } else if let event = ledger.next() {
                    apply(event, &told, &device)
                }
            }
            while let event = ledger.next() { apply(event, &told, &device) }
            #expect(told == Set(up.map(\.text)) && device == !up.isEmpty)
        }
    }

    private func apply(_ event: ScriptEvent, _ told: inout Set<String>, _ device: inout Bool) {
        switch event.arguments[0] {
        case "rtun_up": #expect(told.insert(event.arguments[1]).inserted)
        case "rtun_down": #expect(told.remove(event.arguments[1]) != nil)
        case "tuntap_up":
            #expect(!device && !told.isEmpty)
            device = true
        default:
            #expect(device && told.isEmpty)
            device = false
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
