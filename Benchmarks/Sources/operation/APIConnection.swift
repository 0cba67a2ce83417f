import Foundation
import TunnelTestKit

/// HTTP/1.1 on a control socket, one request after the other over one connection.
final class APIConnection {
    private let path: String
    private var descriptor: Int32 = -1
    private var buffer: [UInt8] = []

    struct Answer {
        var status: Int
        var body: [UInt8]
    }

    init(_ path: String) { self.path = path }

    deinit { close() }

    /// An answer that is no success is an error.
    @discardableResult
    func send(_ method: String, _ target: String, _ body: String = "") throws(RigError) -> [UInt8] {
        let answer = try exchange(method, target, body)
        guard (200..<300).contains(answer.status) else {
            throw .unexpected("\(method) \(target) \(body): \(String(decoding: answer.body, as: UTF8.self))")
        }
        return answer.body
    }

    func exchange(_ method: String, _ target: String, _ body: String = "") throws(RigError) -> Answer {
        if descriptor < 0 { try connect() }
        let request =
            "\(method) \(target) HTTP/1.1\r\nHost: localhost\r\nContent-Length: \(body.utf8.count)\r\n"
            + "Content-Type: application/json\r\n\r\n\(body)"
        var rest = Array(request.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw failure("write") }
            rest = rest.dropFirst(count)
        }
        return try answer()
    }

    private func answer() throws(RigError) -> Answer {
        var end: Int?
        while end == nil {
            end = buffer.firstRange(of: Array("\r\n\r\n".utf8))?.upperBound
            if end == nil { try fill() }
        }
        let length = end ?? 0
        let head = String(decoding: buffer[..<length], as: UTF8.self).lowercased()
        let status = head.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        let size = head.firstRange(of: "content-length: ").flatMap { range in
            Int(head[range.upperBound...].prefix { $0.isNumber })
        }
        guard let size = size ?? (status == 204 ? 0 : nil) else {
            throw .unexpected("an answer without a length: \(head)")
        }
        while buffer.count < length + size { try fill() }
        let body = Array(buffer[length..<length + size])
        buffer.removeFirst(length + size)
        if head.contains("connection: close") { close() }
        return Answer(status: status, body: body)
    }

    private func fill() throws(RigError) {
        let size = 65536
        var chunk = [UInt8](repeating: 0, count: size)
        let count = recv(descriptor, &chunk, size, 0)
        guard count > 0 else { throw failure("read") }
        buffer += chunk.prefix(count)
    }

    private func failure(_ operation: String) -> RigError {
        let code = errno
        close()
        return .system(operation: operation, object: path, code: code)
    }

    private func connect() throws(RigError) {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { bytes in
            for (index, byte) in path.utf8.prefix(bytes.count - 1).enumerated() { bytes[index] = byte }
        }
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else { throw failure("connect to") }
    }

    func close() {
        if descriptor >= 0 { Glibc.close(descriptor) }
        descriptor = -1
        buffer = []
    }
}
