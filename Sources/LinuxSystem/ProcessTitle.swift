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
        clinux_title_set(
            String(decoding: title.utf8.map { $0 < 0x20 || $0 == 0x7f ? UInt8(ascii: "?") : $0 }, as: UTF8.self))
    }

    /// An environment variable that makes room for a title of `bytes`.
    public static func padding(_ bytes: Int) -> String {
        "\(paddingName)=\(String(repeating: ".", count: max(0, bytes)))"
    }

    /// Executes this program anew, with room for a title of `bytes`, unless it has that. At the start of a program: all
    /// that it has done is lost. Without room, titles are cut.
    public static func makeRoom(_ bytes: Int) {
        var environment: [String] = []
        var next = clinux_environment()
        while let variable = next?.pointee {
            environment.append(String(cString: variable))
            next = next?.advanced(by: 1)
        }
        // Once is enough, whatever came of it.
        guard capacity < bytes, !environment.contains(where: { $0.hasPrefix(paddingName + "=") }) else { return }
        environment.append(padding(bytes))
        // Not through /proc, which would name the process `exe`.
        guard let path = try? Executable.path() else { return }
        ChildProcess.replaceProgram(path: path, arguments: CommandLine.arguments, environment: environment)
    }

    /// The short name that `ps -e` and `pgrep` use; at most 15 bytes.
    public static func setName(_ name: String) { clinux_set_name(name) }

    static let paddingName = "MLVPN_TITLE_ROOM"
}
