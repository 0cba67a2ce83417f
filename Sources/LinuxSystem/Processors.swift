import CLinux

/// Processors that this process may run on; 1 when the system does not say.
public func availableProcessors() -> Int { max(1, Int(clinux_processors())) }
