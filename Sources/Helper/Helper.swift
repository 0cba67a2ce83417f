import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import TunnelModel

/// What a helper is told once, at its start.
public struct HelperSettings: Sendable {
    /// Status commands run only from this directory; nil: from any that is root's alone.
    public var scriptDirectory: String?
    /// The netlink group of every device of this concentrator.
    public var deviceGroup: UInt32
    /// A persistent device that nobody has open is used, as MLVPN does.
    public var takesExistingDevice: Bool
    public var title: Title
    /// Nothing is made that others could see.
    var isRehearsal = false

    public enum Title: Sendable {
        /// The supervisor's is kept.
        case natural
        /// `mlvpn: NAME [priv]`: another process shows the links.
        case name
        /// `mlvpn: NAME [priv] !3g @adsl`.
        case links
    }

    public init(scriptDirectory: String?, deviceGroup: UInt32, takesExistingDevice: Bool, title: Title) {
        self.takesExistingDevice = takesExistingDevice
        self.scriptDirectory = scriptDirectory
        self.deviceGroup = deviceGroup
        self.title = title
    }
}

/// A tunnel's helper: it does, as root, what the engine may not: the device, the sockets, names and scripts.
///
/// It obeys the supervisor, and ends with it. Nothing that came from the network reaches it but a link's state.
public final class Helper {
    let loop: EventLoop
    private let channel: Channel
    private let settings: HelperSettings
    private var log: Logger
    private let children: Children
    private let resolver: Resolver
    private let signals: SignalFD

    private var watch: EventLoop.WatchID?
    private var generation: UInt64 = 0
    private var definition: TunnelDefinition?
    private var device: TunnelDevice?
    private var links: [LinkName: LinkSocket] = [:]
    private var states: [LinkName: LinkState] = [:]
    private var scripts: ScriptRunner?
    private var problems = Problems()
    private var isStopping = false
    private var code: Int32 = 0

    /// Bounds how long scripts may take when the tunnel ends: one of them, and all.
    static let scriptStopLimit = UInt64.seconds(10)
    public static let stopLimit = UInt64.seconds(60)

    public init(channel: consuming OwnedDescriptor, settings: HelperSettings, log: Logger) throws {
        self.channel = Channel(channel)
        self.settings = settings
        self.log = log
        loop = try EventLoop()
        children = Children(loop: loop)
        resolver = Resolver(loop: loop, children: children)
        signals = try SignalFD([SIGHUP, SIGTERM, SIGINT, SIGQUIT])
    }

    /// Runs until the supervisor says stop, or is gone. Returns the exit code.
    public func run() throws -> Int32 {
        try watchForMessages()
        ProcessTitle.setName("mlvpn-helper")
        _ = try loop.watch(signals.raw) { [weak self] _ in self?.signalled() }
        try loop.run()
        return code
    }

    // MARK: Channel

    func watchForMessages() throws(SystemError) {
        watch = try loop.watch(channel.raw) { [weak self] event in self?.channelReady(event) }
    }

    private func channelReady(_ event: EpollEvent) {
        do throws(ChannelError) {
            if event.isWritable { try channel.flush() }
            while !isStopping, let received = try channel.receive(HelperRequest.self) { obey(received.message) }
            watchChannel()
        } catch {
            fail(error)
        }
    }

    private func send(_ notice: HelperNotice, descriptors: [Int32] = []) {
        do throws(ChannelError) { try channel.send(notice, descriptors: descriptors) } catch { return fail(error) }
        watchChannel()
    }

    private func watchChannel() {
        guard let watch else { return }
        loop.change(watch, to: channel.wantsWrite ? [.read, .write] : .read)
    }

    /// Without a supervisor the devices go away: the scripts undo what they did, and that is all.
    private func fail(_ error: ChannelError) {
        if let watch { loop.remove(watch) }
        watch = nil
        if error != .ended { log.error("the supervisor cannot be understood", metadata: ["error": "\(error)"]) }
        stop(code: error == .ended ? 0 : 1)
    }

    private func signalled() {
        while let signal = signals.next() {
            if watch != nil { send(.signalled(number: signal.number)) }
        }
    }

    // MARK: Requests

    private func obey(_ request: HelperRequest) {
        switch request {
        case .configure(let generation, let tunnel, let resume): configure(generation, tunnel.definition, resume)
        case .linkState(let link, let state):
            // Of a link that a newer definition took away: late, not wrong.
            guard definition?.links.contains(where: { $0.name == link }) == true else { return }
            states[link] = state
            links[link]?.isUp = state.isUp
            scripts?.set(link, isUp: state.isUp)
            showTitle()
        case .resolve(let link): links[link]?.resolveAgain()
        case .deviceLost: device?.lost()
        case .stop: stop(code: 0)
        }
    }

