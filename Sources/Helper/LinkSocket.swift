import Glibc
import LinuxSystem
import ProcessChannel
import TunnelModel

/// What a link needs of root: its socket, and the addresses behind its names. Tries again whatever fails.
final class LinkSocket {
    /// What the link asks of its surroundings.
    struct Surroundings {
        var loop: EventLoop
        /// ``Resolver/resolve(_:isIPv6:done:)``.
        var resolve: Resolve
        /// Sends a notice about the generation in force; the descriptor is borrowed.
        var tell: (LinkNotice) -> Void
        var report: (Problems.Source, String?) -> Void
    }

    typealias Resolve = (
        _ name: String, _ isIPv6: Bool?, _ done: @escaping (Result<[IPAddress], LookupFailure>) -> Void
    ) throws(SystemError) -> Void

    enum LinkNotice {
        case socket(descriptor: Int32, isIPv6: Bool)
        case resolved([SocketAddress])
    }

    private let surroundings: Surroundings
    private var link: LinkDefinition
    private var mode: TunnelMode

    /// What the supervisor holds a socket of.
    private var bound: (bind: BindAddress, isIPv6: Bool)?
    /// A socket of this link was given up just now: the same port may be taken for a moment more.
    private var isReplacing = false
    /// The family to try next, of a peer that does not answer in the other.
    private var nextFamily: Bool?
    /// The peer's name was asked for again because the peer does not answer.
    private var isUnanswered = false
    /// The link is up: its family is the right one.
    var isUp = false {
        didSet {
            if isUp { forgetOtherFamily() }
        }
    }
    private var localName = NameLookup(field: "bind", source: .localName)
    private var remoteName = NameLookup(field: "remote", source: .remoteName)
    /// Whether the remote's addresses, as they are known now, have been told.
    private var hasToldRemote = false
    private var bindBackoff = LinkSocket.backoff
    private var bindFailures = 0
    private var bindTimer: EventLoop.TimerID?

    static let backoff = Backoff(first: .milliseconds(125), limit: .seconds(60))

    private struct NameLookup {
        /// The key that the operator knows it by, and what its problems are told under.
        let field: String
        let source: Problems.Source
        var name: String?
        var addresses: [IPAddress] = []
        var isRunning = false
        var backoff = LinkSocket.backoff
        var timer: EventLoop.TimerID?
        var lastStart: UInt64 = 0
        /// Answers to what was asked before are not taken for answers to this.
        var question = 0

        var needsAnswer: Bool { name != nil && addresses.isEmpty && !isRunning && timer == nil }
    }

    init(_ link: LinkDefinition, mode: TunnelMode, surroundings: Surroundings) {
        self.link = link
        self.mode = mode
        self.surroundings = surroundings
        localName.name = link.bind.host?.name
        remoteName.name = link.remote?.host.name
    }

    /// The supervisor holds a socket of the definition that this was made with.
    func resume(isIPv6: Bool) { bound = (link.bind, isIPv6) }

    func configure(_ new: LinkDefinition, mode: TunnelMode) {
        let old = link
        link = new
        if self.mode != mode { forgetOtherFamily() }
        self.mode = mode
        if let bound, bound.bind != new.bind || (family.map { $0 != bound.isIPv6 } ?? false) { giveUpSocket() }
        if old.bind.host != new.bind.host { restart(\.localName, new.bind.host?.name) }
        if old.remote?.host != new.remote?.host { restart(\.remoteName, new.remote?.host.name) }
        if old.remote != new.remote { hasToldRemote = false }
        if bound == nil {
            bindFailures = 0
            bindBackoff = Self.backoff
            // What was waited for may not be in the way of this definition.
            if let bindTimer { surroundings.loop.cancel(bindTimer) }
            bindTimer = nil
        }
        proceed()
    }

    /// The engine wants the remote's addresses anew: the peer does not answer at those it has.
    func resolveAgain() {
        guard remoteName.name != nil else {
            hasToldRemote = false
            return proceed()
        }
        // A peer that is down asks again and again: not more than one question a second.
        guard !remoteName.isRunning, Clock.now() - remoteName.lastStart >= .seconds(1) else { return }
        isUnanswered = true
        lookUp(\.remoteName)
    }

