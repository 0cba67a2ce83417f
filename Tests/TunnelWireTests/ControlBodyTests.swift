import Testing
import TunnelWire

@Suite("Control bodies")
struct ControlBodyTests {
    @Test(arguments: [[], [0x41], [0x41, 0x54], [0x55, 0x41], Array("OK".utf8), [0x45, 0, 0, 20]])
    func `what does not begin with AU is no AUTH`(body: [UInt8]) {
        #expect(!isPlausible(.auth, body))
    }

    @Test(arguments: [[], [0x4f], [0x4f, 0x4c], [0x4b, 0x4f], Array("AU".utf8), [0x60, 0, 0, 0]])
    func `what does not begin with OK is no AUTH_OK`(body: [UInt8]) {
        #expect(!isPlausible(.authOK, body))
    }

    @Test func `stock bodies are plausible, with or without an extension`() {
        for extra in [[], [0], [UInt8](repeating: 0xff, count: 40)] as [[UInt8]] {
            #expect(isPlausible(.auth, Array("AU".utf8) + extra))
            #expect(isPlausible(.authOK, Array("OK".utf8) + extra))
        }
        #expect(isPlausible(.keepalive, []))
        #expect(isPlausible(.disconnect, []))
    }

    @Test func `a KEEPALIVE may carry anything that does not begin like an IP packet`() {
        for first in 0...255 as ClosedRange<UInt8> {
            #expect(isPlausible(.keepalive, [first, 1, 2, 3]) == (first >> 4 != 4 && first >> 4 != 6))
        }
    }

