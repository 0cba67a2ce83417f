import Glibc

/// A user of the system, with its groups.
public struct Account: Equatable, Sendable {
    public var name: String
    public var userID: uid_t
    /// The primary group.
    public var groupID: gid_t
    /// Supplementary groups.
    public var groups: [gid_t]
    public var home: String

    public init(name: String, userID: uid_t, groupID: gid_t, groups: [gid_t] = [], home: String = "/") {
        self.name = name
        self.userID = userID
        self.groupID = groupID
        self.groups = groups
        self.home = home
    }

    /// Nil when there is no such user. Reads the user database: before chroot, and while nothing else does.
    public init?(user name: String) {
        guard let entry = getpwnam(name) else { return nil }
        self.init(
            name: name, userID: entry.pointee.pw_uid, groupID: entry.pointee.pw_gid,
            home: entry.pointee.pw_dir.map { String(cString: $0) } ?? "/")
    }

    /// The name of a user; nil when there is none with this number. From any thread.
    public static func name(of userID: uid_t) -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16384) { buffer in
            guard let base = buffer.baseAddress else { return nil }
            var entry = passwd()
            var found: UnsafeMutablePointer<passwd>?
            guard getpwuid_r(userID, &entry, base, buffer.count, &found) == 0, found != nil else { return nil }
            return entry.pw_name.map { String(cString: $0) }
        }
    }

    /// The number of a group, nil when there is no such group.
    public static func groupID(named name: String) -> gid_t? { getgrnam(name)?.pointee.gr_gid }
}
