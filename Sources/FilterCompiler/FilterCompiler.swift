import CPcap
import TunnelModel

/// Compiles a filter's expression (pcap-filter(7)) to a classic BPF program, once, where the definition is checked: the
/// processes that run the program need no libpcap.
///
/// libpcap resolves names while it compiles. Names of ports, protocols and networks come from local files; the name of a
/// host would be asked of the DNS, which blocks for as long as that takes and freezes an address that may change. So host
/// names are refused before libpcap sees them (``HostNames``).
public enum FilterCompiler {
    /// What a program returns for a packet that matches, at most: more than any packet has.
    static let snapshotLength: Int32 = 65535

    /// The program for packets of `device`: IP packets for TUN, Ethernet frames for TAP. Not 0: the packet matches.
    ///
    /// Safe on any thread (libpcap from 1.8).
    public static func compile(
        expression: String, device: DeviceKind
    ) throws(DefinitionError) -> [BPFInstruction] {
        try check(expression)
        let linkType = device == .tun ? DLT_RAW : DLT_EN10MB
        guard let handle = pcap_open_dead(linkType, snapshotLength) else {
            throw DefinitionError(field, "libpcap cannot be set up: out of memory")
        }
        defer { pcap_close(handle) }
        var program = bpf_program()
        guard pcap_compile(handle, &program, expression, 1, bpf_u_int32(PCAP_NETMASK_UNKNOWN)) == 0 else {
            throw DefinitionError(field, "\(quoted(expression)): \(reason(handle)) (see pcap-filter(7))")
        }
        defer { pcap_freecode(&program) }
        let instructions = UnsafeBufferPointer(start: program.bf_insns, count: Int(program.bf_len))
        guard (1...BPFInstruction.maximumProgram).contains(instructions.count) else {
            throw DefinitionError(
                field,
                "\(quoted(expression)) makes \(instructions.count) instructions, more than the "
                    + "\(BPFInstruction.maximumProgram) that a packet may cost; make it simpler")
        }
        if instructions.contains(where: isAncillary) {
            throw DefinitionError(
                field,
                "\(quoted(expression)) asks for what a packet does not hold (inbound, outbound, ifindex); a filter sees "
                    + "the bytes of what is sent into the tunnel only")
        }
        return instructions.map { BPFInstruction(code: $0.code, jt: $0.jt, jf: $0.jf, k: $0.k) }
    }

    private static let field = "filter"

    private static func check(_ expression: String) throws(DefinitionError) {
        if expression.utf8.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0a || $0 == 0x0d }) {
            // libpcap would take it to match everything.
            throw DefinitionError(field, "the expression is empty; to match every packet, write: len >= 0")
        }
        if expression.utf8.count > FilterDefinition.maximumExpressionBytes {
            throw DefinitionError(
                field, "the expression is longer than \(FilterDefinition.maximumExpressionBytes) bytes")
        }
        if expression.utf8.contains(where: { $0 == 0 || $0 >= 0x80 }) {
            throw DefinitionError(field, "\(quoted(expression)) holds bytes that are not ASCII")
        }
        if let name = HostNames.first(in: expression) {
            throw DefinitionError(
                field,
                "\(quoted(expression)): \(quoted(name)) would be looked up as a host's name; give its address instead, "
                    + "or, if it is a port or a protocol, write 'port' or 'proto' right before it")
        }
    }

    /// BPF_LD | BPF_ABS at a negative offset: what only the kernel has, beside the packet (SKF_AD_OFF, bpf(4)).
    private static func isAncillary(_ instruction: bpf_insn) -> Bool {
        instruction.code & 0xe7 == 0x20 && Int32(bitPattern: instruction.k) < 0
    }

    private static func reason(_ handle: OpaquePointer) -> String {
        guard let text = pcap_geterr(handle) else { return "does not compile" }
        return String(cString: text)
    }
}
