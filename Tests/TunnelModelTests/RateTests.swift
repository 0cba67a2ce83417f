import Testing
import TunnelModel

@Suite("Rates")
struct RateTests {
    @Test(arguments: [
        "", " ", "-1", "+1", "1e6", "mbit", ".", "1.", ".5mbit", "1.2.3", "20 mbit", "20Mb", "20mb", "20mbps",
        "20mbit/m",
        "/s", "1/s/s", "0x10", "20mbitmbit", "٣", "\u{0}",
    ])
    func whatIsNoRateIsRefusedWithAnExample(_ text: String) {
        let error = #expect(throws: DefinitionError.self) { try Rate.parse(text, field: "limit") }
        #expect(error?.field == "limit")
        #expect(error?.problem.contains("20mbit") == true)
    }

    @Test(arguments: [
        "1000000000001", "99999999999999999999999999", "18446744073709551615", "18446744073709551615.999999GiB",
        "8.1tbit",
        "9000gbit",
    ])
    func whatIsTooMuchIsRefused(_ text: String) {
        #expect(throws: DefinitionError.self) { try Rate.parse(text, field: "limit") }
    }

    @Test(arguments: ["0", "0mbit", "7bit", "0.0000001MB"])
    func lessThanAByteIsRefused(_ text: String) {
        let error = #expect(throws: DefinitionError.self) { try Rate.parse(text, field: "limit") }
        #expect(error?.problem.contains("less than one byte") == true)
    }

    @Test(arguments: [
        ("1", 1), ("125000", 125_000), ("20mbit", 2_500_000), ("20Mbit", 2_500_000), ("20MBIT/s", 2_500_000),
        ("2MB", 2_000_000), ("2MB/s", 2_000_000), ("1.5mbit", 187_500), ("0.5MB", 500_000), ("1kB", 1000),
        ("64kbit", 8000),
        ("1gbit", 125_000_000), ("10GB", 10_000_000_000), ("1KiB", 1024), ("1MiB", 1 << 20), ("1GiB", 1 << 30),
        ("8bit", 1), ("100B", 100), ("1000000000000", 1_000_000_000_000), ("1.123456789MB", 1_123_456),
    ])
    func ratesAreBytesPerSecond(_ text: String, _ expected: UInt64) throws {
        #expect(try Rate.parse(text, field: "limit") == expected)
    }
}
