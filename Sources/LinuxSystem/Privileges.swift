import CLinux
import Glibc

/// Giving up root for good.
public enum Privileges {
    /// Confines this process: chroot, working directory, groups, user, capabilities, no_new_privs; in this order, each
    /// fatal to the caller if it fails, and checked afterwards. Before any thread starts: a thread of its own keeps
    /// what it has.
    ///
    /// - Parameters:
    ///   - account: looked up by the caller before the chroot.
    ///   - chroot: an empty directory that root owns, or nil to keep the file system in view.
    public static func drop(to account: Account, chroot root: String?) throws(SystemError) {
        guard account.userID != 0 else {
            throw SystemError(EINVAL, "run as \(account.name)", hint: "choose a user other than root")
        }
        guard threadCount() == 1 else {
            throw SystemError(EBUSY, "drop privileges once threads run")
        }
        if let root {
            try checkRoot(root)
            if Glibc.chroot(root) < 0 { throw .last("make \(root) the root directory") }
            if chdir("/") < 0 { throw .last("change into \(root)") }
        }
        try checked(clinux_drop_bounding_capabilities(), "empty the capability bounding set")
        if setgroups(account.groups.count, account.groups) < 0 { throw .last("set the groups of \(account.name)") }
        try checked(clinux_set_group(account.groupID), "change to group \(account.groupID)")
        try checked(clinux_set_user(account.userID), "change to user \(account.name)")
        try checked(clinux_drop_capabilities(), "drop capabilities")
        try checked(clinux_set_no_new_privileges(), "set no_new_privs")
        try verify(account)
    }

    /// What must hold for the rest of this process's life.
    private static func verify(_ account: Account) throws(SystemError) {
        guard clinux_is_identity(account.userID, account.groupID) == 1 else {
            throw SystemError(EPERM, "become \(account.name)")
        }
        guard setuid(0) < 0, seteuid(0) < 0, setgid(0) < 0 || account.groupID == 0 else {
            throw SystemError(EPERM, "give up root: it can be regained")
        }
        guard try checked(clinux_has_capabilities(), "read capabilities") == 0 else {
            throw SystemError(EPERM, "give up every capability")
        }
    }

    /// A chroot that its inhabitant could change would be none.
    private static func checkRoot(_ path: String) throws(SystemError) {
        var status = stat()
        if lstat(path, &status) < 0 { throw .last("examine \(path)") }
        guard status.st_mode & S_IFMT == S_IFDIR, status.st_uid == 0, status.st_mode & (S_IWGRP | S_IWOTH) == 0 else {
            throw SystemError(
                EPERM, "use \(path) as root directory",
                hint:
                    "it must be a directory that root owns and nobody else may write: chown root \(path); chmod 755 \(path)"
            )
        }
    }

    /// 0 where /proc cannot be read.
    private static func threadCount() -> Int {
        guard let directory = opendir("/proc/self/task") else { return 1 }
        defer { closedir(directory) }
        var count = 0
        while let entry = readdir(directory) {
            if entry.pointee.d_name.0 != CChar(UInt8(ascii: ".")) { count += 1 }
        }
        return count
    }
}
