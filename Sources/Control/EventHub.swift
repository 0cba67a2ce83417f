import Store
import Synchronization

/// Hands changes of state, as they are recorded, to whoever follows them.
final class EventHub: Sendable {
    private let followers = Mutex(Followers())

    private struct Followers {
        var next = 0
        var all: [Int: AsyncStream<RecordedChange>.Continuation] = [:]
    }

    /// Events that wait for a slow follower; beyond, it loses the oldest.
    static let backlog = 1024
    static let maximumFollowers = 64

    /// Nil when there are too many already. The stream ends with its consumer's task.
    func follow() -> AsyncStream<RecordedChange>? {
        followers.withLock { followers in
            guard followers.all.count < Self.maximumFollowers else { return nil }
            let number = followers.next
            followers.next += 1
            let (stream, continuation) = AsyncStream.makeStream(
                of: RecordedChange.self, bufferingPolicy: .bufferingNewest(Self.backlog))
            continuation.onTermination = { [weak self] _ in
                self?.followers.withLock { _ = $0.all.removeValue(forKey: number) }
            }
            followers.all[number] = continuation
            return stream
        }
    }

    var hasFollowers: Bool { followers.withLock { !$0.all.isEmpty } }

    func publish(_ changes: [RecordedChange]) {
        let all = followers.withLock { Array($0.all.values) }
        for change in changes {
            for follower in all { follower.yield(change) }
        }
    }

    /// Ends every stream.
    func finish() {
        let all = followers.withLock { Array($0.all.values) }
        for follower in all { follower.finish() }
    }
}
