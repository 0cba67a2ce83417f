import Foundation
import GRDB
import Testing
import TunnelModel

@testable import Store

@Suite struct OpeningTests {
    @Test func aMissingDirectoryIsNamed() throws {
        let error = failure { _ = try Store(path: "/nonexistent/mlvpn.db") }
        #expect("\(try #require(error))".contains("/nonexistent/mlvpn.db: its directory does not exist"))
    }

    @Test func aDirectoryOrASymbolicLinkInTheFilesPlaceIsRefused() throws {
        let scratch = try ScratchDirectory()
        let directory = failure { _ = try Store(path: scratch.path) }
        #expect("\(try #require(directory))".contains("is a directory"))
        try FileManager.default.createSymbolicLink(atPath: scratch.database, withDestinationPath: "/dev/null")
        let link = failure { _ = try Store(path: scratch.database) }
        #expect("\(try #require(link))".contains("is a symbolic link"))
    }

    @Test(arguments: [100, 4096, 20_000]) func whatIsNoDatabaseIsToldApart(size: Int) throws {
        let scratch = try ScratchDirectory()
        try Data(repeating: 0x55, count: size).write(to: URL(fileURLWithPath: scratch.database))
        let error = failure { _ = try Store(path: scratch.database) }
        guard case .corrupt? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect("\(try #require(error))".contains("put a backup in its place"))
    }

