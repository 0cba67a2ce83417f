import ArgumentParser
import Glibc
import StockClients

/// One customer of the stock protocol who waits for a tunnel that is not there yet. Tells when it asked to be let in, when it
/// was, and when a first ping was answered, and ends.
struct Waiting: ParsableCommand {
    static let configuration = CommandConfiguration(shouldDisplay: false)

    @Option var tunnel: Int
    /// Links are tried at times of their own, spread over a second.
    @Option var links = Plan.links

    func run() throws {
        var tunnel = Plan.client(tunnel)
        tunnel.ports = Array(tunnel.ports.prefix(links))
        guard var clients = StockClients([tunnel], links: links) else {
            throw ValidationError("no client: \(String(cString: strerror(errno)))")
        }
        say("ready")
        let packet = UnsafeMutableRawBufferPointer.allocate(byteCount: 84, alignment: 8)
        var upAt: Int64?
        var askedAt: Int64 = 0
        var number: UInt16 = 0
        var answered = false
        while !answered {
            clients.turn(wait: 1) { _, packet in
                if InnerPacket.isEchoReply(packet) { answered = true }
            }
            guard clients.linksUp > 0 else {
                if word() == "end" { return }
                continue
            }
            if upAt == nil {
                upAt = StockClients.now()
                askedAt = clients.authTimes.max() ?? 0
            }
            number += 1
            InnerPacket.makeEcho(
                packet, from: Plan.customer(self.tunnel), to: Plan.server(self.tunnel), id: 1, sequence: number)
            _ = clients.send(UnsafeRawBufferPointer(packet), through: 0)
        }
        say("asked \(askedAt) up \(upAt ?? 0) answered \(StockClients.now())")
    }
}

/// Pings an address every few milliseconds until it answers, says when, and ends.
struct Pinger: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "pinger", shouldDisplay: false)

    @Option var tunnel: Int

    func run() throws {
        let descriptor = socket(AF_INET, Int32(SOCK_RAW.rawValue) | Int32(SOCK_NONBLOCK.rawValue), Int32(IPPROTO_ICMP))
        guard descriptor >= 0 else { throw ValidationError("no socket: \(String(cString: strerror(errno)))") }
        say("ready")
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = Plan.server(tunnel).bigEndian
        // IPv4's header is the kernel's; the rest is as it is sent.
        let packet = UnsafeMutableRawBufferPointer.allocate(byteCount: 84, alignment: 8)
        InnerPacket.makeEcho(packet, from: 0, to: 0, id: UInt16(truncatingIfNeeded: getpid()), sequence: 1)
        var answer = [UInt8](repeating: 0, count: 2048)
        while true {
            withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    _ = sendto(
                        descriptor, packet.baseAddress.map { $0 + 20 }, packet.count - 20, 0, $0,
                        socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            poll(&wait, 1, 5)
            while case let count = recv(descriptor, &answer, answer.count, 0), count > 0 {
                let isAnswer = answer.withUnsafeBytes { bytes in
                    InnerPacket.isEchoReply(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
                        && bytes.loadUnaligned(fromByteOffset: 12, as: UInt32.self) == address.sin_addr.s_addr
                }
                if isAnswer {
                    say("answered \(StockClients.now())")
                    return
                }
            }
            if word() == "end" { return }
        }
    }
}
