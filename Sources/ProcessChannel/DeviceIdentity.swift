import TunnelModel

/// What makes another device of a tunnel's; every other change is made to the device that exists.
public struct DeviceIdentity: Equatable, Sendable {
    public var interface: InterfaceName
    public var kind: DeviceKind
    public var offloads: Bool

    public init(_ definition: TunnelDefinition) {
        interface = definition.interface
        kind = definition.device
        offloads = definition.offloads.device
    }
}
