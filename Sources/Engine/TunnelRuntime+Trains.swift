import Glibc
import ProcessChannel
import TunnelCore
import TunnelWire

// What is sent to find out what a link carries and loses, before or between what it is for: packet trains, and small
// datagrams that the peer counts (wire-v1.md, Extensions).

extension TunnelRuntime {
    /// Where many tunnels begin at once, the trains of one follow those of another.
    static let trainDistance = 30 * millisecond

    /// Sends the trains and small datagrams that are due.
    func sendTrains(_ now: Moment) {
        guard bond.pointee.areTrainsDue(now: now.nanoseconds) else { return }
        // Of DATA's size: what the links carry at most.
        let count = min(max(mtu, TrainPlace.encodedSize), Datagram.maximumPlaintext)
        forEachLink { link in
            let size = count + Datagram.overhead
            if let train = bond.pointee.nextTrain(link: link, size: size, now: now.nanoseconds) {
                trace(.protocol, "sends a train of \(train.count) datagrams", link: link)
                sendKeepalives(train.count, bodyCount: count, link, now) { place in
                    TrainPlace(train: train.number, place: UInt8(place), count: UInt8(train.count))
                        .write(to: controlBody)
                }
            }
            let pings = bond.pointee.nextPings(link: link, now: now.nanoseconds)
            sendKeepalives(pings, bodyCount: 0, link, now) { _ in }
        }
    }

    /// Sends KEEPALIVEs at once, each with a body that `fill` writes the beginning of.
    private func sendKeepalives(_ count: Int, bodyCount: Int, _ link: Int, _ now: Moment, _ fill: (Int) -> Void) {
        let state = links + link
        guard count > 0, state.pointee.session.pointee.isUp, state.pointee.socket >= 0 else { return }
        memset(controlBody, 0, bodyCount)
        flush(link, now)
        for place in 0..<count {
            if !state.pointee.run.takes(bodyCount + Datagram.overhead) { flush(link, now) }
            fill(place)
            let datagram = state.pointee.run.append(bodyCount + Datagram.overhead)
            sealControl(
                state.pointee.session, state.pointee.cipher, .keepalive, bodyCount: bodyCount, to: datagram, now)
        }
        flush(link, now)
    }

    /// A KEEPALIVE's body: a datagram of a train, or what became of one of ours.
    func takeTrain(_ body: UnsafeRawBufferPointer, _ link: Int, _ now: Moment) {
        if let place = TrainPlace(body: body) {
            if let result = links[link].trains.note(place, now: now.nanoseconds) { answer(result, link, now) }
        } else if let result = TrainResult(body: body) {
            trace(.protocol, "a train came with \(result.lastGap) ns between its datagrams", link: link)
            if bond.pointee.take(result, link: link, now: now.nanoseconds) { updateEligible(now) }
        }
    }

    private func answer(_ result: TrainResult, _ link: Int, _ now: Moment) {
        let session = links[link].session
        result.write(to: controlBody)
        sendControl(
            links + link, session, links[link].cipher, .keepalive, bodyCount: TrainResult.encodedSize,
            to: session.pointee.peer, now)
    }
}
