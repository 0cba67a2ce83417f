import TunnelTestKit

/// A file of chance that an HTTP server offers at one end of a tunnel, to be fetched at the other.
struct Transfer {
    private let rig: NetworkRig
    private let directory: String
    private let server: RunningProcess
    /// The command that fetches it.
    let fetch: [String]

    init(_ bed: TunnelBed, from namespace: NetworkNamespace, address: String, megabytes: Int) throws {
        rig = bed.rig
        directory =
            try rig.run(["mktemp", "-d", "\(rig.directory)/transfer.XXXXXX"])
            .split(separator: "\n").first.map(String.init) ?? ""
        try rig.run(["sh", "-c", "head -c \(megabytes)000000 /dev/urandom > \(directory)/file"])
        server = try rig.start(
            ["python3", "-u", "-m", "http.server", "--directory", directory, "--bind", address, "8000"], in: namespace)
        let server = server
        try waitUntil("the HTTP server", within: .seconds(10)) { server.output.contains("Serving HTTP") }
        fetch = [
            "curl", "--silent", "--show-error", "--max-time", "60", "--output", "\(directory)/received",
            "http://\(address):8000/file",
        ]
    }

    /// Bytes that have arrived.
    var received: Int {
        get throws {
            let text = try rig.run(["sh", "-c", "stat -c %s \(directory)/received 2>/dev/null || echo 0"])
            return text.split(separator: "\n").first.flatMap { Int($0) } ?? 0
        }
    }

    /// Throws unless the file arrived as it was.
    func compare() throws {
        try rig.run(["cmp", "\(directory)/file", "\(directory)/received"])
    }

    func stop() {
        server.stop()
    }

    /// Fetches 3 MB and compares.
    static func check(_ bed: TunnelBed, from: NetworkNamespace, address: String, to: NetworkNamespace) throws {
        let transfer = try Transfer(bed, from: from, address: address, megabytes: 3)
        try bed.rig.run(transfer.fetch, in: to, within: .seconds(70))
        try transfer.compare()
        transfer.stop()
    }
}
