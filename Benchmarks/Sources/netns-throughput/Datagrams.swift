import ArgumentParser
import Glibc

/// Sends datagrams at a rate: small and many, as calls over VoIP are. Says how many, and how late the latest was.
struct DatagramSource: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "datagram-source", shouldDisplay: false)

    @Option var to: String
    @Option var port: UInt16
    @Option var rate: Int
    @Option var size: Int
    @Option var seconds: Int

    func run() throws {
        let descriptor = try socket(to, port) { connect($0, $1, $2) }
        let payload = [UInt8](repeating: 0, count: size)
        let interval = 1_000_000_000 / Int64(rate)
        let count = rate * seconds
        let start = now()
        var number = 0
        var refused = 0
        var worst: Int64 = 0
        while number < count {
            let time = now()
            // What fell due while this process had no processor is made up for, but not in one burst.
            var burst = 0
            while number < count, burst < 64, start + Int64(number) * interval <= time {
                worst = max(worst, time - start - Int64(number) * interval)
                if send(descriptor, payload, payload.count, 0) != payload.count { refused += 1 }
                number += 1
                burst += 1
            }
            var pause = timespec(tv_sec: 0, tv_nsec: 200_000)
            nanosleep(&pause, nil)
        }
        print("sent \(count) refused \(refused) late \(worst / 1000) us")
    }
}

/// Counts the datagrams that arrive, until none has for a second.
struct DatagramSink: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "datagram-sink", shouldDisplay: false)

    @Option var bind: String
    @Option var port: UInt16
    /// Before the first.
    @Option var patience = 20

    func run() throws {
        let descriptor = try socket(bind, port) { Glibc.bind($0, $1, $2) }
        // What this process is too slow for is not the tunnel's loss.
        var bytes: Int32 = 32 << 20
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, 4)
        // At once, whatever standard output is.
        _ = write(1, "ready\n", 6)
        var buffer = [UInt8](repeating: 0, count: 2048)
        var received = 0
        while true {
            var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&wait, 1, received > 0 ? 1000 : Int32(patience) * 1000) > 0 else { break }
            while recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT)) > 0 { received += 1 }
        }
        print("received \(received)")
    }
}

private func now() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

/// A UDP socket that `attach` binds or connects to an IPv4 address.
private func socket(
    _ text: String, _ port: UInt16, _ attach: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
) throws -> Int32 {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    guard inet_pton(AF_INET, text, &address.sin_addr) == 1 else {
        throw ValidationError("'\(text)' is no IPv4 address.")
    }
    let descriptor = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
    let code = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            attach(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
    }
    guard descriptor >= 0, code == 0 else {
        throw ValidationError("no socket for \(text):\(port): \(String(cString: strerror(errno)))")
    }
    return descriptor
}
