import CLinux

/// What `ps` shows as this process's command line.
///
/// It is written over the memory of the arguments and the environment, so that is how long it can be; whoever wants long
/// titles is started with ``padding(_:)`` in its environment.
public enum ProcessTitle {
    /// Bytes that a title may have.
    public static var capacity: Int { max(0, clinux_title_capacity() - 1) }

    /// Shows `title`, cut to ``capacity``; bytes that could disturb a terminal appear as `?`.
    public static func set(_ title: String) {
        // The arguments are read from this very memory, once: read them before it changes.
        _ = CommandLine.arguments.count
        clinux_title_set(String(decoding: title.utf8.map { $0 < 0x20 || $0 == 0x7f ? UInt8(ascii: "?") : $0 }, as: UTF8.self))
    }

    /// An environment variable that makes room for a title of `bytes`.
    public static func padding(_ bytes: Int) -> String { "\(paddingName)=\(String(repeating: ".", count: max(0, bytes)))" }

    static let paddingName = "MLVPN_TITLE_ROOM"
}
