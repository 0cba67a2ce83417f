import CLinux

/// This process's own memory.
public enum ProcessMemory {
    /// Gives back what has been used and is not used any more: for the main thread, before it sleeps for long.
    public static func releaseUnused() { clinux_release_memory() }
}
