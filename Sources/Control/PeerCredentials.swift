import Glibc

/// Who is at the other end of a UNIX socket, as the kernel says (unix(7)): at the time of its connect.
struct PeerCredentials: Equatable, Sendable {
    var uid: UInt32
    var gid: UInt32
    /// Supplementary groups.
    var groups: [UInt32]

    init(uid: UInt32, gid: UInt32, groups: [UInt32]) {
        self.uid = uid
        self.gid = gid
        self.groups = groups
    }

    /// Nil when `socket` is no UNIX socket.
    init?(of socket: Int32) {
        // struct ucred: pid, uid, gid.
        var credentials: [UInt32] = [0, 0, 0]
        var size = socklen_t(12)
        guard getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0, size == 12 else { return nil }
        uid = credentials[1]
        gid = credentials[2]
        groups = Self.groups(of: socket)
    }

    /// The superuser, and the members of `adminGroup`.
    func mayAdminister(adminGroup: UInt32?) -> Bool {
        if uid == 0 { return true }
        guard let adminGroup else { return false }
        return gid == adminGroup || groups.contains(adminGroup)
    }

    /// SO_PEERGROUPS, which Glibc's module does not name (asm-generic/socket.h).
    private static let peerGroups: Int32 = 59

    private static func groups(of socket: Int32) -> [UInt32] {
        // A user may be in 65536 groups; who is in more than 1024 is asked again with what the kernel says it needs.
        var capacity = 1024
        for _ in 0..<2 {
            var groups = [UInt32](repeating: 0, count: capacity)
            var size = socklen_t(capacity * 4)
            if getsockopt(socket, SOL_SOCKET, peerGroups, &groups, &size) == 0 {
                return Array(groups.prefix(Int(size) / 4))
            }
            guard errno == ERANGE else { return [] }
            capacity = Int(size) / 4
        }
        return []
    }
}
