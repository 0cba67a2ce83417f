import AdminAPI
import Testing

@testable import mlvpn_admin

@Suite struct OutputTests {
    @Test func tablesAreAlignedAndHaveNoTrailingSpace() {
        var table = TextTable(["NAME", "BYTES", "NOTE"], rightAligned: [1])
        table.rows = [["a", "1", ""], ["longer", "1000", "x"]]
        #expect(table.text == "NAME    BYTES  NOTE\na           1\nlonger   1000  x")
    }

    @Test func aQuerysTableShowsNullsAndNumbers() {
        let table = Table(
            columns: ["day", "uptime"],
            rows: [[.string("2025-03-01"), .number(99.9)], [.string("2025-03-02"), .null]])
        #expect(TextTable(table).text == "day         uptime\n2025-03-01  99.900\n2025-03-02       -")
    }

    @Test func noCellOfATableSpeaksToTheTerminal() {
        let table = Table(columns: ["a\nb"], rows: [[.string("x\n\u{1b}[2J\t\u{9b}é")]])
        #expect(TextTable(table).text == "a\\nb\nx\\n\\x1b[2J\\t\\x9bé")
    }

    @Test(arguments: [
        (0.0, 1, "0.0"), (-0.04, 1, "0.0"), (-0.05, 1, "-0.1"), (12.345, 2, "12.35"), (7, 0, "7"), (0.5, 3, "0.500"),
    ])
    func numbersHaveTheirPlaces(number: Double, places: Int, text: String) {
        #expect(decimal(number, places: places) == text)
    }

    @Test func unitsAreThoseOfTheField() {
        #expect(
            byteText(999) == "999 B" && byteText(1500) == "1.5 kB" && byteText(2_000_000_000_000_000) == "2000.0 TB")
        #expect(rateText(20_000_000) == "20.0 Mbit/s" && rateText(1_000_000_000) == "1.00 Gbit/s")
    }

    @Test func namesInPathsCannotLeaveThem() {
        #expect(Target("tunnels", "../x?y=1").text == "/v1/tunnels/..%2Fx%3Fy%3D1")
        #expect(Target("events", query: ["tunnel": "a b", "since": nil]).text == "/v1/events?tunnel=a%20b")
    }
}
