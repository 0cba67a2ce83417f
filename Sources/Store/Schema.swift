import GRDB

/// The schema: the SQL files of `db/`, embedded in the executable.
enum Schema {
    /// In order; a migration that has been released never changes.
    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("0001-definitions", embedded: PackageResources._001_definitions_sql)
        migrator.registerMigration("0002-history", embedded: PackageResources._002_history_sql)
        migrator.registerMigration("0003-ports", embedded: PackageResources._003_ports_sql)
        migrator.registerMigration(
            "0004-series-of-tunnels", embedded: PackageResources._004_series_of_tunnels_sql)
        migrator.registerMigration("0005-deletion", embedded: PackageResources._005_deletion_sql)
        migrator.registerMigration("0006-thinning", embedded: PackageResources._006_thinning_sql)
        migrator.registerMigration("0007-filters", embedded: PackageResources._007_filters_sql)
        migrator.registerMigration(
            "0008-names-and-versions", embedded: PackageResources._008_names_and_versions_sql)
        return migrator
    }

    /// Replaces the views when their text has changed. Views hold no data, so they need no migration.
    static func installViews(_ db: Database) throws {
        if try hasCurrentViews(db) { return }
        for name in try String.fetchAll(db, sql: "SELECT name FROM sqlite_schema WHERE type = 'view'") {
            try db.execute(sql: "DROP VIEW \(name.quotedDatabaseIdentifier)")
        }
        try db.execute(sql: viewsText)
        try db.execute(
            sql:
                "INSERT INTO settings (name, value) VALUES ('views', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            arguments: [viewsText])
    }

    static func hasCurrentViews(_ db: Database) throws -> Bool {
        try String.fetchOne(db, sql: "SELECT value FROM settings WHERE name = 'views'") == viewsText
    }

    private static var viewsText: String { String(decoding: PackageResources.views_sql, as: UTF8.self) }
}

extension DatabaseMigrator {
    fileprivate mutating func registerMigration(_ name: String, embedded bytes: [UInt8]) {
        registerMigration(name, foreignKeyChecks: .immediate) { db in
            try db.execute(sql: String(decoding: bytes, as: UTF8.self))
        }
    }
}
