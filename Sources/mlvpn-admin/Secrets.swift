import AdminAPI
import Glibc
import TunnelModel

/// Reading and making passwords.
enum Secrets {
    /// From a file, or from standard input; one trailing newline is removed.
    static func read(path: String?) throws -> Password {
        let limit = 64 << 10
        let bytes = try path.map { try readFile($0, limit: limit) } ?? readStandardInput(limit: limit)
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
    try readAll(of: fopen(path, "re"), path, limit: limit)
}

/// Not by its name in /dev: a socket, or another user's pipe, cannot be opened again.
func readStandardInput(limit: Int) throws -> [UInt8] {
    try readAll(of: fdopen(dup(STDIN_FILENO), "r"), "standard input", limit: limit)
}

private func readAll(of file: UnsafeMutablePointer<FILE>?, _ path: String, limit: Int) throws -> [UInt8] {
    guard let file else { throw Problem(.refused, "\(path): \(String(cString: strerror(errno)))") }
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
