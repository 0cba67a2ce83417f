import Glibc

/// Reading small files whole.
public enum ConfigurationFile {
    /// Larger ones are refused: no configuration has that size.
    public static let maximumBytes = 1 << 20

    public enum Trust: Sendable {
        /// Nobody but root may be able to change it.
        case rootOwned
        /// Nobody but root may even read it.
        case secret
    }

    /// The bytes of a regular file.
    public static func read(_ path: String, trust: Trust) throws(SystemError) -> [UInt8] {
        // Without waiting: a FIFO would otherwise hang us.
        let raw = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        if raw < 0 { throw .last("open \(path)") }
        let file = OwnedDescriptor(owning: raw)
        var status = stat()
        if fstat(file.raw, &status) < 0 { throw .last("examine \(path)") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw SystemError(EINVAL, "read \(path)", hint: "it is not a file")
        }
        guard status.st_uid == 0 else {
            throw SystemError(EPERM, "use \(path)", hint: "it is not owned by root; run: chown root \(path)")
        }
        switch trust {
        case .rootOwned:
            guard status.st_mode & (S_IWGRP | S_IWOTH) == 0 else {
                throw SystemError(
                    EPERM, "use \(path)", hint: "group or others may change it; run: chmod go-w \(path)")
            }
        case .secret:
            guard status.st_mode & (S_IRWXG | S_IRWXO) == 0 else {
                throw SystemError(
                    EPERM, "use \(path)",
                    hint: "group or others have access, and it holds a password; run: chmod 600 \(path)")
            }
        }
        var bytes = [UInt8](repeating: 0, count: maximumBytes + 1)
        var count = 0
        while count < bytes.count {
            let free = bytes.count - count
            let got = bytes.withUnsafeMutableBytes { buffer in
                Glibc.read(file.raw, buffer.baseAddress.map { $0 + count }, free)
            }
            if got < 0 {
                if errno == EINTR { continue }
                throw .last("read \(path)")
            }
            if got == 0 { break }
            count += got
        }
        guard count <= maximumBytes else { throw SystemError(EFBIG, "read \(path)", hint: "it is larger than 1 MiB") }
        return Array(bytes.prefix(count))
    }

    public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// The same file, whatever the working directory becomes.
    public static func absolute(_ path: String) -> String {
        if path.hasPrefix("/") { return path }
        guard let directory = getcwd(nil, 0) else { return path }
        defer { free(directory) }
        return String(cString: directory) + "/" + path
    }
}
