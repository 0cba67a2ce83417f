import TunnelModel

/// A file read as `mlvpn -c` does, or as import does.
func read(
    _ text: String, _ strictness: MlvpnConf.Strictness = .lenient
) throws(ConfError) -> (definition: TunnelDefinition, warnings: [ConfNotice]) {
    try read(bytes: Array(text.utf8), strictness)
}

func read(
    bytes: [UInt8], _ strictness: MlvpnConf.Strictness = .lenient
) throws(ConfError) -> (definition: TunnelDefinition, warnings: [ConfNotice]) {
    guard let name = try? TunnelName("office") else { preconditionFailure("a valid name") }
    return try MlvpnConf.parse(bytes, tunnelName: name, strictness: strictness)
}

/// What a file is refused for; empty: it is not.
func refusals(_ text: String, _ strictness: MlvpnConf.Strictness = .strict) -> [ConfNotice] {
    refusals(bytes: Array(text.utf8), strictness)
}

func refusals(bytes: [UInt8], _ strictness: MlvpnConf.Strictness = .strict) -> [ConfNotice] {
    do {
        _ = try read(bytes: bytes, strictness)
        return []
    } catch {
        return error.problems
    }
}

/// A server that is whole, with `general` after its first keys and `rest` after its link.
func server(general: String = "", link: String = "", rest: String = "") -> String {
    """
    [general]
    mode = server
    password = "secret"
    \(general)
    [adsl1]
    bindport = 5080
    \(link)
    \(rest)
    """
}

extension [ConfNotice] {
    /// Whether one of line `line` holds all of `texts`.
    func tells(_ line: Int?, _ texts: String...) -> Bool {
        contains { notice in notice.line == line && texts.allSatisfy { notice.text.contains($0) } }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): one seed, one run.
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