    private func configure(_ generation: UInt64, _ definition: TunnelDefinition, _ resume: HelperResume?) {
        self.generation = generation
        if self.definition == nil {
            log[metadataKey: "tunnel"] = "\(definition.name)"
            start(resume?.previous.definition ?? definition, resume)
        }
        self.definition = definition
        let names = Set(definition.links.map(\.name))
        states = states.filter { names.contains($0.key) }
        for link in problems.keep(only: names) { send(.problem(link: link, text: nil)) }
        for (name, socket) in links where !names.contains(name) {
            socket.end()
            links[name] = nil
        }
        device?.configure(definition)
        for link in definition.links {
            if let socket = links[link.name] {
                socket.configure(link, mode: definition.mode)
            } else {
                let socket = makeSocket(link, definition.mode)
                links[link.name] = socket
                socket.proceed()
            }
        }
        scripts?.configure(definition)
        showTitle()
        send(.configured(generation: generation))
        // There are as many helpers as tunnels, and from here on they mostly sleep.
        if !settings.isRehearsal { ProcessMemory.releaseUnused() }
    }

    /// With the first definition: from nothing, or from what a predecessor left.
    private func start(_ definition: TunnelDefinition, _ resume: HelperResume?) {
        let device = TunnelDevice(
            definition,
            surroundings: .init(
                loop: loop, group: settings.deviceGroup, takesExisting: settings.takesExistingDevice,
                tell: { [weak self] descriptor, features in
                    guard let self else { return }
                    send(.device(generation: generation, features: features), descriptors: [descriptor])
                    self.scripts?.deviceWasMade()
                },
                report: { [weak self] source, text in self?.report(nil, source, text) }))
        let scripts = ScriptRunner(
            loop: loop, children: children, policy: ScriptPolicy(directory: settings.scriptDirectory), log: log,
            report: { [weak self] text in self?.report(nil, .script, text) },
            tell: { [weak self] told in if self?.watch != nil { self?.send(.scripts(told)) } },
            undone: { [weak self] in self?.device?.configureAgain() })
        if !settings.isRehearsal { self.device = device }
        self.scripts = scripts
        guard let resume else { return }
        if resume.hasDevice { device.resume() }
        for socket in resume.sockets {
            guard let link = definition.links.first(where: { $0.name == socket.link }) else { continue }
            let made = makeSocket(link, definition.mode)
            made.resume(isIPv6: socket.isIPv6)
            links[link.name] = made
        }
        for link in resume.linksUp {
            states[link] = .up
            links[link]?.isUp = true
        }
        scripts.resume(ScriptContext(definition), linksUp: resume.linksUp, told: resume.scripts)
    }

    private func makeSocket(_ link: LinkDefinition, _ mode: TunnelMode) -> LinkSocket {
        let name = link.name
        return LinkSocket(
            link, mode: mode,
            surroundings: .init(
                loop: loop,
                resolve: { [resolver] (name, isIPv6, done) throws(SystemError) in
                    try resolver.resolve(name, isIPv6: isIPv6, done: done)
                },
                tell: { [weak self] notice in
                    guard let self else { return }
                    switch notice {
                    case .socket(let descriptor, let isIPv6):
                        send(
                            .socket(generation: generation, link: name, isIPv6: isIPv6), descriptors: [descriptor])
                    case .resolved(let addresses):
                        send(.resolved(generation: generation, link: name, addresses: addresses))
                    }
                },
                report: { [weak self] source, text in self?.report(name, source, text) }))
    }

    private func report(_ link: LinkName?, _ source: Problems.Source, _ text: String?) {
        guard let news = problems.set(link, source, text) else { return }
        var metadata: Logger.Metadata = [:]
        if let link { metadata["link"] = "\(link)" }
        if let text = news {
            log.warning("\(text)", metadata: metadata)
        } else {
            log.notice("that is over now", metadata: metadata)
        }
        if watch != nil { send(.problem(link: link, text: news)) }
    }

    // MARK: The end

    private func stop(code: Int32) {
        guard !isStopping else { return }
        isStopping = true
        self.code = code
        resolver.stop()
        guard let scripts else { return loop.stop() }
        scripts.stop(each: Self.scriptStopLimit, limit: Self.stopLimit) { [weak self] in self?.loop.stop() }
    }

    // MARK: Title

    private func showTitle() {
        guard let definition else { return }
        switch settings.title {
        case .natural: return
        case .name: ProcessTitle.set("mlvpn: \(definition.name) [priv]")
        case .links: ProcessTitle.set(fullTitle(definition))
        }
    }

    func fullTitle(_ definition: TunnelDefinition) -> String {
        let links = definition.links.map { "\((states[$0.name] ?? .down).sign)\($0.name)" }
        return (["mlvpn: \(definition.name) [priv]"] + links).joined(separator: " ")
    }
}
