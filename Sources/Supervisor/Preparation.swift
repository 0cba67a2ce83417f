import Glibc
import LinuxSystem
import TunnelModel

/// What must hold before anything is started, and what is made for it.
struct Preparation {
    let engineAccount: Account
    /// An empty directory that root owns: all that the engine sees of the file system.
    let engineRoot: String
    let executables: String

    init(_ settings: SupervisorSettings, needsControl: Bool) throws {
        guard geteuid() == 0 else {
            throw StartFailure("must be started as root: it creates devices, and gives root up for everything else")
        }
        if access("/dev/net/tun", R_OK | W_OK) < 0 {
            throw StartFailure("cannot use /dev/net/tun: \(String(cString: strerror(errno))); run: modprobe tun")
        }
        engineAccount = try Self.account(settings.engineUser, role: "the engine")
        guard engineAccount.userID != 0 else {
            throw StartFailure("user \(settings.engineUser) is root; give the engine a user of its own (--user)")
        }
        executables = try Self.executableDirectory()
        try Self.checkExecutable(executables + "/mlvpn-engine")
        if needsControl { try Self.checkExecutable(executables + "/mlvpn-control") }
        try Directories.makeRoots(settings.runDirectory)
        engineRoot = settings.runDirectory + "/empty"
        try Directories.makeRoots(engineRoot)
        guard try Directories.isEmpty(engineRoot) else {
            throw StartFailure("\(engineRoot) must be empty, it is all that the engine may see; remove what is in it")
        }
        Self.raiseDescriptorLimit()
    }

    static func account(_ name: String, role: String) throws(StartFailure) -> Account {
        guard let account = Account(user: name) else {
            throw StartFailure(
                "user \(name), whom \(role) runs as, does not exist; name another, or run: "
                    + "useradd --system --no-create-home --shell /usr/sbin/nologin \(name)")
        }
        return account
    }

    static func group(_ name: String) throws(StartFailure) -> gid_t {
        guard let group = Account.groupID(named: name) else {
            throw StartFailure("group \(name) does not exist; run: groupadd --system \(name)")
        }
        return group
    }

    /// Where this program lies: the others lie beside it, in a build directory as well as installed.
    private static func executableDirectory() throws -> String {
        let path = try Executable.path()
        guard let slash = path.lastIndex(of: "/") else { throw StartFailure("\(path) is no absolute path") }
        return String(path[..<slash])
    }

    private static func checkExecutable(_ path: String) throws(StartFailure) {
        if access(path, X_OK) < 0 {
            throw StartFailure(
                "\(path) cannot be executed: \(String(cString: strerror(errno))); install it beside this program")
        }
    }

    /// Thousands of tunnels, a few descriptors each, some of them twice while they are on their way.
    private static func raiseDescriptorLimit() {
        let wanted: rlim_t = 1 << 18
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < wanted else {
            return
        }
        var raised = rlimit(rlim_cur: wanted, rlim_max: max(limit.rlim_max, wanted))
        if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised) == 0 { return }
        raised = rlimit(rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max)
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised)
    }
}

/// Directories with the owners they need.
enum Directories {
    /// One that root owns and everyone may pass; made when it is missing.
    static func makeRoots(_ path: String) throws {
        try makeParents(of: path)
        if mkdir(path, 0o755) == 0 {
            chmod(path, 0o755)
            return
        }
        guard errno == EEXIST else { throw SystemError.last("make directory \(path)") }
        let status = try examine(path)
        guard status.st_uid == 0, status.st_mode & (S_IWGRP | S_IWOTH) == 0 else {
            throw StartFailure(
                "directory \(path) can be changed by others than root; run: chown root \(path); chmod 755 \(path)")
        }
    }

    /// One that `account` alone may use; made when it is missing, handed over when root has made it, empty.
    static func makePrivate(_ path: String, for account: Account) throws {
        try makeParents(of: path)
        if mkdir(path, 0o700) < 0 {
            guard errno == EEXIST else { throw SystemError.last("make directory \(path)") }
            let status = try examine(path)
            if status.st_uid == account.userID { return }
            guard status.st_uid == 0, try isEmpty(path) else {
                throw StartFailure(
                    "directory \(path) belongs to another user; run: chown -R \(account.name) \(path)")
            }
        }
        if chown(path, account.userID, account.groupID) < 0 {
            throw SystemError.last("give \(path) to \(account.name)")
        }
        if chmod(path, 0o700) < 0 { throw SystemError.last("set the mode of \(path)") }
    }

    static func isEmpty(_ path: String) throws -> Bool {
        guard let directory = opendir(path) else { throw SystemError.last("read directory \(path)") }
        defer { closedir(directory) }
        var count = 0
        // "." and "..".
        while readdir(directory) != nil { count += 1 }
        return count <= 2
    }

    private static func examine(_ path: String) throws -> stat {
        var status = stat()
        if lstat(path, &status) < 0 { throw SystemError.last("examine \(path)") }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw StartFailure("\(path) is not a directory; move it away or choose another")
        }
        return status
    }

    private static func makeParents(of path: String) throws {
        var parent = ""
        for part in path.split(separator: "/").dropLast() {
            parent += "/\(part)"
            if mkdir(parent, 0o755) == 0 {
                // Whatever the umask: who owns what is made in it must get there.
                chmod(parent, 0o755)
            } else if errno != EEXIST {
                throw SystemError.last("make directory \(parent)")
            }
        }
    }
}
