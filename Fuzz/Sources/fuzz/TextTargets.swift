import ProcessChannel
import TunnelModel

/// mlvpn.conf, mlvpnd.conf and the command line's little languages. What is accepted is valid, and what is written of it
/// reads the same.
func fuzzConf(_ input: inout FuzzInput) {
    let kind = input.byte()
    let bytes = input.remainder()
    let text = String(decoding: bytes, as: UTF8.self)
    switch kind & 7 {
    case 0: _ = try? DaemonConfig.parse(bytes)
    case 1: if let spec = try? LinkSpec(text) { check(!spec.name.text.isEmpty, "a link without a name") }
    case 2:
        if let filter = try? FilterDefinition(spec: text) {
            check((try? FilterDefinition(spec: filter.spec)) == filter, "another filter than \(filter.spec)")
        }
    case 4:
        if let address = IPAddress(text) { check(IPAddress(address.description) == address, "\(address)") }
        if let cidr = try? CIDR(text, field: "") { check((try? CIDR(cidr.description, field: "")) == cidr, "\(cidr)") }
        if let host = try? HostPort(text, field: "") {
            check((try? HostPort(host.description, field: "")) == host, "\(host)")
        }
        if let bind = try? BindAddress(text, field: "") {
            check((try? BindAddress(bind.description, field: "")) == bind, "\(bind)")
        }
    default:
        // Most often the first byte of a file: both '#' and '[' come here.
        fuzzMlvpnConf([kind] + bytes, .strict)
        fuzzMlvpnConf([kind] + bytes, .lenient)
    }
}

private func fuzzMlvpnConf(_ bytes: [UInt8], _ strictness: MlvpnConf.Strictness) {
    guard let name = try? TunnelName("fuzz"),
        let read = try? MlvpnConf.parse(bytes, tunnelName: name, strictness: strictness).definition
    else { return }
    check(read.problems.isEmpty, "accepted with \(read.problems)")
    guard let text = try? MlvpnConf.write(read, for: read.mode) else { return }
    let again = try? MlvpnConf.parse(Array(text.utf8), tunnelName: name, strictness: .strict).definition
    check(again == read, "another tunnel than was written:\n\(text)")
}

/// Messages between the processes: refused, or decoded to what encodes to the same message.
func fuzzMessages(_ input: inout FuzzInput) {
    let channel = input.byte()
    let bytes = input.remainder()
    switch channel % 6 {
    case 0: roundTrip(ControlRequest.self, bytes)
    case 1: roundTrip(ControlNotice.self, bytes)
    case 2: roundTrip(HelperRequest.self, bytes)
    case 3: roundTrip(HelperNotice.self, bytes)
    case 4: roundTrip(EngineRequest.self, bytes)
    default: roundTrip(EngineNotice.self, bytes)
    }
}

private func roundTrip<Message: ChannelMessage>(_ type: Message.Type, _ bytes: [UInt8]) {
    guard let message = try? Message(MessageReader(bytes)) else { return }
    let encoded = message.encoded()
    check((0...3).contains(message.descriptors), "\(message.descriptors) descriptors")
    check((try? Message(MessageReader(encoded))) == message, "another message than was sent")
}
