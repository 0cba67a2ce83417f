import TunnelCore

/// Packets with any data_seq, in any order, at any time: each comes out once, and nothing is left behind.
func fuzzResequencer(_ input: inout FuzzInput) {
    var order = Resequencer(limit: 64 << Int(input.byte() & 3), links: 3)
    order.holdTime = (1 + Int64(input.byte())) * millisecond
    var now: Int64 = second
    var sequence: UInt64 = 1000
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 1, alignment: 1)
    defer { memory.deallocate() }
    var inserted = 0
    var delivered = 0
    // A packet is known by its length.
    var waiting: Set<Int32> = []
    func drain() {
        while let packet = order.next() {
            check(waiting.remove(packet.count) != nil, "delivered twice, or never inserted")
            delivered += 1
        }
    }
    while !input.isEmpty {
        let step = input.byte()
        switch step & 7 {
        case 0: now += Int64(input.byte()) * millisecond
        case 1: order.restart()
        case 2: order.forget(link: Int(step >> 3))
        case 3: sequence = input.integer()
        case 4: _ = order.adopt { packet in step & 8 != 0 ? packet : nil }
        default:
            let jump = input.byte()
            sequence = jump & 0x80 != 0 ? sequence &- UInt64(jump & 0x7f) : sequence &+ UInt64(jump)
            inserted += 1
            let packet = InboundPacket(bytes: memory, count: inserted, link: Int(step >> 3 & 3))
            var verdict = order.insert(packet, sequence: sequence, now: now)
            if verdict == .full {
                drain()
                verdict = order.insert(packet, sequence: sequence, now: now)
                check(verdict != .full, "full though nothing waits that may go")
            }
            if verdict == .held { waiting.insert(Int32(inserted)) } else { delivered += 1 }
        }
        drain()
        while order.review(now: now) { drain() }
        check(order.held == waiting.count, "\(order.held) held, \(waiting.count) waiting")
        check(order.held == 0 || order.deadline(now: now) > now - millisecond, "a deadline that has passed")
    }
    now += 10 * second
    while order.review(now: now) { drain() }
    check(order.held == 0 && delivered == inserted, "\(order.held) left behind of \(inserted)")
}

/// Numbers of packets that may be copies, against a set of all that came.
func fuzzCopies(_ input: inout FuzzInput) {
    var filter = CopyFilter()
    var seen: Set<UInt64> = []
    var highest: UInt64 = 0
    var sequence: UInt64 = 1 << 20
    while !input.isEmpty {
        let jump = input.byte()
        switch jump {
        case 0xff: sequence = input.integer()
        case 0xfe:
            filter.restart()
            seen = []
        case 0x80...: sequence &-= UInt64(jump & 0x7f) << (UInt64(input.byte()) & 15)
        default: sequence &+= UInt64(jump) << (UInt64(input.byte()) & 15)
        }
        let isKnown = !seen.isEmpty && sequence <= highest && highest - sequence < CopyFilter.width
        let isCopy = isKnown && seen.contains(sequence)
        check(filter.isCopy(sequence) == isCopy, "\(sequence) after \(highest) is \(isCopy ? "a" : "no") copy")
        highest = seen.isEmpty ? sequence : max(highest, sequence)
        seen.insert(sequence)
    }
}

/// Packets of any flow and size through the fair queue: each comes out once, dropped or sent.
func fuzzQueue(_ input: inout FuzzInput) {
    var queue = FairQueue()
    var now: Int64 = second
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 2048, alignment: 4)
    memory.initializeMemory(as: UInt8.self, repeating: 0x45)
    defer { memory.deallocate() }
    guard let base = memory.baseAddress else { return }
    var waiting: Set<UInt32> = []
    var number: UInt32 = 0
    func forget(_ packet: QueuedPacket) { check(waiting.remove(packet.tag) != nil, "out twice, or never in") }
    func collect() { while let packet = queue.takeDropped() { forget(packet) } }
    while !input.isEmpty {
        let step = input.byte()
        switch step & 7 {
        case 0: now += Int64(input.integer(UInt16.self)) * 100_000
        case 1: queue.tune(bytesPerSecond: Int64(input.integer(UInt32.self)))
        case 2: queue.shed()
        case 3: queue.releaseMemory()
        case 4, 5: if let packet = queue.dequeue(now: now) { forget(packet) }
        default:
            for _ in 0...Int(step >> 3) {
                number += 1
                waiting.insert(number)
                let packet = QueuedPacket(bytes: base, count: 1 + Int(input.byte()) * 5, tag: number)
                queue.enqueue(packet, flow: UInt32(input.byte()), now: now)
            }
        }
        collect()
        check(queue.count == waiting.count, "\(queue.count) counted, \(waiting.count) waiting")
        check((queue.bytes == 0) == queue.isEmpty, "\(queue.bytes) bytes in \(queue.count) packets")
    }
    while let packet = queue.dequeue(now: now) { forget(packet) }
    collect()
    check(waiting.isEmpty && queue.isEmpty, "\(waiting.count) left behind")
}
