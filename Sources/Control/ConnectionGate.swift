import Synchronization

/// How many connections there are at once.
final class ConnectionGate: Sendable {
    let limit: Int
    private let count = Mutex(0)

    /// There is no room for another connection.
    struct Full: Error {}

    init(limit: Int) { self.limit = limit }

    func enter() -> Bool {
        count.withLock { count in
            guard count < limit else { return false }
            count += 1
            return true
        }
    }

    func leave() { count.withLock { $0 -= 1 } }
}
