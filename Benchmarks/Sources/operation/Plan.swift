import Glibc
import StockClients
import TunnelModel

/// Where the tunnels of these benchmarks lie: two links each, and a network of four addresses, of which the server has
/// the first and the customer the second.
enum Plan {
    static let links = 2
    /// Of the numbered streams.
    static let streamPort: UInt16 = 7000

    static func name(_ tunnel: Int) -> String { "t\(tunnel)" }

    static func port(_ tunnel: Int, link: Int) -> Int { 10_000 + tunnel * links + link }

    /// Another one, for links that move or come and go.
    static func sparePort(_ tunnel: Int) -> Int { 30_000 + tunnel }

    static func password(_ tunnel: Int) -> String { "tunnel \(tunnel)" }

    static func server(_ tunnel: Int) -> UInt32 { 0x0a50_0001 + UInt32(tunnel) * 4 }

    static func customer(_ tunnel: Int) -> UInt32 { server(tunnel) + 1 }

    static func text(_ address: UInt32) -> String { IPAddress.v4(address).description }

    static func client(_ tunnel: Int) -> StockClients.Tunnel {
        StockClients.Tunnel(password: password(tunnel), ports: (1...links).map { port(tunnel, link: $0) })
    }
}

/// How long `body` takes, by a clock that nobody sets.
func milliseconds(_ body: () throws -> Void) rethrows -> Double {
    let start = StockClients.now()
    try body()
    return Double(StockClients.now() - start) / 1e6
}

/// At once, whatever standard output is.
func say(_ text: String) {
    let bytes = Array("\(text)\n".utf8)
    var rest = bytes[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
        guard count > 0 else { return }
        rest = rest.dropFirst(count)
    }
}

/// What the program that started this one says on standard input, without waiting for it; nil: nothing. Its end is "end".
func word() -> String? {
    var wait = pollfd(fd: 0, events: Int16(POLLIN), revents: 0)
    guard poll(&wait, 1, 0) > 0 else { return nil }
    var bytes = [UInt8](repeating: 0, count: 64)
    let count = read(0, &bytes, bytes.count)
    guard count > 0 else { return "end" }
    return String(decoding: bytes.prefix(count), as: UTF8.self).split(separator: "\n").last.map(String.init)
}