    @Test func `a DISCONNECT has no body`() {
        for first in 0...255 as ClosedRange<UInt8> { #expect(!isPlausible(.disconnect, [first])) }
    }

    @Test func `DATA is no control message`() {
        for body in [[], Array("AU".utf8), Array("OK".utf8)] as [[UInt8]] { #expect(!isPlausible(.data, body)) }
    }

    private func isPlausible(_ type: DatagramType, _ body: [UInt8]) -> Bool {
        body.withUnsafeBytes { ControlBody.isPlausible(type, $0) }
    }
}

@Suite("Extensions")
struct ExtensionTests {
    private let report = ReceiverReport(
        highestSequence: 0x0102_0304_0506_0708, packets: 0x1112_1314_1516_1718, bytes: 0x2122_2324_2526_2728,
        time: 0x3132_3334, delay: 0x4142, minimumDelay: 0x5152)

    @Test func `a truncated report is none`() {
        let body = written(ReceiverReport.encodedSize) { report.write(to: $0) }
        for count in 0..<body.count {
            #expect(body.prefix(count).withUnsafeBytes { ReceiverReport(body: $0) } == nil)
        }
    }

    @Test func `a report with another tag or format is none`() {
        let body = written(ReceiverReport.encodedSize) { report.write(to: $0) }
        for position in 0...1 {
            for value in 0...255 as ClosedRange<UInt8> where value != body[position] {
                var changed = body
                changed[position] = value
                #expect(changed.withUnsafeBytes { ReceiverReport(body: $0) } == nil)
            }
        }
    }

    @Test func `a report comes back as it was written, whatever follows it`() {
        let body = written(ReceiverReport.encodedSize) { report.write(to: $0) }
        #expect(body.withUnsafeBytes { ReceiverReport(body: $0) } == report)
        #expect((body + [1, 2, 3]).withUnsafeBytes { ReceiverReport(body: $0) } == report)
        #expect(body.withUnsafeBytes { ControlBody.isPlausible(.keepalive, $0) })
    }

    @Test func `a link rests when a keepalive says so, alone or behind a report`() {
        let notice = written(RestNotice.encodedSize) { RestNotice.write(to: $0) }
        let report = written(ReceiverReport.encodedSize) { self.report.write(to: $0) }
        for body in [notice, report + notice, notice + [9], report + notice + [9]] {
            #expect(body.withUnsafeBytes { RestNotice.isIn(body: $0) })
            #expect(body.withUnsafeBytes { ControlBody.isPlausible(.keepalive, $0) })
        }
        let others: [[UInt8]] = [
            [], [0xc3], [0xc3, 2], [0xc4, 1], report, report + [0xc3], report + [0xc3, 2], report.dropLast() + notice,
            [0] + notice,
        ]
        for body in others { #expect(!body.withUnsafeBytes { RestNotice.isIn(body: $0) }) }
        // Who does not know of it takes the report as before.
        #expect((report + notice).withUnsafeBytes { ReceiverReport(body: $0) } == self.report)
    }

    @Test func `a datagram of a train and what became of it come back as they were written`() {
        let place = TrainPlace(train: 0x71, place: 6, count: 8)
        let result = TrainResult(
            train: 0x71, received: 7, firstGap: 0x0102_0304, lastGap: 0x1112_1314, gapError: 0x2122_2324)
        let placed = written(TrainPlace.encodedSize) { place.write(to: $0) }
        let ended = written(TrainResult.encodedSize) { result.write(to: $0) }
        #expect(placed == [0xc4, 1, 0x71, 6, 8])
        #expect(
            ended == [
                0xc5, 1, 0x71, 7, 0x04, 0x03, 0x02, 0x01, 0x14, 0x13, 0x12, 0x11, 0x24, 0x23, 0x22, 0x21,
            ])
        for tail in [[], [UInt8](repeating: 0, count: 1400)] {
            #expect((placed + tail).withUnsafeBytes { TrainPlace(body: $0) } == place)
            #expect((ended + tail).withUnsafeBytes { TrainResult(body: $0) } == result)
            #expect((placed + tail).withUnsafeBytes { ControlBody.isPlausible(.keepalive, $0) })
        }
        #expect(ended.withUnsafeBytes { ControlBody.isPlausible(.keepalive, $0) })
        // Neither is the other, nor a report, nor says that the link rests.
        #expect(placed.withUnsafeBytes { TrainResult(body: $0) == nil && !RestNotice.isIn(body: $0) })
        #expect(ended.withUnsafeBytes { TrainPlace(body: $0) == nil && ReceiverReport(body: $0) == nil })
    }

    @Test func `what is cut short, of another format or outside its train is no part of one`() {
        let place = written(TrainPlace.encodedSize) { TrainPlace(train: 1, place: 0, count: 4).write(to: $0) }
        let result = written(TrainResult.encodedSize) {
            TrainResult(train: 1, received: 4, firstGap: 5, lastGap: 6, gapError: 7).write(to: $0)
        }
        for count in 0..<place.count { #expect(place.prefix(count).withUnsafeBytes { TrainPlace(body: $0) } == nil) }
        for count in 0..<result.count { #expect(result.prefix(count).withUnsafeBytes { TrainResult(body: $0) } == nil) }
        for position in 0...1 {
            var changed = (place, result)
            changed.0[position] ^= 0x10
            changed.1[position] ^= 0x10
            #expect(changed.0.withUnsafeBytes { TrainPlace(body: $0) } == nil)
            #expect(changed.1.withUnsafeBytes { TrainResult(body: $0) } == nil)
        }
        for (at, of) in [(4, 4), (5, 4), (0, 0), (255, 255)] as [(UInt8, UInt8)] {
            #expect([0xc4, 1, 1, at, of].withUnsafeBytes { TrainPlace(body: $0) } == nil)
        }
    }

    @Test func `a stock handshake announces nothing`() {
        for body in ["", "A", "AU", "OK", "AU\u{1}", "AUxxxx"].map({ Array($0.utf8) }) {
            #expect(body.withUnsafeBytes { Capabilities(body: $0) }.isEmpty)
        }
    }

    @Test func `capabilities come back as they were written, unknown ones included`() {
        for word in ["AU", "OK"] {
            let capabilities = Capabilities(rawValue: 0xa5c3)
            let body = Array(word.utf8) + written(Capabilities.encodedSize) { capabilities.write(to: $0) }
            #expect(body.withUnsafeBytes { Capabilities(body: $0) } == capabilities)
            for count in 0..<body.count {
                #expect(body.prefix(count).withUnsafeBytes { Capabilities(body: $0) }.isEmpty)
            }
        }
    }

    private func written(_ count: Int, _ write: (UnsafeMutableRawPointer) -> Void) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xee, count: count)
        bytes.withUnsafeMutableBytes { write($0.baseAddress!) }
        return bytes
    }
}
