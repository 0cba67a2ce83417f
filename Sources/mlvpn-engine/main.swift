import Engine
import Glibc
import LinuxSystem
import Logging

// mlvpn-engine: executed by mlvpnd or mlvpn, never by hand.

var arguments = EngineArguments()
var remaining = CommandLine.arguments.dropFirst()
while let flag = remaining.popFirst() {
    switch flag {
    case "--user": arguments.user = remaining.popFirst() ?? arguments.user
    case "--chroot": arguments.chroot = remaining.popFirst()
    case "--priority": arguments.priority = remaining.popFirst().flatMap(ProcessorPriority.init) ?? arguments.priority
    case "--title": arguments.title = remaining.popFirst()
    default: break
    }
}
Log.bootstrap(LogSettings(arguments: CommandLine.arguments))
exit(EngineProcess(arguments: arguments, log: Logger(label: "engine")).run())
