import Foundation

/// Datagrams that two peers of the reference implementation sent each other (Tests/Fixtures/mlvpn-v1-capture.json).
struct Capture: Decodable {
    struct Entry: Decodable {
        var sender: String
        var mode: String
        var type: String
        private var datagram: String

        var bytes: [UInt8] {
            let digits = datagram.utf8.map { $0 < 0x3a ? $0 - 0x30 : $0 - 0x57 }
            return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
        }
    }

    var password: String
    var datagrams: [Entry]

    static func load() throws -> Capture {
        let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Fixtures/mlvpn-v1-capture.json")
        return try JSONDecoder().decode(Capture.self, from: Data(contentsOf: file))
    }
}
