import Testing
import TunnelCore
import TunnelCrypto

@Suite("Flows of a peer")
struct PeerFlowsTests {
    @Test func `nobody is known at first, not even flow 0`() {
        var flows = PeerFlows()
        for id in [0, 1, .max] as [UInt32] { #expect(flows.find(id) == nil) }
        #expect(flows.mayBeTakenOver(now: 0) == true)
    }

    @Test func `flow 0 is a flow like others`() {
        var flows = PeerFlows()
        let index = flows.adopt(0, now: 1)
        #expect(flows.find(0) == index)
        #expect(flows.find(1) == nil)
    }

    @Test func `the present flow is left alone until it was silent for 3 s or has disconnected`() {
        var flows = PeerFlows()
        let index = flows.adopt(1, now: 10 * second)
        #expect(flows.mayBeTakenOver(now: 10 * second) == false)
        #expect(flows.mayBeTakenOver(now: 13 * second - 1) == false)
        #expect(flows.mayBeTakenOver(now: 13 * second) == true)
        flows.entries[index].isDisconnected = true
        #expect(flows.mayBeTakenOver(now: 10 * second) == true)
    }

    @Test func `sixteen flows are remembered, and the one not heard for longest is forgotten`() {
        var flows = PeerFlows()
        for id in 1...16 as ClosedRange<UInt32> { _ = flows.adopt(id, now: Int64(id)) }
        for id in 1...16 as ClosedRange<UInt32> { #expect(flows.find(id) != nil) }
        // The first is heard again.
        let first = flows.find(1)
        flows.entries[first ?? 0].lastHeard = 100
        let index = flows.adopt(17, now: 101)
        #expect(flows.current == index)
        #expect(flows.find(2) == nil)
        for id in [1] + Array(3...17) as [UInt32] { #expect(flows.find(id) != nil) }
    }

    @Test func `a new flow in an old place knows nothing of that one's numbers`() {
        var flows = PeerFlows()
        for id in 1...16 as ClosedRange<UInt32> {
            let index = flows.adopt(id, now: Int64(id))
            _ = flows.entries[index].window.accept(500)
        }
        let index = flows.adopt(99, now: 100)
        #expect(flows.entries[index].window.isEmpty)
        #expect(flows.entries[index].window.isFresh(500) == true)
    }
}
