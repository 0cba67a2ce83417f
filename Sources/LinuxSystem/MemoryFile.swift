import CLinux
import Glibc

/// Memory that processes share through a descriptor (memfd_create(2)); its size is sealed.
public enum MemoryFile {
    /// All zero. Pages never touched cost nothing.
    public static func create(name: String, size: Int) throws(SystemError) -> OwnedDescriptor {
        OwnedDescriptor(owning: try checked(clinux_memory_file(name, size), "create \(size) bytes of shared memory"))
    }

    /// A descriptor of the same memory that cannot be mapped for writing. Only the file's owner can make it.
    public static func readOnlyCopy(of fd: Int32) throws(SystemError) -> OwnedDescriptor {
        let raw = open("/proc/self/fd/\(fd)", O_RDONLY | O_CLOEXEC)
        if raw < 0 { throw .last("open shared memory read-only", hint: "/proc must be mounted") }
        return OwnedDescriptor(owning: raw)
    }

    /// Maps `size` bytes for the rest of the process's life. `fd` may be closed afterwards.
    public static func map(_ fd: Int32, size: Int, writable: Bool) throws(SystemError) -> UnsafeMutableRawPointer {
        var status = stat()
        if fstat(fd, &status) < 0 { throw .last("examine shared memory") }
        // Touching what lies behind the end would be a SIGBUS.
        guard status.st_size >= off_t(size) else { throw SystemError(EINVAL, "map \(size) bytes of \(status.st_size)") }
        let address = mmap(nil, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0)
        guard let address, address != MAP_FAILED else { throw .last("map \(size) bytes of shared memory") }
        return address
    }
}
