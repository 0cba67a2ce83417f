import Glibc
import Testing

@testable import LinuxSystem

private func isOpen(_ fd: Int32) -> Bool { fcntl(fd, F_GETFD) >= 0 }

private func openNull() -> Int32 { open("/dev/null", O_RDWR | O_CLOEXEC) }

struct DescriptorTests {
    @Test func anErrorSaysWhatFailedWhyAndWhatToDo() {
        let error = SystemError(ENOENT, "open /nonexistent", hint: "create it")
        #expect(error.description == "cannot open /nonexistent: No such file or directory; create it")
        #expect(SystemError(EPERM, "bind").description == "cannot bind: Operation not permitted")
    }

    @Test func usersAreCalledByTheirNames() {
        #expect(Account.name(of: 0) == "root")
        #expect(Account.name(of: 4_000_000_000) == nil)
    }

    @Test func aNegativeResultOfTheShimBecomesAnError() throws {
        #expect(throws: SystemError(EAGAIN, "read")) { try checked(-EAGAIN, "read") }
        #expect(try checked(7, "read") == 7)
    }

    @Test func aDescriptorIsClosedWithItsOwnerAndNotAfterItsRelease() {
        let first = openNull()
        do { _ = OwnedDescriptor(owning: first) }
        #expect(!isOpen(first))
        let second = openNull()
        let released = OwnedDescriptor(owning: second).release()
        #expect(released == second && isOpen(second))
        close(second)
    }

    @Test func aDuplicateOutlivesItsOriginal() throws {
        let original = OwnedDescriptor(owning: openNull())
        let copy = try original.duplicate()
        let raw = original.release()
        close(raw)
        #expect(isOpen(copy.raw))
        #expect(fcntl(copy.raw, F_GETFD) & FD_CLOEXEC != 0)
        #expect(throws: SystemError.self) { _ = try OwnedDescriptor(duplicating: -1) }
    }

    @Test func whatIsNotTakenFromAListIsClosed() {
        let raw = [openNull(), openNull(), openNull()]
        do {
            var list = DescriptorList(owning: raw)
            #expect(list.count == 3)
            let first = list.take()?.release()
            #expect(first == raw[0])
            close(raw[0])
            #expect(list.count == 2 && list.raw == Array(raw.dropFirst()))
        }
        for fd in raw { #expect(!isOpen(fd)) }
    }

    @Test func sharedMemoryIsSealedAndItsReadOnlyCopyCannotBeMappedForWriting() throws {
        let file = try MemoryFile.create(name: "test", size: 8192)
        #expect(ftruncate(file.raw, 4096) < 0)
        #expect(ftruncate(file.raw, 16384) < 0)
        let writable = try MemoryFile.map(file.raw, size: 8192, writable: true)
        let copy = try MemoryFile.readOnlyCopy(of: file.raw)
        #expect(throws: SystemError.self) { try MemoryFile.map(copy.raw, size: 8192, writable: true) }
        let readable = try MemoryFile.map(copy.raw, size: 8192, writable: false)
        writable.storeBytes(of: 0x1234, toByteOffset: 4096, as: UInt32.self)
        #expect(readable.load(fromByteOffset: 4096, as: UInt32.self) == 0x1234)
        #expect(throws: SystemError.self) { try MemoryFile.map(file.raw, size: 8193, writable: true) }
        var status = stat()
        #expect(fstat(file.raw, &status) == 0 && status.st_mode & 0o777 == 0o600)
    }

    @Test func privilegesAreNotDroppedForRootNorOnceThreadsRun() {
        let root = Account(name: "root", userID: 0, groupID: 0)
        #expect(throws: SystemError.self) { try Privileges.drop(to: root, chroot: nil) }
        // The test's own process has threads.
        let nobody = Account(name: "nobody", userID: 65534, groupID: 65534)
        let error = #expect(throws: SystemError.self) { try Privileges.drop(to: nobody, chroot: nil) }
        #expect(error?.code == EBUSY)
        #expect(getuid() == geteuid())
    }

    @Test func accountsAreFoundByNameOnly() {
        #expect(Account(user: "root")?.userID == 0)
        #expect(Account(user: "no-such-user-here") == nil)
        #expect(Account.groupID(named: "root") == 0)
        #expect(Account.groupID(named: "no-such-group-here") == nil)
    }

    @Test func delaysDoubleUpToTheirLimitAndStartAnewAfterSuccess() {
        var backoff = Backoff(first: 10, limit: 35)
        #expect((0..<4).map { _ in backoff.failed() } == [10, 20, 35, 35])
        backoff.succeeded()
        #expect(backoff.failed() == 10)
    }
}
