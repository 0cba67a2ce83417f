import Glibc
import LinuxSystem
import Testing

/// A client of a UNIX socket, for what a well-behaved one would not do.
final class SocketClient: Sendable {
    private let descriptor: OwnedDescriptor

    init(_ path: String) throws {
        descriptor = OwnedDescriptor(owning: socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0))
        let connected = withUnixAddress(path) { connect(descriptor.raw, $0, $1) }
        try #require(connected == 0, "\(path): \(String(cString: strerror(errno)))")
        _ = fcntl(descriptor.raw, F_SETFL, O_NONBLOCK)
    }

    /// As much as the socket takes.
    @discardableResult
    func send(_ text: String) -> Int {
        Glibc.send(descriptor.raw, text, text.utf8.count, Int32(MSG_NOSIGNAL))
    }

    func endOfInput() { shutdown(descriptor.raw, Int32(SHUT_WR)) }

    /// What comes until the server closes, or until `enough`.
    func receive(until enough: (String) -> Bool = { _ in false }) async throws -> String {
        var bytes: [UInt8] = []
        try await eventually("an answer", within: .seconds(15)) {
            while !enough(String(decoding: bytes, as: UTF8.self)) {
                var chunk = [UInt8](repeating: 0, count: 1 << 16)
                let count = read(descriptor.raw, &chunk, chunk.count)
                if count < 0 { return errno == ECONNRESET }
                if count == 0 { break }
                bytes += chunk.prefix(count)
            }
            return true
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// A socket that listens at `path`.
    static func listener(_ path: String) throws -> OwnedDescriptor {
        let listener = OwnedDescriptor(owning: socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0))
        let bound = withUnixAddress(path) { bind(listener.raw, $0, $1) }
        try #require(bound == 0 && listen(listener.raw, 128) == 0, "\(path): \(String(cString: strerror(errno)))")
        return listener
    }
}

private func withUnixAddress(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix($0.count - 1)) }
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
}
