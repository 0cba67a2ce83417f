import Glibc
import LinuxSystem
import Logging
import ProcessChannel
import TunnelModel

extension Helper {
    /// Does once, in the process that forks helpers, what each of them will do first, as far as nothing comes of it: what
    /// Swift's runtime and the dynamic linker work out on the way (types, conformances, functions' addresses) then lies in
    /// memory that all helpers share, instead of being worked out and kept by each.
    ///
    /// A failure costs memory and nothing else.
    public static func rehearse(settings: HelperSettings, log: Logger) {
        do {
            var settings = settings
            settings.title = .natural
            settings.isRehearsal = true
            var pair = try Channel.pair()
            guard let near = pair.takeNear(), let far = pair.takeFar() else { return }
            let helper = try Helper(channel: near, settings: settings, log: log)
            let supervisor = Channel(far)
            try helper.watchForMessages()
            let definition = try rehearsedDefinition()
            let tunnel = CompiledTunnel(definition: definition, filterPrograms: [])
            try supervisor.send(HelperRequest.configure(generation: 1, tunnel: tunnel, resume: nil))
            try supervisor.send(HelperRequest.linkState(link: definition.links[0].name, state: .up))
            try supervisor.send(HelperRequest.stop)
            try helper.loop.turn()
            // Sockets come with it, and are closed here.
            while try supervisor.receive(HelperNotice.self) != nil {}
            var netlink = try Netlink()
            _ = try netlink.link(named: "lo")
            _ = helper.fullTitle(definition)
            _ = DeviceConfig.steps(to: DeviceConfig(definition), from: [])
        } catch {
            log.info("helpers will need more memory: \(error)")
        }
    }

    private static func rehearsedDefinition() throws -> TunnelDefinition {
        var definition = TunnelDefinition(
            name: try TunnelName("rehearsal"), mode: .client, interface: try InterfaceName("rehearsal"),
            password: try Password(Array("-".utf8)))
        definition.ip4 = try CIDR("192.0.2.1/30", field: "ip4")
        // A client's sockets need no port of their own.
        for name in ["link1", "link2"] {
            var link = LinkDefinition(name: try LinkName(name))
            link.remote = try HostPort("192.0.2.2:5080", field: "remote")
            definition.links.append(link)
        }
        return definition
    }
}
