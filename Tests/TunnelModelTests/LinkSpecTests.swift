import Testing
import TunnelModel

@Suite("Links and filters on the command line")
struct LinkSpecTests {
    @Test(arguments: [
        "", ",bind=:5080", "a b", "-x", "adsl1,", "adsl1,,fallback", "adsl1,bind", "adsl1,bind=", "adsl1,bind=:0",
        "adsl1,bind=::1:50800", "adsl1,bind=[::1]", "adsl1,bind=[::1:5080", "adsl1,remote=:5080", "adsl1,remote=host",
        "adsl1,bandwidth=fast", "adsl1,bandwidth=0", "adsl1,limit=999", "adsl1,limit=2tbit", "adsl1,timeout=1",
        "adsl1,timeout=none", "adsl1,loss-tolerance=101", "adsl1,latency-tolerance=-1", "adsl1,fallback=maybe",
        "adsl1,=5", "adsl1,port=5080",
    ])
    func aBadSpecIsRefused(_ text: String) {
        #expect(throws: DefinitionError.self) { try LinkSpec(text) }
    }

    @Test func anUnknownKeyIsToldWithTheKnownOnes() {
        let error = #expect(throws: DefinitionError.self) { try LinkSpec("adsl1,badwidth=1") }
        #expect(error?.description.contains("link adsl1: \"badwidth\"") == true)
        for key in LinkSpec.keys { #expect(error?.description.contains(key) == true) }
    }

    @Test func aKeyGivenTwiceIsRefusedHoweverSpelled() {
        let error = #expect(throws: DefinitionError.self) {
            try LinkSpec("adsl1,loss-tolerance=1,loss_tolerance=2")
        }
        #expect(error?.description == "link adsl1: loss-tolerance: is given twice")
    }

    @Test func everyKeyIsTakenFromASpec() throws {
        let link = try LinkSpec(
            "adsl1,bind=[2001:db8::1]:5080,remote=vpn.example.net:5081,bandwidth=20mbit,limit=2MB,timeout=9,"
                + "loss-tolerance=5,latency-tolerance=300,fallback"
        ).definition
        #expect(link.name.text == "adsl1")
        #expect(link.bind.description == "[2001:db8::1]:5080")
        #expect(link.remote?.description == "vpn.example.net:5081")
        #expect(link.bandwidth == .bytesPerSecond(2_500_000))
        #expect(link.limit == 2_000_000)
        #expect(link.timeout == 9)
        #expect(link.lossTolerance == 5)
        #expect(link.latencyTolerance == 300)
        #expect(link.fallback)
    }

    @Test func onlyWhatIsNamedChanges() throws {
        var link = try LinkSpec("a,bind=:1,remote=192.0.2.1:2,bandwidth=5,limit=6000,timeout=7,fallback").definition
        let before = link
        try LinkSpec("a").change.apply(to: &link)
        #expect(link == before)
        try LinkSpec("a,timeout=8").change.apply(to: &link)
        #expect(link.timeout == 8)
        link.timeout = 7
        #expect(link == before)
    }

    @Test func everythingCanBeTakenAway() throws {
        var link = try LinkSpec(
            "a,bind=:1,remote=192.0.2.1:2,bandwidth=5,limit=6000,timeout=7,loss-tolerance=8,latency-tolerance=9,fallback"
        ).definition
        try LinkSpec(
            "a,bind=none,remote=none,bandwidth=auto,limit=none,timeout=default,loss-tolerance=default,"
                + "latency-tolerance=default,fallback=no"
        ).change.apply(to: &link)
        #expect(link == LinkDefinition(name: try LinkName("a")))
    }

    @Test(arguments: ["", "adsl1", "=udp", "adsl1=", "adsl1=  ", "a+a=udp", "a+=udp", "a b=udp", "a,=udp", "a,a=udp"])
    func aBadFilterIsRefused(_ text: String) {
        let error = #expect(throws: DefinitionError.self) { try FilterDefinition(spec: text) }
        #expect(error?.field.hasPrefix("filter") == true)
    }

    @Test(arguments: ["a+b=udp", "a,b=udp"])
    func aFilterMayNameSeveralLinks(_ text: String) throws {
        let filter = try FilterDefinition(spec: text)
        let links = [try LinkName("a"), try LinkName("b")]
        #expect(filter.links == links)
        #expect(filter.spec == "a+b=udp")
    }

    @Test func anExpressionThatIsTooLongIsRefused() {
        let spec = "a=" + String(repeating: "x", count: FilterDefinition.maximumExpressionBytes + 1)
        #expect(throws: DefinitionError.self) { try FilterDefinition(spec: spec) }
    }

    @Test(arguments: [
        ("a=udp port 5060", ["a"], "udp port 5060"), ("a+b-2= tcp[13] = 2 ", ["a", "b-2"], "tcp[13] = 2"),
    ])
    func filtersAreLinksAndAnExpression(_ text: String, _ links: [String], _ expression: String) throws {
        let filter = try FilterDefinition(spec: text)
        #expect(filter.links.map(\.text) == links)
        #expect(filter.expression == expression)
        #expect(try FilterDefinition(spec: filter.spec) == filter)
    }
}
