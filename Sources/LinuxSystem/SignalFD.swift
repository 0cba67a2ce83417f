import CLinux
import Glibc

/// Signals as events (signalfd(2)). They stay blocked for the process, and for the threads that it starts afterwards.
public struct SignalFD: ~Copyable, Sendable {
    private let descriptor: OwnedDescriptor

    public init(_ signals: [Int32]) throws(SystemError) {
        let raw = try checked(clinux_signalfd(signals, signals.count), "receive signals as events")
        descriptor = OwnedDescriptor(owning: raw)
    }

    public var raw: Int32 { descriptor.raw }

    /// The next signal that came, or nil.
    public borrowing func next() -> ReceivedSignal? {
        var info = signalfd_siginfo()
        guard read(descriptor.raw, &info, MemoryLayout<signalfd_siginfo>.size) == MemoryLayout<signalfd_siginfo>.size
        else { return nil }
        return ReceivedSignal(number: Int32(bitPattern: info.ssi_signo), sender: Int32(bitPattern: info.ssi_pid))
    }
}

public struct ReceivedSignal: Sendable {
    public let number: Int32
    /// The process that sent it, 0 for the kernel.
    public let sender: Int32

    /// `SIGHUP`; a number for one that has no business here.
    public var name: String { signalName(number) }
}

public func signalName(_ number: Int32) -> String {
    switch number {
    case SIGHUP: "SIGHUP"
    case SIGINT: "SIGINT"
    case SIGQUIT: "SIGQUIT"
    case SIGILL: "SIGILL"
    case SIGTRAP: "SIGTRAP"
    case SIGABRT: "SIGABRT"
    case SIGBUS: "SIGBUS"
    case SIGFPE: "SIGFPE"
    case SIGKILL: "SIGKILL"
    case SIGSEGV: "SIGSEGV"
    case SIGPIPE: "SIGPIPE"
    case SIGTERM: "SIGTERM"
    case SIGCHLD: "SIGCHLD"
    case SIGSYS: "SIGSYS"
    default: "signal \(number)"
    }
}
