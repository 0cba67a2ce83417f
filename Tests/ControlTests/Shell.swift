import Foundation
import Testing

/// Runs a statement in Debian's sqlite3, as an operator does.
func sqlite(_ database: String, _ statement: String) throws {
    let shell = Process()
    shell.executableURL = URL(fileURLWithPath: "/usr/bin/sqlite3")
    shell.arguments = ["-cmd", "PRAGMA foreign_keys = ON", database, statement]
    try shell.run()
    shell.waitUntilExit()
    #expect(shell.terminationStatus == 0, "\(statement)")
}
