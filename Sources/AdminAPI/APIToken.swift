import CSodium

/// A bearer token of the API on TCP. Only its hash is kept: it has 256 bits of chance, so one round of SHA-256 tells
/// nothing of it.
public struct APIToken: Equatable, Sendable {
    public let text: String

    /// A new one.
    public static func generate() -> APIToken {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
        var generator = SystemRandomNumberGenerator()
        let bytes = (0..<43).map { _ in alphabet[Int.random(in: 0..<64, using: &generator)] }
        return APIToken(text: String(decoding: bytes, as: UTF8.self))
    }

    /// SHA-256 of a token's bytes.
    static func hash(_ text: some StringProtocol) -> [UInt8] {
        let bytes = Array(text.utf8)
        var hash = [UInt8](repeating: 0, count: 32)
        _ = crypto_hash_sha256(&hash, bytes, UInt64(bytes.count))
        return hash
    }

    /// As a line of the token file.
    public func line(name: String) -> String { "\(name) sha256:\(Self.hexadecimal(Self.hash(text)))" }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}

/// The tokens that the API accepts on TCP: lines `NAME sha256:HASH`, `#` before comments.
public struct APITokenFile: Equatable, Sendable {
    private var hashes: [(name: String, hash: [UInt8])] = []

    public struct Malformed: Error, Equatable, CustomStringConvertible {
        public var description: String
    }

    public init(_ text: String) throws(Malformed) {
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let words = line.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" || $0 == "\r" }
            if words.isEmpty { continue }
            guard words.count == 2, words[1].hasPrefix("sha256:"), let hash = Self.bytes(words[1].dropFirst(7)) else {
                throw Malformed(
                    description:
                        "line \(index + 1): is not NAME sha256:HASH; 'mlvpn-admin new-token NAME' makes such a line")
            }
            hashes.append((String(words[0]), hash))
        }
        if hashes.isEmpty {
            throw Malformed(description: "holds no token; 'mlvpn-admin new-token NAME' makes one")
        }
    }

    /// The name of a token; nil for a wrong one. Takes the same time for every token of one length.
    public func name(of token: some StringProtocol) -> String? {
        let hash = APIToken.hash(token)
        var found: String?
        for (name, known) in hashes where sodium_memcmp(hash, known, known.count) == 0 { found = name }
        return found
    }

    public static func == (left: APITokenFile, right: APITokenFile) -> Bool {
        left.hashes.elementsEqual(right.hashes) { $0 == $1 }
    }

    private static func bytes(_ text: Substring) -> [UInt8]? {
        guard text.utf8.count == 64 else { return nil }
        var bytes: [UInt8] = []
        var rest = text[...]
        while !rest.isEmpty {
            guard let byte = UInt8(rest.prefix(2), radix: 16) else { return nil }
            bytes.append(byte)
            rest = rest.dropFirst(2)
        }
        return bytes
    }
}
