import Glibc
import LinuxSystem
import ProcessChannel
import Synchronization

/// What comes from the processes around.
enum SupervisorEvent: Sendable {
    case notice(ControlNotice)
    /// The engine has written events to the state map.
    case engineEvents
    /// The supervisor is gone, or the channel is of no more use: this process ends.
    case ended(String)
}

/// The channel to the supervisor. One thread owns it and waits for it; everyone may send.
final class SupervisorLink: Sendable {
    /// What the supervisor gives at the start.
    struct Welcome: ~Copyable {
        var link: SupervisorLink
        var state: MappedState
        /// Bound and listening.
        var listener: OwnedDescriptor
    }

    let events: AsyncStream<SupervisorEvent>
    private let continuation: AsyncStream<SupervisorEvent>.Continuation
    private let outgoing = Mutex<[OutgoingRequest]>([])
    private let wake: EventFD
    private let engineEvents: EventFD
    private let signals: SignalFD

    /// Waits for the supervisor's welcome, at most 10 seconds.
    ///
    /// - Parameter signals: passed on to the supervisor.
    static func connect(_ descriptor: consuming OwnedDescriptor, signals: consuming SignalFD) throws -> Welcome {
        let channel = Channel(descriptor)
        while true {
            var poll = pollfd(fd: channel.raw, events: Int16(POLLIN), revents: 0)
            let ready = Glibc.poll(&poll, 1, 10_000)
            if ready == 0 {
                throw ControlError("the supervisor said nothing for 10 seconds; mlvpnd starts this program")
            }
            if ready < 0 && errno != EINTR {
                throw ControlError("wait for the supervisor: \(String(cString: strerror(errno)))")
            }
            guard var received = try channel.receive(ControlNotice.self) else { continue }
            guard received.message == .welcome, let map = received.descriptors.take(),
                let listener = received.descriptors.take(), let events = received.descriptors.take()
            else { throw ControlError("the supervisor's first message is no welcome") }
            let base = try MemoryFile.map(map.raw, size: StateMap.size, writable: false)
            let link = SupervisorLink(
                engineEvents: EventFD(adopting: events), wake: try EventFD(), signals: signals)
            try link.start(channel)
            return Welcome(link: link, state: MappedState(base: base), listener: listener)
        }
    }

    private init(engineEvents: consuming EventFD, wake: consuming EventFD, signals: consuming SignalFD) {
        self.engineEvents = engineEvents
        self.signals = signals
        self.wake = wake
        (events, continuation) = AsyncStream.makeStream()
    }

    /// Sends, in order, from any thread; descriptors are closed here once they are on their way.
    func send(_ request: ControlRequest, passing descriptors: [Descriptor]) {
        outgoing.withLock { $0.append(OutgoingRequest(request: request, descriptors: descriptors)) }
        wake.signal()
    }

    private func start(_ channel: Channel) throws {
        let argument = Unmanaged.passRetained(ThreadStart(link: self, channel: channel))
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
                start.link.run(start.channel)
                return nil
            }, argument.toOpaque())
        guard result == 0 else {
            argument.release()
            throw ControlError("start the supervisor's thread: \(String(cString: strerror(result)))")
        }
        pthread_detach(thread)
    }

    /// The thread: sends what waits, hands on what comes.
    private func run(_ channel: Channel) {
        do {
            while true {
                for outgoing in outgoing.withLock({ queue in
                    defer { queue = [] }
                    return queue
                }) {
                    var descriptors = DescriptorList()
                    for descriptor in outgoing.descriptors {
                        if let owned = descriptor.take() { descriptors.append(owned) }
                    }
                    do {
                        try channel.send(outgoing.request, descriptors: descriptors.raw)
                    } catch ChannelError.tooLarge {
                        // It concerns one tunnel; the channel serves the others.
                        guard case .apply(let id, _, _) = outgoing.request else { continue }
                        let text = "the definition is too large to be run; use fewer or simpler filters and routes"
                        continuation.yield(.notice(.problem(id: id, link: nil, text: text)))
                    }
                }
                try channel.flush()
                var polls = [
                    pollfd(fd: channel.raw, events: Int16(POLLIN | (channel.wantsWrite ? POLLOUT : 0)), revents: 0),
                    pollfd(fd: engineEvents.raw, events: Int16(POLLIN), revents: 0),
                    pollfd(fd: wake.raw, events: Int16(POLLIN), revents: 0),
                    pollfd(fd: signals.raw, events: Int16(POLLIN), revents: 0),
                ]
                _ = poll(&polls, nfds_t(polls.count), -1)
                while let signal = signals.next() {
                    try channel.send(ControlRequest.signalled(number: signal.number))
                }
                wake.drain()
                while let received = try channel.receive(ControlNotice.self) {
                    continuation.yield(.notice(received.message))
                }
                // After the notices: they say whose events these are.
                if engineEvents.drain() > 0 { continuation.yield(.engineEvents) }
            }
        } catch {
            continuation.yield(.ended("\(error)"))
            continuation.finish()
        }
    }
}

private struct OutgoingRequest: Sendable {
    var request: ControlRequest
    var descriptors: [Descriptor]
}

/// Hands the channel over to its thread; only that one uses it from then on.
private final class ThreadStart {
    let link: SupervisorLink
    let channel: Channel

    init(link: SupervisorLink, channel: Channel) {
        self.link = link
        self.channel = channel
    }
}

/// What keeps control from starting or going on.
struct ControlError: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}
