import CTestKit
import Glibc

/// Runs `body` on a thread of its own in a network namespace of its own, which ends with the thread and the sockets that
/// it opened. For tests of what a process does to its network, without another process.
public func inNewNetworkNamespace<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) throws -> Value {
    let task = ThreadTask {
        let code = network_namespace_enter_new()
        guard code == 0 else { throw RigError.system(operation: "make", object: "a network namespace", code: code) }
        return try body()
    }
    var thread = pthread_t()
    let code = pthread_create(
        &thread, nil,
        { argument in
            guard let argument else { return nil }
            Unmanaged<Runnable>.fromOpaque(argument).takeRetainedValue().run()
            return nil
        }, Unmanaged<Runnable>.passRetained(task).toOpaque())
    guard code == 0 else { throw RigError.system(operation: "start", object: "a thread", code: code) }
    pthread_join(thread, nil)
    guard let result = task.result else { throw RigError.unexpected("the thread ended without a result") }
    return try result.get()
}

/// What a thread is started with; a class, since it passes through C as a pointer.
private class Runnable {
    func run() {}
}

private final class ThreadTask<Value>: Runnable {
    private let body: () throws -> Value
    private(set) var result: Result<Value, any Error>?

    init(_ body: @escaping () throws -> Value) { self.body = body }

    override func run() { result = Result { try body() } }
}
