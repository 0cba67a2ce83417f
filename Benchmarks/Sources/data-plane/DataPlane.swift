import ArgumentParser
import TunnelCrypto

@main
struct DataPlane: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data-plane",
        abstract: "What the parts of the data plane cost in one process, without sockets and devices.",
        subcommands: [Stages.self, Workers.self], defaultSubcommand: Stages.self)
}

/// In the order of a packet's way.
func allStages() -> [any Stage] {
    precondition(SessionCipher.start(), "libsodium cannot be started")
    return [
        SplitStage(), ClassifyStage(), ScheduleStage(), QueueStage(), SealStage(size: 1400), SealStage(size: 100),
        SessionStage(), ReplayStage(), OpenStage(size: 1400), OpenStage(size: 100), ReorderStage(links: 1),
        ReorderStage(links: 2), CoalesceStage(), PipelineStage(),
    ]
}
