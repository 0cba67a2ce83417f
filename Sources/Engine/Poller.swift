import LinuxSystem

/// A worker's epoll set, shared with its tunnels. Descriptors have copies with the supervisor, so they are taken out of
/// the set before they are closed.
final class Poller: Sendable {
    let epoll: Epoll

    init() throws(SystemError) { epoll = try Epoll() }

    static let devicePart: UInt64 = 255
    static let wakeToken = UInt64.max

    /// `part` is a link's place, or ``devicePart``.
    static func token(index: Int, part: UInt64) -> UInt64 { UInt64(index) << 8 | part }
}
