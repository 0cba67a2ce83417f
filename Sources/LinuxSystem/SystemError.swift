import Glibc

/// A system call that failed: what was being done, to what, why, and where it is known, what to do about it.
public struct SystemError: Error, Equatable, Sendable, CustomStringConvertible {
    /// An `errno` value.
    public var code: Int32
    /// What was tried, in the words of the message: `bind 192.0.2.1:5080`.
    public var action: String
    public var hint: String

    public init(_ code: Int32, _ action: String, hint: String = "") {
        self.code = code
        self.action = action
        self.hint = hint
    }

    /// Of the call that has just failed: errno is read before anything else happens.
    public static func last(_ action: @autoclosure () -> String, hint: String = "") -> SystemError {
        let code = errno
        return SystemError(code, action(), hint: hint)
    }

    public var reason: String { strerror(code).map { String(cString: $0) } ?? "error \(code)" }

    public var description: String { "cannot \(action): \(reason)" + (hint.isEmpty ? "" : "; \(hint)") }
}

/// The result of a C function that returns -errno, or its error.
@inlinable
@discardableResult
public func checked<T: SignedInteger>(_ result: T, _ action: @autoclosure () -> String) throws(SystemError) -> T {
    if result >= 0 { return result }
    throw SystemError(Int32(truncatingIfNeeded: -result), action())
}
