import GRDBSQLite
import Glibc
import TunnelModel

extension Store {
    /// Bytes that the values of one answer may have.
    static let maximumAnswerBytes = 32 << 20

    /// Runs one SELECT of an operator's on a connection of its own that can change nothing and see no password.
    ///
    /// - Parameters:
    ///   - seconds: after which it is given up.
    ///   - limit: rows, beyond which it is refused; so it is beyond ``maximumAnswerBytes``.
    public func query(_ sql: String, limit: Int = maximumRows, seconds: Int = 10) throws(StoreError) -> QueryTable {
        var handle: OpaquePointer?
        let opened = sqlite3_open_v2(path, &handle, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, nil)
        defer { sqlite3_close_v2(handle) }
        guard opened == SQLITE_OK, let handle else {
            throw .inaccessible(path: path, detail: String(cString: sqlite3_errstr(opened)))
        }
        sqlite3_busy_timeout(handle, 2000)
        // One function's work is not interrupted: what it may be given is bounded.
        sqlite3_limit(handle, SQLITE_LIMIT_LENGTH, 4 << 20)
        sqlite3_limit(handle, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000)
        // These two make themselves known once, which is not for the operator's statement to do.
        sqlite3_exec(handle, "SELECT 1 FROM json_each('[]'), json_tree('[]')", nil, nil, nil)
        sqlite3_set_authorizer(handle, { _, action, first, second, _, _ in authorize(action, first, second) }, nil)
        var deadline = time(nil) + seconds
        return try withUnsafeMutablePointer(to: &deadline) { deadline throws(StoreError) in
            let isLate: @convention(c) (UnsafeMutableRawPointer?) -> Int32 = { deadline in
                guard let deadline else { return 0 }
                return time(nil) > deadline.assumingMemoryBound(to: time_t.self).pointee ? 1 : 0
            }
            sqlite3_progress_handler(handle, 10_000, isLate, deadline)
            defer { sqlite3_progress_handler(handle, 0, nil, nil) }
            return try run(sql, on: handle, limit: limit, seconds: seconds)
        }
    }

    private func run(
        _ sql: String, on handle: OpaquePointer, limit: Int, seconds: Int
    ) throws(StoreError) -> QueryTable {
        if sql.utf8.contains(0) { throw Self.refusal("the statement holds a NUL byte") }
        var statement: OpaquePointer?
        var hasMore = false
        let prepared = sql.withCString { text in
            var tail: UnsafePointer<CChar>?
            let result = sqlite3_prepare_v2(handle, text, -1, &statement, &tail)
            if result == SQLITE_OK, let tail { hasMore = Self.hasStatement(tail, handle) }
            return result
        }
        defer { sqlite3_finalize(statement) }
        guard prepared == SQLITE_OK else { throw failure(prepared, handle, seconds) }
        guard let statement else { throw Self.refusal("there is no statement; write one SELECT") }
        if hasMore { throw Self.refusal("there is more than one statement; give them one by one") }
        let width = sqlite3_column_count(statement)
        guard width > 0, sqlite3_stmt_readonly(statement) != 0 else {
            throw Self.refusal("only SELECT is allowed; definitions are changed by the other commands")
        }
        var table = QueryTable(
            columns: (0..<width).map { String(cString: sqlite3_column_name(statement, $0)) }, rows: [])
        var bytes = 0
        while true {
            switch sqlite3_step(statement) {
            case SQLITE_DONE: return table
            case SQLITE_ROW:
                guard table.rows.count < limit else {
                    throw Self.refusal("the answer has more than \(limit) rows; add a LIMIT or a WHERE")
                }
                let row = (0..<width).map { Cell(statement, column: $0) }
                bytes += row.reduce(0) { $0 + $1.size }
                guard bytes <= Self.maximumAnswerBytes else {
                    throw Self.refusal("the answer is longer than \(Self.maximumAnswerBytes >> 20) MiB; ask for less")
                }
                table.rows.append(row)
            case let code: throw failure(code, handle, seconds)
            }
        }
    }

    /// Whether there is more than space, semicolons and comments.
    private static func hasStatement(_ text: UnsafePointer<CChar>, _ handle: OpaquePointer) -> Bool {
        var text = text
        while text.pointee != 0 {
            var statement: OpaquePointer?
            var tail: UnsafePointer<CChar>?
            let result = sqlite3_prepare_v2(handle, text, -1, &statement, &tail)
            sqlite3_finalize(statement)
            guard result == SQLITE_OK, statement == nil, let tail, tail > text else { return true }
            text = tail
        }
        return false
    }

    private func failure(_ code: Int32, _ handle: OpaquePointer, _ seconds: Int) -> StoreError {
        let text = String(cString: sqlite3_errmsg(handle))
        return switch code & 0xff {
        case SQLITE_BUSY, SQLITE_LOCKED: .locked(path: path)
        case SQLITE_CORRUPT, SQLITE_NOTADB: .corrupt(path: path, detail: text)
        case SQLITE_INTERRUPT: Self.refusal("it took more than \(seconds) seconds; ask for less")
        case SQLITE_AUTH:
            Self.refusal("\(text); only SELECT is allowed, and passwords are shown by 'show --secrets' alone")
        default: Self.refusal(text)
        }
    }

    private static func refusal(_ problem: String) -> StoreError { .refused([.init("sql", problem)]) }
}

extension Cell {
    /// Bytes that it takes, more or less.
    fileprivate var size: Int { if case .text(let text) = self { 16 + text.utf8.count } else { 16 } }

    fileprivate init(_ statement: OpaquePointer, column: Int32) {
        switch sqlite3_column_type(statement, column) {
        case SQLITE_INTEGER: self = .integer(sqlite3_column_int64(statement, column))
        case SQLITE_FLOAT: self = .real(sqlite3_column_double(statement, column))
        case SQLITE_TEXT: self = .text(sqlite3_column_text(statement, column).map { String(cString: $0) } ?? "")
        case SQLITE_BLOB: self = .bytes(Int(sqlite3_column_bytes(statement, column)))
        default: self = .null
        }
    }
}

/// Reading any table but those that give passwords away, and calling functions.
private func authorize(_ action: Int32, _ first: UnsafePointer<CChar>?, _ second: UnsafePointer<CChar>?) -> Int32 {
    switch action {
    case SQLITE_SELECT, SQLITE_RECURSIVE: return SQLITE_OK
    case SQLITE_READ:
        // sqlite_dbpage is the file itself, page by page.
        let table = first.map { String(cString: $0).lowercased() } ?? ""
        return table == "secrets" || table.hasPrefix("sqlite_dbpage") ? SQLITE_DENY : SQLITE_OK
    case SQLITE_FUNCTION:
        let name = second.map { String(cString: $0).lowercased() } ?? ""
        return ["load_extension", "readfile", "writefile", "fts3_tokenizer"].contains(name) ? SQLITE_DENY : SQLITE_OK
    default: return SQLITE_DENY
    }
}
