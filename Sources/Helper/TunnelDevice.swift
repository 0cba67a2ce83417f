import Glibc
import LinuxSystem
import ProcessChannel
import TunnelModel

/// A tunnel's TUN or TAP device: made, and where no status command does it, configured. Tries again what fails.
final class TunnelDevice {
    struct Surroundings {
        var loop: EventLoop
        /// Every device of this concentrator is in it.
        var group: UInt32
        /// One that exists and is persistent will do.
        var takesExisting: Bool
        /// The descriptor is borrowed.
        var tell: (_ descriptor: Int32, DeviceFeatures) -> Void
        var report: (Problems.Source, String?) -> Void
    }

    private let surroundings: Surroundings
    private var definition: TunnelDefinition
    /// The device that the supervisor holds.
    private var existing: DeviceIdentity?
    private var isReplacing = false
    private var createFailures = 0
    /// What may be on the device now, in part or whole.
    private var applied: [DeviceConfig] = []
    private var isConfigured = false
    private var backoff = LinkSocket.backoff
    private var timer: EventLoop.TimerID?

    init(_ definition: TunnelDefinition, surroundings: Surroundings) {
        self.definition = definition
        self.surroundings = surroundings
    }

    /// The supervisor holds the device of the definition that this was made with.
    func resume() {
        existing = DeviceIdentity(definition)
        applied = [DeviceConfig(definition)].compactMap { $0 }
    }

    func configure(_ new: TunnelDefinition) {
        definition = new
        isConfigured = false
        if let existing, existing != DeviceIdentity(new) {
            self.existing = nil
            isReplacing = existing.interface == new.interface
            applied = []
        }
        createFailures = 0
        backoff = LinkSocket.backoff
        if let timer { surroundings.loop.cancel(timer) }
        timer = nil
        proceed()
    }

    /// A script has undone what it did, and perhaps what was done here since.
    func configureAgain() {
        isConfigured = false
        if timer == nil { proceed() }
    }

    /// Someone else has deleted it.
    func lost() {
        guard existing != nil else { return }
        surroundings.report(
            .device, "device \(definition.interface) was deleted by someone else; it is made again")
        existing = nil
        applied = []
        configure(definition)
    }

    private func proceed() {
        do throws(SystemError) {
            if existing == nil { try create() }
            surroundings.report(.device, nil)
        } catch {
            createFailures += 1
            if !isReplacing || createFailures > 3 { surroundings.report(.device, "\(error); it is tried again") }
            return tryAgain()
        }
        do throws(SystemError) {
            if !isConfigured { try apply() }
            surroundings.report(.network, nil)
            backoff.succeeded()
        } catch {
            surroundings.report(.network, "\(error); it is tried again")
            tryAgain()
        }
    }

    private func tryAgain() {
        timer = surroundings.loop.after(backoff.failed()) { [weak self] in
            self?.timer = nil
            self?.proceed()
        }
    }

    private func create() throws(SystemError) {
        let name = definition.interface.text
        var device = try TunDevice.create(
            name: name, kind: definition.device == .tap ? .tap : .tun, offloads: definition.offloads.device,
            takesExisting: surroundings.takesExisting)
        var netlink = try Netlink()
        guard let link = try netlink.link(named: name) else { throw SystemError(ENODEV, "find the new device \(name)") }
        // What the group's devices are deleted with at the end does not concern one that was there before.
        try netlink.change(
            link.index, .init(group: device.isNew ? surroundings.group : nil, queueLength: Self.queueLength),
            description: "set up \(name)")
        guard let descriptor = device.takeDescriptor() else { return }
        existing = DeviceIdentity(definition)
        isReplacing = false
        surroundings.tell(
            descriptor.raw,
            DeviceFeatures(
                hasVirtioHeader: device.features.hasVirtioHeader, tcpSegmentation: device.features.tcpSegmentation,
                udpSegmentation: device.features.udpSegmentation))
    }

    private func apply() throws(SystemError) {
        let name = definition.interface.text
        let target = DeviceConfig(definition)
        let steps = DeviceConfig.steps(to: target, from: applied)
        guard !steps.isEmpty else {
            isConfigured = true
            return
        }
        if let target, !applied.contains(target) { applied.append(target) }
        var netlink = try Netlink()
        guard let link = try netlink.link(named: name) else {
            throw SystemError(ENODEV, "configure \(name)", hint: "someone else has renamed or deleted the device")
        }
        // Every step is tried: one route that cannot be set must not cost the others.
        var first: SystemError?
        for step in steps {
            do throws(SystemError) { try netlink.apply(step, to: link.index, named: name) } catch {
                first = first ?? error
            }
        }
        if let first { throw first }
        applied = [target].compactMap { $0 }
        isConfigured = true
    }

    /// Packets that may wait for the engine.
    private static let queueLength: UInt32 = 1000
}
