import TunnelTestKit

/// Numbered datagrams, 200 a second, from one namespace to another: tells which never arrived.
struct NumberedStream {
    private let receiver: RunningProcess
    private let sender: RunningProcess

    private static let script = """
        import socket, struct, sys, time
        role, address, port, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if role == "receive":
            s.bind((address, port))
            s.settimeout(1)
            seen, last = set(), None
            print("ready", flush=True)
            while True:
                try: data = s.recv(2048)
                except TimeoutError:
                    if last is None: continue
                    break
                number, total = struct.unpack("!II", data[:8])
                seen.add(number)
                last = total
            missing = [n for n in range(last) if n not in seen]
            print("sent %d missing %d %s" % (last, len(missing), missing[:20]), flush=True)
        else:
            total = int(seconds * 200)
            begin = time.monotonic()
            for number in range(total):
                s.sendto(struct.pack("!II", number, total) + bytes(100), (address, port))
                pause = begin + (number + 1) / 200 - time.monotonic()
                if pause > 0: time.sleep(pause)
        """

    /// Begins to send to `address`, which `to` has.
    init(
        _ bed: TunnelBed, from: NetworkNamespace, to: NetworkNamespace, address: String, port: Int = 9000,
        seconds: Double
    ) throws {
        func start(_ role: String, _ namespace: NetworkNamespace) throws -> RunningProcess {
            try bed.rig.start(
                ["python3", "-c", Self.script, role, address, "\(port)", "\(seconds)"], in: namespace)
        }
        let receiver = try start("receive", to)
        try waitUntil("the receiver", within: .seconds(10)) { receiver.output.contains("ready") }
        self.receiver = receiver
        sender = try start("send", from)
    }

    /// Waits for its end: `sent 2000 missing 0 []`.
    func result() throws -> String {
        _ = try sender.waitForExit(within: .seconds(120))
        _ = try receiver.waitForExit(within: .seconds(30))
        return receiver.output.split(separator: "\n").last.map(String.init) ?? ""
    }
}
