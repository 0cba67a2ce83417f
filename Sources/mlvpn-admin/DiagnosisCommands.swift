import AdminAPI
import ArgumentParser
import Glibc
import NIOCore
import TunnelModel

struct Capture: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Copy packets to standard output as a pcap file, for tcpdump or Wireshark.",
        discussion: """
            Without LINK: the inner packets, as the customer sees them. With LINK: its datagrams, as they pass the network. \
            It ends after --count packets or --seconds, whichever is first.
            """)

    @Argument var name: Name
    @Argument var link: Name?
    @Option(help: ArgumentHelp("Packets at most.", valueName: "n")) var count: UInt32 = 10_000
    @Option(help: ArgumentHelp("Seconds at most, up to 3600.", valueName: "s")) var seconds: UInt32 = 60
    @Option(help: ArgumentHelp("Bytes kept of each packet.", valueName: "n")) var snapLength: UInt32 = 65535
    @OptionGroup var common: CommonOptions

    func validate() throws {
        func check(_ ok: Bool, _ text: String) throws { if !ok { throw ValidationError(text) } }
        try check((1...1_000_000).contains(count), "--count takes 1 to 1000000")
        try check((1...3600).contains(seconds), "--seconds takes 1 to 3600")
        try check((1...65535).contains(snapLength), "--snap-length takes 1 to 65535")
    }

    func run() async throws {
        if Output.isTerminal {
            throw Problem(
                .refused, "a capture is no text for a terminal; send it to a file or to a program: \(example)")
        }
        let target = Target(
            "tunnels", name, "capture",
            query: ["link": link, "packets": "\(count)", "seconds": "\(seconds)", "snap_length": "\(snapLength)"])
        try await common.client.streamToOutput(target) { chunk in Output.bytes(Array(chunk.readableBytesView)) }
    }

    private var example: String { "mlvpn-admin capture \(name)\(link.map { " \($0)" } ?? "") | tcpdump -n -r -" }
}

struct Debug: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Log what the engine does for one tunnel, by MLVPN's debug tokens.",
        discussion: """
            Tokens: config, control, dns, net, privsep, protocol, reorder, rtt, tuntap, wrr, filters. They replace those \
            set before, and hold until the daemon ends.
            """)

    @Argument var name: Name
    @Argument(help: ArgumentHelp("What is logged.", valueName: "token")) var tokens: [String] = []
    @Flag(help: "Nothing is logged any more.") var off = false
    @OptionGroup var common: CommonOptions

    func validate() throws {
        if off == !tokens.isEmpty { throw ValidationError("give tokens, or --off") }
    }

    func run() async throws {
        try await common.client.send(
            .PUT, Target("tunnels", name, "debug"), body: .object(["tokens": .array(tokens.map(JSONValue.string))]))
        try reportDone(
            off
                ? "debug tokens of tunnel \(name) switched off"
                : "tunnel \(name) logs \(tokens.joined(separator: ", "))",
            ["name": .string(name), "tokens": .array(tokens.map(JSONValue.string))], common)
    }
}

struct NewToken: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a token for the API on TCP.",
        discussion: """
            The token goes to standard output, once. Its hash, which is all that the daemon needs, goes to the end of \
            FILE, the api_token_file of mlvpnd.conf, or to standard error. The daemon reads the file when it starts.
            """)

    @Argument(help: "Whose token it is, for the audit.") var name: String
    @Option(help: ArgumentHelp("The file to add it to; made with mode 0600.", valueName: "file")) var file: String?
    @OptionGroup var common: CommonOptions

    func validate() throws {
        do { _ = try TunnelName(name) } catch {
            throw ValidationError("\(quoted(name)) is no name: letters, digits, '.', '_' and '-'")
        }
    }

    func run() async throws {
        let token = APIToken.generate()
        let line = token.line(name: name)
        if let file { try Self.append(line + "\n", to: file) }
        if common.json {
            try Output.json(["name": name, "token": token.text, "line": line])
            return
        }
        Output.line(token.text)
        Output.standardError(file.map { "\($0): a line for \(name) added" } ?? "for the api_token_file: \(line)")
    }

    /// As a line of its own, whatever the file's last one ends with.
    static func append(_ text: String, to path: String) throws {
        func problem() -> Problem { Problem(.refused, "\(path): \(String(cString: strerror(errno)))") }
        let descriptor = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw problem() }
        defer { close(descriptor) }
        let end = lseek(descriptor, 0, SEEK_END)
        var last = UInt8(ascii: "\n")
        if end > 0, pread(descriptor, &last, 1, end - 1) != 1 { throw problem() }
        let bytes = Array(((last == UInt8(ascii: "\n") ? "" : "\n") + text).utf8)
        guard write(descriptor, bytes, bytes.count) == bytes.count, fsync(descriptor) == 0 else { throw problem() }
    }
}
