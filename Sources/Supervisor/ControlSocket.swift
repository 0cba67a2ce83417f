import CLinux
import Glibc
import LinuxSystem

/// The socket that mlvpn-admin connects to: 0660, root and the administrators' group. It outlives every control process.
enum ControlSocket {
    static func listen(path: String, group: gid_t) throws -> OwnedDescriptor {
        let socket = try make()
        if clinux_unix_connect(socket.raw, path) == 0 {
            throw StartFailure("\(path) is served by another process; stop it, or choose another --run-dir")
        }
        unlink(path)
        // Not open to anyone for a moment either.
        let mask = umask(0o177)
        let result = clinux_unix_bind(socket.raw, path)
        umask(mask)
        try checked(result, "create socket \(path)")
        if chown(path, 0, group) < 0 { throw SystemError.last("set the group of \(path)") }
        if chmod(path, 0o660) < 0 { throw SystemError.last("set the mode of \(path)") }
        if Glibc.listen(socket.raw, 128) < 0 { throw SystemError.last("listen on \(path)") }
        return socket
    }

    /// One that nobody can reach, where there is nothing to administer.
    static func unreachable() throws -> OwnedDescriptor { try make() }

    private static func make() throws -> OwnedDescriptor {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let raw = socket(AF_UNIX, type, 0)
        if raw < 0 { throw SystemError.last("create a socket") }
        return OwnedDescriptor(owning: raw)
    }
}
