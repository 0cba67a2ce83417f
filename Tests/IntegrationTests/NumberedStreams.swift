import Foundation
import TunnelTestKit

/// Numbered datagrams in both directions between many pairs of addresses, 100 a second each, until asked what arrived.
struct NumberedStreams {
    struct Result: Decodable {
        var sent: [Int]
        /// Pairs: the stream, and a number that did not arrive.
        var lost: [[Int]]
    }

    private struct Report: Decodable {
        var sent: [Int]
        var got: [[Int]]
    }

    private let ends: [RunningProcess]

    private static let script = """
        import json, select, socket, struct, sys, time
        peers, interval = sys.argv[1:], 0.01
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("0.0.0.0", 9000))
        s.setblocking(False)
        SO_RCVBUFFORCE = 33
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        sent, got, isSending = [0] * len(peers), [set() for _ in peers], True
        print("ready", flush=True)
        sys.stdin.readline()
        heard = begin = time.monotonic()
        while isSending or time.monotonic() - heard < 1:
            ready = select.select([s, sys.stdin] if isSending else [s], [], [], 0.002)[0]
            if sys.stdin in ready: isSending = False
            while True:
                try: stream, number = struct.unpack("!II", s.recv(2048)[:8])
                except BlockingIOError: break
                got[stream].add(number)
                heard = time.monotonic()
            now = time.monotonic()
            for stream, peer in enumerate(peers):
                # Spread evenly.
                while isSending and begin + (sent[stream] + stream / len(peers)) * interval <= now:
                    s.sendto(struct.pack("!II", stream, sent[stream]) + bytes(100), (peer, 9000))
                    sent[stream] += 1
        print(json.dumps({"sent": sent, "got": [sorted(numbers) for numbers in got]}), flush=True)
        """

    /// Begins.
    ///
    /// - Parameter pairs: the addresses that each stream has in the one and the other namespace.
    init(
        between one: NetworkNamespace, and other: NetworkNamespace, of bed: TunnelBed, pairs: [(String, String)]
    ) throws {
        ends = try [(one, pairs.map(\.1)), (other, pairs.map(\.0))].map { namespace, peers in
            try bed.rig.start(["python3", "-c", Self.script] + peers, in: namespace, withInput: true)
        }
        for end in ends {
            try waitUntil("a stream's end", within: .seconds(10)) { end.output.contains("ready") }
        }
        for end in ends { try end.send(line: "go") }
    }

    /// Ends the streams: what the one end sent, and the other.
    func results() throws -> [Result] {
        for end in ends { try end.send(line: "stop") }
        let reports = try ends.map { end in
            _ = try end.waitForExit(within: .seconds(60))
            return try JSONDecoder().decode(
                Report.self, from: Data((end.output.split(separator: "\n").last ?? "").utf8))
        }
        return [(reports[0], reports[1]), (reports[1], reports[0])].map { sender, receiver in
            Result(
                sent: sender.sent,
                lost: zip(sender.sent, receiver.got).enumerated().flatMap { stream, pair in
                    Set(0..<pair.0).subtracting(pair.1).sorted().map { [stream, $0] }
                })
        }
    }
}