    /// The link is no longer in the definition.
    func end() {
        for timer in [bindTimer, localName.timer, remoteName.timer].compactMap({ $0 }) {
            surroundings.loop.cancel(timer)
        }
        localName.question += 1
        remoteName.question += 1
    }

    /// Does what can be done now; each part that fails comes back by itself.
    func proceed() {
        if localName.needsAnswer { lookUp(\.localName) }
        if remoteName.needsAnswer { lookUp(\.remoteName) }
        if bound == nil, bindTimer == nil, let address = localAddress { bind(to: address) }
        tellRemote()
    }

    // MARK: Addresses

    /// The address family that the socket must have; nil while it depends on a name not resolved yet.
    private var family: Bool? {
        switch link.bind.host {
        case .address(let address): return address.isIPv6
        case .name: return localName.addresses.first?.isIPv6
        case nil: break
        }
        switch link.remote?.host {
        case .address(let address): return address.isIPv6
        // A server answers whoever asks, so it has no need to wait for its peer's name.
        case .name:
            if let kept = nextFamily ?? bound?.isIPv6, remoteName.addresses.contains(where: { $0.isIPv6 == kept }) {
                return kept
            }
            return remoteName.addresses.first?.isIPv6 ?? (mode == .server ? false : nil)
        case nil: return false
        }
    }

    private var localAddress: SocketAddress? {
        let port = link.bind.port ?? 0
        switch link.bind.host {
        case .address(let address): return SocketAddress(address, port: port)
        case .name: return localName.addresses.first.map { SocketAddress($0, port: port) }
        case nil: return family.map { SocketAddress($0 ? .v6(0, 0) : .v4(0), port: port) }
        }
    }

    private func tellRemote() {
        guard !hasToldRemote, let remote = link.remote, let isIPv6 = bound?.isIPv6 ?? family else { return }
        let addresses: [IPAddress]
        switch remote.host {
        case .address(let address): addresses = [address]
        case .name:
            guard !remoteName.addresses.isEmpty else { return }
            addresses = remoteName.addresses.filter { $0.isIPv6 == isIPv6 }
            guard !addresses.isEmpty else {
                surroundings.report(
                    .remoteName,
                    "remote: \(remote.host) has no \(isIPv6 ? "IPv6" : "IPv4") address, as the link's bind needs")
                return
            }
        }
        hasToldRemote = true
        surroundings.tell(.resolved(addresses.map { SocketAddress($0, port: remote.port) }))
    }

    // MARK: Names

    private func restart(_ lookup: ReferenceWritableKeyPath<LinkSocket, NameLookup>, _ name: String?) {
        if let timer = self[keyPath: lookup].timer { surroundings.loop.cancel(timer) }
        let old = self[keyPath: lookup]
        self[keyPath: lookup] = NameLookup(field: old.field, source: old.source)
        self[keyPath: lookup].name = name
        self[keyPath: lookup].question = old.question + 1
        surroundings.report(old.source, nil)
        if lookup == \.remoteName { forgetOtherFamily() }
    }

    private func forgetOtherFamily() {
        nextFamily = nil
        isUnanswered = false
    }

    /// A family that leads nowhere is left, if the peer's name has an address of the other.
    private func leaveFamily(isIPv6: Bool) {
        guard link.bind.host == nil, mode == .client,
            remoteName.addresses.contains(where: { $0.isIPv6 != isIPv6 })
        else { return }
        nextFamily = !isIPv6
        hasToldRemote = false
    }

