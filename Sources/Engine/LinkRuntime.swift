import CLinux
import Glibc
import ProcessChannel
import TunnelCore
import TunnelCrypto
import TunnelModel

/// What the engine keeps of a link in the state map, so that its successor goes on with it.
struct LinkResume {
    static let layout: UInt64 = 0x4c49_4e4b_0000_0000 | UInt64(MemoryLayout<LinkSession>.size)
    var layout: UInt64
    /// Names the tunnel, the link, the key and the role: another value is another session.
    var identity: UInt64
    var session: LinkSession
    /// Where our datagrams are sent from: the address that the peer's came to, where the socket is bound to the wildcard.
    var local: clinux_address
}

/// What the engine keeps of a tunnel in the state map.
struct TunnelResume {
    static let layout: UInt64 = 0x5455_4e4c_0000_0002
    var layout: UInt64
    var identity: UInt64
    var nextDataSequence: UInt64
    /// Numbers packets that are sent several times but not reordered; 0 is none.
    var nextCopySequence: UInt64
}

/// One link at work. Lives at a fixed place in its tunnel; only the tunnel's worker touches it.
struct LinkRuntime {
    let slot: Slot
    /// In the state map.
    let record: UnsafeMutablePointer<StateMap.LinkRecord>
    let resume: UnsafeMutablePointer<LinkResume>
    /// The session in `resume`.
    let session: UnsafeMutablePointer<LinkSession>
    var cipher: SessionCipher
    /// While the password changes.
    var other: UnsafeMutablePointer<OtherSession>?
    /// -1: no socket yet.
    var socket: Int32 = -1
    /// -1, or a server's socket at the address that it is to move to, until its peer has found that.
    var nextSocket: Int32 = -1
    var nextSocketTakesOver = Int64.max
    var run: SendRun
    var usesSegmentation = false
    /// When segmentation that failed is tried again; .max: it has not.
    var segmentationReturn = Int64.max
    var usesGRO = false
    var health = LinkHealth()
    var trains = TrainMeter()
    var isFallback = false
    /// What was last told to others.
    var reported: LinkState = .down
    var epoch: UInt32 = 0
    /// The definition names another server, whose addresses are to come.
    var hasNewRemote = false
    /// A client's choices, and when it last asked for more.
    var unanswered: UInt32 = 0
    var lastResolve: Int64 = 0
    var wasStarted = false

    init(
        slot: Slot, record: UnsafeMutablePointer<StateMap.LinkRecord>, resume: UnsafeMutablePointer<LinkResume>,
        session: UnsafeMutablePointer<LinkSession>, cipher: SessionCipher, run: SendRun
    ) {
        self.slot = slot
        self.record = record
        self.resume = resume
        self.session = session
        self.cipher = cipher
        self.run = run
    }
}

extension SocketAddress {
    /// The same bytes under the name that the C shim has for them.
    @inline(__always)
    mutating func withSystemAddress<R>(_ body: (UnsafeMutablePointer<clinux_address>) -> R) -> R {
        withUnsafeMutableBytes(of: &self) { bytes in
            // 24 bytes: never empty.
            body(bytes.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: clinux_address.self))
        }
    }
}
