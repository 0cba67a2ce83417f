import Glibc

/// Executables of this package that were built beside the running one, as `swift test` and `swift run` do.
public enum BuiltProgram {
    /// The path of an executable; an error that says how to build it if it is not there.
    public static func path(_ name: String) throws(RigError) -> String {
        guard let resolved = realpath("/proc/self/exe", nil) else {
            throw .system(operation: "resolve", object: "/proc/self/exe", code: errno)
        }
        defer { free(resolved) }
        let own = String(cString: resolved)
        guard let slash = own.lastIndex(of: "/") else { throw .unexpected("no directory in \(own)") }
        let path = own[...slash] + name
        guard access(String(path), X_OK) == 0 else {
            throw .unexpected("\(path) is missing: build it with 'swift build --product \(name)'")
        }
        return String(path)
    }
}
