/// One instruction of a classic BPF program, as `struct bpf_insn` of libpcap and `struct sock_filter` of Linux have it.
public struct BPFInstruction: Hashable, Sendable {
    public var code: UInt16
    /// Instructions to skip when the comparison holds.
    public var jt: UInt8
    /// Instructions to skip when it does not.
    public var jf: UInt8
    public var k: UInt32

    public init(code: UInt16, jt: UInt8, jf: UInt8, k: UInt32) {
        self.code = code
        self.jt = jt
        self.jf = jf
        self.k = k
    }

    /// The most instructions of one program, as the kernel has it (BPF_MAXINSNS).
    public static let maximumProgram = 4096
}