    @Test func aDamagedDatabaseIsTold() throws {
        let scratch = try ScratchDirectory()
        let store = try Store(path: scratch.database)
        try store.add(try makeTunnel(), by: byTest)
        try store.pool.writeWithoutTransaction { _ = try $0.checkpoint(.truncate) }
        store.close()
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: scratch.database))
        // Every page but the first, whose header says that it is a database.
        let size = try file.seekToEnd()
        try file.seek(toOffset: 4096)
        file.write(Data(repeating: 0xaa, count: Int(size) - 4096))
        try file.close()
        let error = failure { _ = try Store(path: scratch.database).definitions() }
        guard case .corrupt? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    /// They are there when the disk is full; and another database in this one's place is not taken for this one.
    @Test func theFilesBesideItStayAndSayNothing() throws {
        let scratch = try ScratchDirectory()
        let store = try Store(path: scratch.database)
        let backup = scratch.path + "/backup.db"
        try store.backup(to: backup)
        try store.add(try makeTunnel(), by: byTest)
        store.close()
        let log = try FileManager.default.attributesOfItem(atPath: scratch.database + "-wal")
        // Not empty to GRDB, and empty to SQLite.
        #expect(log[.size] as? Int == 1)
        #expect(FileManager.default.fileExists(atPath: scratch.database + "-shm"))
        try FileManager.default.removeItem(atPath: scratch.database)
        try FileManager.default.moveItem(atPath: backup, toPath: scratch.database)
        #expect(try Store(path: scratch.database).definitions().tunnels.isEmpty)
    }

    /// Who waits in vain for a lock has waited for those who come next.
    @Test func aLockIsWaitedForOnce() throws {
        let scratch = try ScratchDirectory()
        let store = try Store(path: scratch.database, busyTimeout: 3)
        let other = try DatabaseQueue(path: scratch.database)
        try other.inDatabase { db in
            try db.execute(sql: "BEGIN IMMEDIATE")
            let clock = ContinuousClock()
            let first = clock.measure { #expect(failure { try store.requireWritable() } == .locked(path: store.path)) }
            let second = clock.measure { #expect(failure { try store.requireWritable() } == .locked(path: store.path)) }
            #expect(second * 2 < first, "\(first), then \(second)")
            try db.execute(sql: "ROLLBACK")
        }
        try store.requireWritable()
    }

    @Test func aLaterVersionsDatabaseIsLeftAlone() throws {
        let scratch = try ScratchDirectory()
        let store = try Store(path: scratch.database)
        try store.sql("INSERT INTO grdb_migrations VALUES ('9999-future')")
        store.close()
        let error = failure { _ = try Store(path: scratch.database) }
        #expect(error == .newerSchema(path: scratch.database))
    }

    @Test func aLockIsToldWithWhatToDo() throws {
        let scratch = try ScratchDirectory()
        let store = try Store(path: scratch.database, busyTimeout: 0.05)
        let shell = try DatabaseQueue(path: scratch.database)
        let definition = try makeTunnel()
        let error = try shell.inDatabase { db in
            try db.execute(sql: "BEGIN IMMEDIATE")
            defer { try? db.execute(sql: "ROLLBACK") }
            return failure { try store.add(definition, by: byTest) }
        }
        #expect(error == .locked(path: scratch.database))
        #expect("\(try #require(error))".contains("end its transaction"))
        // And once the lock is gone, it works.
        try store.add(definition, by: byTest)
        #expect(try store.definitions().tunnels.count == 1)
    }

    /// A batch of history can wait; whoever changes a tunnel waits for it.
    @Test func historyDoesNotWaitLongForALock() throws {
        let scratch = try ScratchDirectory()
        let store = try Store(path: scratch.database, busyTimeout: 60)
        let writer = HistoryWriter(store)
        _ = try writer.begin(instance: "one", now: noon)
        let event = HistoryEvent(LinkSubject(tunnel: "a", link: "b"), at: noon, .defined(grace: 1000))
        let shell = try DatabaseQueue(path: scratch.database)
        let (error, time) = try shell.inDatabase { db in
            try db.execute(sql: "BEGIN IMMEDIATE")
            defer { try? db.execute(sql: "ROLLBACK") }
            var error: StoreError?
            let time = ContinuousClock().measure {
                error = failure { try writer.record([event], eventsRead: 1, alive: noon, now: noon) }
            }
            return (error, time)
        }
        #expect(error == .locked(path: scratch.database) && time < .seconds(30), "\(time)")
        try writer.record([event], eventsRead: 1, alive: noon, now: noon)
        #expect(try store.currentStates().count == 1)
        let timeout = try store.pool.writeWithoutTransaction { try Int.fetchOne($0, sql: "PRAGMA busy_timeout") }
        #expect(timeout == 60_000)
    }

    /// What would be written now would be gone with the process; what was there can still be saved.
    @Test func aDatabaseThatWasRemovedIsNotWrittenAnyMore() throws {
        let scratch = try ScratchDirectory()
        let store = try Store(path: scratch.database)
        try store.add(try makeTunnel(), by: byTest)
        try FileManager.default.removeItem(atPath: scratch.database)
        let second = try makeTunnel("second", port: 7000)
        #expect(failure { try store.add(second, by: byTest) } == .removed(path: scratch.database))
        #expect(try store.definitions().tunnels.count == 1)
        let copy = scratch.path + "/saved.db"
        try store.backup(to: copy)
        #expect(try Store(path: copy).definitions().tunnels.map(\.definition.name.text) == ["acme"])
        // Another file in its place is not taken for it.
        try FileManager.default.copyItem(atPath: copy, toPath: scratch.database)
        #expect(failure { try store.add(second, by: byTest) } == .removed(path: scratch.database))
    }

    @Test func aDatabaseThatMustBeThereIsNotMadeAnew() throws {
        let scratch = try ScratchDirectory()
        let error = failure { _ = try Store(path: scratch.database, mustExist: true) }
        #expect("\(try #require(error))".contains("mlvpn.db: was removed; "))
        #expect(!FileManager.default.fileExists(atPath: scratch.database))
        try Store(path: scratch.database).close()
        #expect(try Store(path: scratch.database, mustExist: true).definitions() == LoadedDefinitions())
    }

    @Test(arguments: [
        (ResultCode.SQLITE_READONLY, "cannot be written"), (.SQLITE_CANTOPEN, "cannot be opened"),
        (.SQLITE_FULL, "no space left"), (.SQLITE_NOTADB, "no database"), (.SQLITE_BUSY, "locked by another process"),
    ]) func everyFailureOfTheFileSaysWhatToDo(code: ResultCode, expected: String) {
        let error = StoreError(DatabaseError(resultCode: code, message: "why"), path: "/x/mlvpn.db")
        #expect("\(error)".contains(expected))
        #expect("\(error)".contains("/x/mlvpn.db"))
    }

    @Test func theFileIsItsOwnersAlone() throws {
        let scratch = try ScratchDirectory()
        let store = try Store(path: scratch.database)
        try store.add(try makeTunnel(), by: byTest)
        for file in ["mlvpn.db", "mlvpn.db-wal"] {
            let attributes = try FileManager.default.attributesOfItem(atPath: "\(scratch.path)/\(file)")
            #expect(attributes[.posixPermissions] as? Int == 0o600, "\(file)")
        }
    }

    @Test func anOlderVersionsDatabaseIsBroughtUpToDate() throws {
        let scratch = try ScratchDirectory()
        let old = try DatabaseQueue(path: scratch.database)
        try Schema.migrator.migrate(old, upTo: "0003-ports")
        try old.writeWithoutTransaction { db in
            try db.execute(
                sql: """
                    INSERT INTO tunnels (name, interface) VALUES ('acme', 'ml0');
                    INSERT INTO secrets VALUES (1, CAST('secret' AS BLOB));
                    INSERT INTO links (tunnel_id, name, bind_port) VALUES (1, 'adsl', 5080);
                    INSERT INTO series (tunnel, link, retired_at) VALUES ('acme', '', NULL), ('acme', 'adsl', NULL),
                        ('acme', 'lte', 1), ('gone', '', NULL), ('gone', 'adsl', NULL);
                    INSERT INTO intervals (series_id, state, started_at)
                    SELECT id, 'up', 1 FROM series WHERE retired_at IS NULL;
                    PRAGMA foreign_keys = OFF;
                    INSERT INTO secrets VALUES (9, CAST('left behind' AS BLOB));
                    """)
        }
        try old.close()
        let store = try Store(path: scratch.database)
        #expect(try store.definitions().tunnels.map(\.definition.name.text) == ["acme"])
        let secrets = try store.pool.read { try Int64.fetchAll($0, sql: "SELECT tunnel_id FROM secrets") }
        #expect(secrets == [1])
        // The ghosts of a version that left some are laid when history is taken up.
        _ = try HistoryWriter(store).begin(instance: "new", now: noon)
        #expect(try store.currentStates().keys.map(\.link) == ["adsl"])
        #expect(
            try store.query("SELECT tunnel_id FROM series WHERE retired_at IS NULL").rows
                == [[.integer(1)], [.integer(1)]])
    }

    @Test func openingAgainFindsWhatWasStored() throws {
        let scratch = try ScratchDirectory()
        let tunnel = try makeRichTunnel()
        let first = try Store(path: scratch.database)
        try first.add(tunnel, by: byTest)
        first.close()
        #expect(try Store(path: scratch.database).definitions().tunnels.map(\.definition) == [tunnel])
    }
}
