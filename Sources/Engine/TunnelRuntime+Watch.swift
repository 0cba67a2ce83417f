import CLinux
import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import TunnelCore
import TunnelModel
import TunnelWire

// What an operator may look at while the tunnel runs: captures of its packets, and MLVPN's debug tokens.

extension TunnelRuntime {
    private static let innerBit: UInt64 = 1 << 32

    // MARK: Captures

    var capturesInner: Bool { capturing & Self.innerBit != 0 }

    /// Takes over the descriptor; a capture of the same packets that runs ends.
    func startCapture(link: Int?, descriptor: Int32, limits: CaptureLimits, _ now: Moment) {
        captures.start(Capture(descriptor: descriptor, limits: limits, now: now.nanoseconds), link: link)
        reviewCaptures(now)
    }

    func reviewCaptures(_ now: Moment) {
        if capturing != 0 || captures.deadline != .max { capturing = captures.review(now.nanoseconds) }
    }

    func captureInner(_ packet: UnsafeRawBufferPointer) { captures.inner?.take(packet) }

    func captureReceived(_ link: Int, _ datagram: UnsafeRawBufferPointer, from: SocketAddress, local: clinux_address) {
        guard capturing & 1 << UInt64(link) != 0 else { return }
        captures.outer(link)?.takeDatagram(datagram, from: from, to: ownAddress(link, local))
    }

    /// What one send carries: datagrams of `size` bytes, the last may be shorter.
    func captureSent(_ link: Int, _ bytes: UnsafeRawBufferPointer, size: Int, to: SocketAddress) {
        guard capturing & 1 << UInt64(link) != 0, let capture = captures.outer(link), size > 0 else { return }
        let source = ownAddress(link, links[link].resume.pointee.local)
        var offset = 0
        while offset < bytes.count {
            let part = UnsafeRawBufferPointer(rebasing: bytes[offset..<min(bytes.count, offset + size)])
            capture.takeDatagram(part, from: source, to: to)
            offset += size
        }
    }

    /// The socket's address; where that is the wildcard, the one that the peer uses.
    private func ownAddress(_ link: Int, _ local: clinux_address) -> SocketAddress {
        var bound = SocketAddress.none
        _ = bound.withSystemAddress { clinux_udp_local_address(links[link].socket, $0) }
        if bound.high == 0, bound.low == 0, local.version != 0 {
            bound.high = local.high
            bound.low = local.low
            bound.version = local.version
        }
        return bound
    }

    // MARK: Debug tokens

    /// At most so many lines a second.
    private static let linesPerSecond = 50

    /// One line for a token that is switched on; shown whatever the level is.
    func trace(_ token: DebugTokens, _ text: @autoclosure () -> String, link: Int? = nil) {
        guard tokens.contains(token) else { return }
        let now = Int64(Clock.now())
        if now - traceSince >= second {
            if tracedLines > Self.linesPerSecond {
                log.notice(
                    "\(tracedLines - Self.linesPerSecond) debug lines suppressed",
                    metadata: ["tunnel": "\(definition.name)"])
            }
            traceSince = now
            tracedLines = 0
        }
        tracedLines += 1
        guard tracedLines <= Self.linesPerSecond else { return }
        var metadata: Logger.Metadata = ["tunnel": "\(definition.name)", "token": "\(token.name)"]
        if let link { metadata["link"] = "\(names[link]?.text ?? "")" }
        log.notice("\(text())", metadata: metadata)
    }
}
