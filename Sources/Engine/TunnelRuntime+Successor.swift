import Glibc
import Logging
import ProcessChannel
import TunnelCore
import TunnelCrypto
import TunnelModel

// A new password is another key, and each end gets it at a time of its own. Until a link's session under the new key is
// up, the one under the old key serves on, but for handshakes of flows that it does not know; for some seconds after, what
// was sent before the peer knew is still taken.

/// A link's session beside the present one, under another key.
struct OtherSession {
    var session: LinkSession
    var cipher: SessionCipher
    /// What the session is called in the state map.
    var identity: UInt64
    /// Whether it is to follow the present session, which has preceded it otherwise.
    var isNext: Bool
    /// When waiting for it, or for what is on its way in it, ends.
    var until: Int64
}

extension TunnelRuntime {
    /// How long an old password serves on where the peer does not get the new one.
    private static let grace = 3600 * second
    /// How long datagrams of an old session may be on their way.
    private static let afterglow = 3 * second

    /// Sessions under `cipher` are to follow those that there are.
    func changeKey(_ cipher: SessionCipher, identity: UInt64, _ now: Moment) {
        forEachLink { link in
            guard let name = names[link] else { return }
            let linkIdentity = Self.identity(of: name, in: identity)
            dropOther(link)
            guard links[link].cipher.fingerprint != cipher.fingerprint else {
                // The present one's password is back.
                links[link].resume.pointee.identity = linkIdentity
                return
            }
            let session = LinkSession(
                settings: links[link].session.pointee.settings,
                flowID: shared.takeFlowID(isServer: definition.mode == .server),
                sequence: UInt64(max(0, now.wallMilliseconds)) * 1000, now: now.nanoseconds)
            let other = UnsafeMutablePointer<OtherSession>.allocate(capacity: 1)
            other.initialize(
                to: OtherSession(
                    session: session, cipher: cipher, identity: linkIdentity, isNext: true,
                    until: now.nanoseconds + Self.grace))
            if let first = peers[link].first {
                let present = links[link].session.pointee.peer
                other.pointee.session.configure(peer: peers[link].contains(present) ? present : first)
            }
            links[link].other = other
            if links[link].session.pointee.isUp {
                log.notice(
                    "link goes on with its old password until its peer has the new one, for an hour at most",
                    metadata: ["tunnel": "\(definition.name)", "link": "\(name)"])
            }
            reviewOther(link, now)
        }
    }

    /// Whether a datagram is for the other session: of a flow that only the preceding one knows, or a handshake that the
    /// present one does not.
    func isForOther(_ state: UnsafeMutablePointer<LinkRuntime>, flow: UInt32, isHandshake: Bool) -> Bool {
        guard let other = state.pointee.other, !state.pointee.session.pointee.knows(flow) else { return false }
        return other.pointee.isNext ? isHandshake : other.pointee.session.knows(flow)
    }

    /// The present session of a link, or the other one, and what seals it.
    func sealedSession(
        _ state: UnsafeMutablePointer<LinkRuntime>, isOther: Bool
    ) -> (UnsafeMutablePointer<LinkSession>, SessionCipher) {
        if isOther, let other = state.pointee.other, let session = other.pointer(to: \.session) {
            return (session, other.pointee.cipher)
        }
        return (state.pointee.session, state.pointee.cipher)
    }

    /// Ends waiting, and lets the next session take over once it is up, or when the present one has ended.
    func reviewOther(_ link: Int, _ now: Moment) {
        guard let other = links[link].other else { return }
        guard other.pointee.isNext else {
            if now.nanoseconds >= other.pointee.until { dropOther(link) }
            return
        }
        if now.nanoseconds >= other.pointee.until { disconnect(link, .reconfigured, now) }
        other.pointee.session.tick(now: now.nanoseconds)
        let hasEnded = !links[link].session.pointee.isUp
        // Why it ended is told before another session has no reason to.
        if hasEnded { noticeState(link, now) }
        if other.pointee.session.isUp || hasEnded { takeOver(link, other, now) }
        guard let other = links[link].other, other.pointee.isNext, links[link].socket >= 0 else { return }
        while let control = other.pointee.session.nextControl(now: now.nanoseconds) {
            guard let session = other.pointer(to: \.session) else { return }
            sendControl(links + link, session, other.pointee.cipher, control, now)
        }
    }

    private func takeOver(_ link: Int, _ other: UnsafeMutablePointer<OtherSession>, _ now: Moment) {
        flush(link, now)
        let state = links + link
        let resume = state.pointee.resume
        other.pointee.session.follow(&resume.pointee.session)
        let former = OtherSession(
            session: resume.pointee.session, cipher: state.pointee.cipher, identity: resume.pointee.identity,
            isNext: false, until: now.nanoseconds + Self.afterglow)
        resume.pointee.session = other.pointee.session
        resume.pointee.identity = other.pointee.identity
        state.pointee.cipher = other.pointee.cipher
        other.pointee = former
        if state.pointee.session.pointee.isUp {
            log.notice(
                "link goes on with its new password",
                metadata: ["tunnel": "\(definition.name)", "link": "\(names[link]?.text ?? "")"])
        }
        // The path is the same: what is known of it stays. Who has another session counts anew, and may be another.
        state.pointee.epoch = state.pointee.session.pointee.epoch
        state.pointee.health = LinkHealth()
        bond.pointee.restartCounting(link)
        if state.pointee.session.pointee.isUp { resequencer?.pointee.restart() }
        restartCopies(link)
    }

    func dropOther(_ link: Int) {
        guard let other = links[link].other else { return }
        shared.releaseFlowID(other.pointee.session.flowID)
        other.deinitialize(count: 1)
        other.deallocate()
        links[link].other = nil
    }
}
