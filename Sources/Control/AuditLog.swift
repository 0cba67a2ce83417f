import Logging
import Store

/// Administrative changes in the log, beside the database's own record of them.
enum AuditLog {
    static func write(_ entry: AuditEntry, to logger: Logger) {
        var metadata: Logger.Metadata = ["action": "\(entry.action)", "tunnel": "\(entry.tunnel)"]
        metadata["uid"] = entry.uid.map { "\($0)" }
        metadata["via"] = entry.via.map { "\($0)" }
        if !entry.detail.isEmpty { metadata["detail"] = "\(entry.detail)" }
        metadata["old"] = entry.old.map { "\($0)" }
        metadata["new"] = entry.new.map { "\($0)" }
        logger.notice("administrative change", metadata: metadata)
    }
}
