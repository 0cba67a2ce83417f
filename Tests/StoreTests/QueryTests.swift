import Foundation
import GRDB
import Testing

@testable import Store

@Suite struct QueryTests {
    private let scratch: ScratchDirectory
    private let store: Store

    init() throws {
        scratch = try ScratchDirectory()
        store = try Store(path: scratch.database)
        try store.add(try makeRichTunnel(), by: byTest)
    }

    @Test(arguments: [
        "SELECT * FROM secrets", "SELECT password FROM SECRETS",
        "SELECT name, (SELECT hex(password) FROM secrets) FROM tunnels",
        "WITH s AS (SELECT * FROM secrets) SELECT * FROM s", "SELECT * FROM sqlite_dbpage",
        "SELECT t.name FROM tunnels t JOIN secrets s ON s.tunnel_id = t.id", "SELECT count(password) FROM secrets",
    ]) func passwordsCannotBeRead(statement: String) throws {
        let error = try #require(failure { _ = try store.query(statement) })
        guard case .refused = error else {
            Issue.record("\(error)")
            return
        }
    }

    @Test(arguments: [
        "DELETE FROM tunnels", "UPDATE tunnels SET mtu = 1000", "DROP TABLE tunnels", "PRAGMA query_only = 0",
        "ATTACH '/tmp/x' AS x", "CREATE TEMP TABLE x (y)", "INSERT INTO audit DEFAULT VALUES", "VACUUM", "BEGIN",
        "SELECT load_extension('x')", "SELECT 1; DELETE FROM tunnels", "SELECT 1; -- x\nSELECT 2",
        "SELECT 1; SELEKT 2", "", "  -- nothing", "SELEKT 1", "SELECT 1\0",
        "VACUUM INTO '/tmp/x'",
    ]) func nothingButOneSelectIsRun(statement: String) throws {
        let error = try #require(failure { _ = try store.query(statement) })
        guard case .refused = error else {
            Issue.record("\(error)")
            return
        }
        #expect(try store.definitions().tunnels.count == 1)
    }

    @Test(arguments: ["SELECT 1; -- hello", "SELECT 1;; /* and\nso on */ ;\n", "-- Which?\nSELECT 1"])
    func commentsAreNoStatements(statement: String) throws {
        #expect(try store.query(statement).rows == [[.integer(1)]])
    }

    @Test func aQueryWithoutEndIsEnded() throws {
        let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
        let error = try #require(failure { _ = try store.query(endless, seconds: 0) })
        #expect("\(error)".contains("took more than 0 seconds"))
        let long = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
        let tooMany = try #require(failure { _ = try store.query(long, limit: 10) })
        #expect("\(tooMany)".contains("more than 10 rows"))
    }

    @Test func listsInJSONCanBeRead() throws {
        #expect(try store.query("SELECT value FROM json_each('[1, 2]')").rows == [[.integer(1)], [.integer(2)]])
        #expect(try store.query("SELECT count(*) FROM audit, json_tree(audit.new)").rows.count == 1)
    }

    @Test(arguments: [
        "SELECT hex(zeroblob(40000000))", "SELECT replace(hex(zeroblob(1000000)), '0', '0123456789')",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 1000) SELECT hex(zeroblob(100000)) FROM n",
    ])
    func anAnswerWithoutBoundsIsRefused(statement: String) throws {
        let error = try #require(failure { _ = try store.query(statement) })
        guard case .refused = error else {
            Issue.record("\(error)")
            return
        }
    }

    @Test func rowsComeAsTheyAre() throws {
        let table = try store.query("SELECT name, mtu, ip4, 1.5 AS x, NULL AS y FROM tunnels;")
        #expect(table.columns == ["name", "mtu", "ip4", "x", "y"])
        #expect(table.rows == [[.text("rich"), .integer(1300), .text("10.0.0.1/30"), .real(1.5), .null]])
    }

    @Test func aBackupIsWholeAndRestores() throws {
        let file = scratch.path + "/backup.db"
        try store.backup(to: file)
        let attributes = try FileManager.default.attributesOfItem(atPath: file)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        let before = try store.definitions()
        try store.remove("rich", by: byTest)
        try store.restore(from: file)
        #expect(try store.definitions() == before)
        #expect(try Store(path: file).definitions() == before)
        // Once more: the restored database works.
        try store.add(try makeTunnel(), by: byTest)
        #expect(try store.definitions().tunnels.count == 2)
    }

    @Test func whatIsNoBackupChangesNothing() throws {
        let before = try store.definitions()
        let file = scratch.path + "/bad"
        try Data("no database at all, but long enough to look at".utf8).write(to: URL(fileURLWithPath: file))
        #expect(failure { try store.restore(from: file) } != nil)
        let empty = scratch.path + "/empty"
        try Data().write(to: URL(fileURLWithPath: empty))
        #expect(failure { try store.restore(from: empty) } != nil)
        let newer = scratch.path + "/newer"
        try store.backup(to: newer)
        let copy = try Store(path: newer)
        try copy.sql("INSERT INTO grdb_migrations VALUES ('9999-future')")
        copy.close()
        #expect(failure { try store.restore(from: newer) } == .newerSchema(path: newer))
        #expect(try store.definitions() == before)
    }

    /// Not even when its tables have the same names; and what is wrong is said without the statements of a migration.
    @Test func anotherProgramsDatabaseIsRefused() throws {
        let file = scratch.path + "/other"
        let other = try DatabaseQueue(path: file)
        try other.write { db in
            try db.execute(sql: "CREATE TABLE tunnels (x); CREATE TABLE series (x)")
        }
        try other.close()
        let before = try store.definitions()
        let error = try #require(failure { try store.restore(from: file) })
        #expect("\(error)".contains("no backup of a concentrator"), "\(error)")
        #expect(try store.definitions() == before)
    }

    @Test func aLockIsThatOfTheDatabaseAndNotOfTheBackup() throws {
        let hasty = try Store(path: scratch.path + "/hasty.db", busyTimeout: 0.1)
        let file = scratch.path + "/backup.db"
        try hasty.backup(to: file)
        let other = try DatabaseQueue(path: hasty.path)
        try other.inDatabase { db in
            try db.execute(sql: "BEGIN IMMEDIATE")
            #expect(failure { try hasty.restore(from: file) } == .locked(path: hasty.path))
            #expect(failure { try hasty.requireWritable() } == .locked(path: hasty.path))
            try db.execute(sql: "ROLLBACK")
        }
        try hasty.restore(from: file)
        try hasty.requireWritable()
    }

    @Test func aBackupNeverReplacesAFile() throws {
        let file = scratch.path + "/there"
        try Data("precious".utf8).write(to: URL(fileURLWithPath: file))
        #expect(failure { try store.backup(to: file) } != nil)
        #expect(try String(contentsOfFile: file, encoding: .utf8) == "precious")
    }

    @Test func aSoundDatabaseHasNoProblems() async throws {
        #expect(try await store.integrityProblems().isEmpty)
    }
}
