import TunnelTestKit

LinkEmulator.runCommandLine(Array(CommandLine.arguments.dropFirst()))