    private func lookUp(_ lookup: ReferenceWritableKeyPath<LinkSocket, NameLookup>) {
        guard let name = self[keyPath: lookup].name, !self[keyPath: lookup].isRunning else { return }
        if let timer = self[keyPath: lookup].timer { surroundings.loop.cancel(timer) }
        self[keyPath: lookup].timer = nil
        self[keyPath: lookup].isRunning = true
        self[keyPath: lookup].lastStart = Clock.now()
        let question = self[keyPath: lookup].question
        // The remote must be of the family that `bind` gives the socket; without that, the socket follows the remote.
        let wanted: Bool? =
            switch link.bind.host {
            case .address(let address) where lookup == \.remoteName: address.isIPv6
            case .name where lookup == \.remoteName: bound?.isIPv6
            default: nil
            }
        do {
            try surroundings.resolve(name, wanted) { [weak self] result in
                guard let self, self[keyPath: lookup].question == question else { return }
                answered(lookup, name, result)
            }
        } catch {
            answered(lookup, name, .failure(.crashed(.exited(1))))
        }
    }

    private func answered(
        _ lookup: ReferenceWritableKeyPath<LinkSocket, NameLookup>, _ name: String,
        _ result: Result<[IPAddress], LookupFailure>
    ) {
        self[keyPath: lookup].isRunning = false
        let source = self[keyPath: lookup].source
        switch result {
        case .success(let addresses):
            if lookup != \.remoteName || mayMove(to: addresses) { self[keyPath: lookup].addresses = addresses }
            self[keyPath: lookup].backoff.succeeded()
            surroundings.report(source, nil)
            if lookup == \.remoteName {
                hasToldRemote = false
                if link.bind.host == nil, let bound {
                    if isUnanswered, !isUp { leaveFamily(isIPv6: bound.isIPv6) }
                    isUnanswered = false
                    if family != bound.isIPv6 { giveUpSocket() }
                }
            }
            proceed()
        case .failure(let failure):
            let field = self[keyPath: lookup].field
            surroundings.report(source, "\(field): cannot resolve \(quoted(name)): \(failure)")
            let delay = self[keyPath: lookup].backoff.failed()
            self[keyPath: lookup].timer = surroundings.loop.after(delay) { [weak self] in
                self?.lookUp(lookup)
            }
        }
    }

    /// A link that is up does not leave for an answer that has only the other family: half of it may have come too late.
    private func mayMove(to addresses: [IPAddress]) -> Bool {
        guard isUp, link.bind.host == nil, !remoteName.addresses.isEmpty, let bound else { return true }
        return addresses.contains { $0.isIPv6 == bound.isIPv6 }
    }

    // MARK: The socket

    private func giveUpSocket() {
        bound = nil
        isReplacing = true
        // Addresses of another family may be wanted now.
        hasToldRemote = false
    }

    private func bind(to address: SocketAddress) {
        do throws(SystemError) {
            let description = link.bind.port == nil && link.bind.host == nil ? "any port" : "\(address)"
            let socket = try UDPSocket.open(bind: address.system, description: description)
            bound = (link.bind, address.isIPv6)
            nextFamily = nil
            bindBackoff.succeeded()
            bindFailures = 0
            isReplacing = false
            surroundings.report(.socket, nil)
            surroundings.tell(.socket(descriptor: socket.raw, isIPv6: address.isIPv6))
        } catch {
            bindFailures += 1
            if !isUp, !isReplacing || bindFailures > 3 { leaveFamily(isIPv6: address.isIPv6) }
            // The name may have another address by now.
            if error.code == EADDRNOTAVAIL, localName.name != nil { localName.addresses = [] }
            // While the engine lets go of the old socket, the new one cannot be had: no problem worth a word.
            if !isReplacing || bindFailures > 3 {
                surroundings.report(.socket, "bind: \(Self.advised(error, address))")
            }
            bindTimer = surroundings.loop.after(bindBackoff.failed()) { [weak self] in
                self?.bindTimer = nil
                self?.proceed()
            }
        }
    }

    private static func advised(_ error: SystemError, _ address: SocketAddress) -> String {
        var error = error
        switch error.code {
        case EADDRINUSE: error.hint = "see who has it: ss -lunp sport = :\(address.port); it is tried again"
        case EADDRNOTAVAIL: error.hint = "no interface has this address; it is tried again"
        default: break
        }
        return error.description
    }
}

extension Host {
    /// Nil for an address.
    fileprivate var name: String? { if case .name(let name) = self { name } else { nil } }
}
