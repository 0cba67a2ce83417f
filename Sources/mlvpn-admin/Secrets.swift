import AdminAPI
import Glibc
import TunnelModel

/// Reading and making passwords.
enum Secrets {
    /// From a file, or from standard input; one trailing newline is removed.
    static func read(path: String?) throws -> Password {
        let bytes = try readFile(path ?? "/dev/stdin", limit: 64 << 10)
        return try Password(bytes.last == UInt8(ascii: "\n") ? Array(bytes.dropLast()) : bytes)
    }

    /// 32 characters of 64: 192 bits.
    static func generate() throws -> Password {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
        var generator = SystemRandomNumberGenerator()
        return try Password((0..<32).map { _ in alphabet[Int.random(in: 0..<64, using: &generator)] })
    }
}

/// A whole file; errors say which.
func readFile(_ path: String, limit: Int) throws -> [UInt8] {
    guard let file = fopen(path, "r") else { throw Problem(.refused, "\(path): \(String(cString: strerror(errno)))") }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = fread(&chunk, 1, chunk.count, file)
        bytes += chunk.prefix(count)
        if ferror(file) != 0 { throw Problem(.refused, "\(path): \(String(cString: strerror(errno)))") }
        if bytes.count > limit { throw Problem(.refused, "\(path) is longer than \(limit) bytes") }
        if count == 0 { return bytes }
    }
}
