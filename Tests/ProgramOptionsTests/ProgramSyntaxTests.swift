import Testing

@testable import ProgramOptions

@Suite("Command lines of the programs without an argument parser")
struct ProgramSyntaxTests {
    private let syntax = ProgramSyntax(
        name: "program", abstract: "Does it.", discussion: "And more.",
        options: [
            ProgramOption("config", or: ["-c"], value: "file", help: "A file."),
            ProgramOption("user", or: ["-u", "-user"], value: "user", help: "A user."),
            ProgramOption("token", or: ["-D"], value: "token", help: "A token."),
            ProgramOption("verbose", or: ["-v"], help: "More."),
            ProgramOption("version", help: "Which."),
        ])

    @Test(arguments: [
        ["-c", "x"], ["-cx"], ["--config", "x"], ["--config=x"], ["-vcx"], ["-c", "first", "-c", "x"],
        ["--conf", "x"], ["--c=x"],
    ])
    func anOptionHasItsValueHoweverItIsWritten(_ arguments: [String]) throws {
        #expect(try syntax.parse(arguments).value("config") == "x")
    }

    @Test func optionsAreCountedAndCollectedInOrder() throws {
        let options = try syntax.parse(["-vv", "-Drtt", "--verbose", "-D", "net", "--token=a=b", "-user", "me"])
        #expect(options.count("verbose") == 3)
        #expect(options.values("token") == ["rtt", "net", "a=b"])
        #expect(options.value("user") == "me")
        #expect(!options.has("config"))
        #expect(try syntax.parse(["-c", "-"]).value("config") == "-")
        #expect(try syntax.parse(["--config="]).value("config") == "")
    }

    @Test(arguments: [
        (["--frob"], "\"--frob\" is no option"), (["--cofnig", "x"], "did you mean --config?"),
        (["-x"], "\"-x\" is no option"), (["-vx"], "\"-x\" is no option"), (["file"], "unexpected argument \"file\""),
        (["-"], "unexpected argument"), (["--"], "is no option"), (["--config"], "--config <file> has no value"),
        (["-c", "--verbose"], "-c <file> has no value"), (["--verbose=2"], "--verbose takes no value"),
        ([""], "unexpected argument"), (["--ver"], "may be any of --verbose, --version"),
    ])
    func whatIsNotUnderstoodIsNamed(_ arguments: [String], _ reason: String) {
        let misuse = #expect(throws: ProgramSyntax.Misuse.self) { _ = try syntax.parse(arguments) }
        #expect(misuse?.description.contains(reason) == true, "\(misuse?.description ?? "")")
    }

    @Test func operandsAreKeptWhereTheyAreTaken() throws {
        let lenient = ProgramSyntax(
            name: "program", abstract: "", discussion: "", options: syntax.options, takesOperands: true)
        let options = try lenient.parse(["one", "-v", "", "-", "--", "-c", "--"])
        #expect(options.operands == ["one", "", "-", "-c", "--"])
        #expect(options.has("verbose") && !options.has("config"))
        #expect(throws: ProgramSyntax.Misuse.self) { _ = try lenient.parse(["--frob"]) }
    }

    @Test func helpShowsEveryOptionWithin80Columns() {
        for line in syntax.helpText.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
        for option in ["-c, --config <file>", "-u, -user, --user <user>", "-v, --verbose", "-h, --help"] {
            #expect(syntax.helpText.contains(option))
        }
        #expect(syntax.usage.contains("[--config <file>]"))
    }
}
