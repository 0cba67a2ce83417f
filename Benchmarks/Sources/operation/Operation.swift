import ArgumentParser

@main
struct Operation: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "operation",
        abstract: "A concentrator under administration: what its customers notice, and how long things take.",
        subcommands: [
            Reload.self, API.self, FirstPing.self, Many.self, Queries.self, Ends.self, Customers.self, Waiting.self,
            Pinger.self,
        ])
}
