import Foundation

/// Datagrams that two peers of the reference implementation sent each other (Tests/Fixtures/mlvpn-v1-capture.json).
struct Capture: Decodable {
    struct Entry: Decodable {
        var mode: String
        var type: String
        var version: UInt8
        var reorder: Int
        var unused: UInt8
        var len: UInt16
        var timestamp: UInt16
        var timestampReply: UInt16
        var flowID: UInt32
        var seq: UInt64
        var dataSeq: UInt64
        var payload: String
        var datagram: String

        enum CodingKeys: String, CodingKey {
            case mode, type, version, reorder, unused, len, timestamp, seq, payload, datagram
            case timestampReply = "timestamp_reply"
            case flowID = "flow_id"
            case dataSeq = "data_seq"
        }

        /// What stands on the wire.
        var bytes: [UInt8] { unhex(datagram) }
        /// What the body says.
        var plaintext: [UInt8] { unhex(payload) }
        /// Control is always encrypted.
        var isEncrypted: Bool { mode == "encrypted" || type != "data" }
    }

    var password: String
    var key: String
    var datagrams: [Entry]

    static func load() throws -> Capture {
        let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Fixtures/mlvpn-v1-capture.json")
        return try JSONDecoder().decode(Capture.self, from: Data(contentsOf: file))
    }
}

func unhex(_ text: String) -> [UInt8] {
    let digits = text.utf8.map { $0 < 0x3a ? $0 - 0x30 : $0 - 0x57 }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}
