import ArgumentParser
import BenchmarkKit
import Foundation
import TunnelTestKit

@main
struct Bonding: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bonding",
        abstract: "What a bond of emulated lines carries, beside each line alone, and how it stands their failures.",
        subcommands: [Mixes.self, Delay.self, Failover.self, Search.self, Emulate.self], defaultSubcommand: Mixes.self)
}

/// The emulator, as the other commands start it.
struct Emulate: ParsableCommand {
    static let configuration = CommandConfiguration(shouldDisplay: false)

    @Argument(parsing: .captureForPassthrough) var arguments: [String] = []

    func run() throws {
        LinkEmulator.runCommandLine(arguments)
    }
}
