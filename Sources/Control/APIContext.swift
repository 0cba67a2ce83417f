import AdminAPI
import Foundation
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import Store
import TunnelModel

/// What belongs to one request.
struct APIContext: RequestContext {
    struct Source: RequestContextSource {
        var logger: Logger
        /// The user at the other end, on the control socket.
        var uid: UInt32?
        /// The token, elsewhere.
        var via: String?
    }

    var coreContext: CoreRequestContextStorage
    private let uid: UInt32?
    private let via: String?

    init(source: Source) {
        coreContext = CoreRequestContextStorage(source: source)
        uid = source.uid
        via = source.via
    }

    /// The tunnel that the path names.
    func tunnel() throws -> String {
        let name = try part("name")
        guard name.isASCII else { throw StoreError.noSuchTunnel(name) }
        return name
    }

    /// The link that the path names.
    func link() throws -> String {
        let name = try part("link")
        guard name.isASCII else { throw StoreError.noSuchLink(tunnel: try tunnel(), link: name) }
        return name
    }

    /// What a client has escaped is meant as it was.
    private func part(_ key: String) throws -> String {
        let text = try parameters.require(key)
        return text.removingPercentEncoding ?? text
    }

    /// What this request does, for the audit.
    func change(_ action: String, detail: String = "") -> Change {
        Change(uid: uid, via: via, action: action, detail: detail)
    }
}

extension String {
    /// Names are. Swift compares strings as Unicode does, to which the Kelvin sign is a K: others are no name.
    var isASCII: Bool { utf8.allSatisfy { $0 < 0x80 } }
}

extension Problem {
    /// What the client is told of an error.
    init(_ error: any Error) {
        switch error {
        case let error as Problem: self = error
        case let error as StoreError: self.init(store: error)
        case let error as DefinitionError: self.init(store: .refused([error]))
        case let error as DecodingError: self.init(.malformed, "the body is no such JSON: \(Self.text(of: error))")
        case is NIOTooManyBytesError:
            self.init(.tooLarge, "the body is longer than \(APIServer.maximumBody) bytes")
        case let error as HTTPError where error.status == .notFound:
            self.init(.notFound, "no such path; the API is documented as /v1/…")
        case let error as HTTPError: self.init(.malformed, error.body ?? error.status.reasonPhrase)
        default: self.init(.failed, "\(error)")
        }
    }

    private init(store error: StoreError) {
        let kind: Kind
        var problems: [FieldProblem]?
        switch error {
        case .refused(let errors):
            kind = .refused
            problems = errors.map { FieldProblem(field: $0.field, problem: $0.problem) }
        case .noSuchTunnel: kind = .noSuchTunnel
        case .noSuchLink: kind = .noSuchLink
        case .conflict, .locked: kind = .conflict
        case .inaccessible, .full, .removed: kind = .unavailable
        case .corrupt, .newerSchema, .failed: kind = .failed
        }
        self.init(kind, error.description, errors: problems)
    }

    private static func text(of error: DecodingError) -> String {
        switch error {
        case .dataCorrupted(let context), .typeMismatch(_, let context), .valueNotFound(_, let context):
            let path = context.codingPath.map(\.stringValue).joined(separator: ".")
            return path.isEmpty ? context.debugDescription : "\(path): \(context.debugDescription)"
        case .keyNotFound(let key, _): return "\(key.stringValue) is missing"
        @unknown default: return "\(error)"
        }
    }
}

func problemResponse(for error: any Error, _ logger: Logger) -> Response {
    let problem = Problem(error)
    if problem.status >= 500 { logger.error("\(problem.detail)") }
    return problemResponse(problem)
}

func problemResponse(_ problem: Problem) -> Response {
    let body = (try? JSON.encode(problem)) ?? []
    return Response(
        status: .init(code: problem.status), headers: [.contentType: "application/problem+json"],
        body: .init(byteBuffer: ByteBuffer(bytes: body)))
}

extension Response {
    static func json(_ value: some Encodable, status: HTTPResponse.Status = .ok) throws -> Response {
        Response(
            status: status, headers: [.contentType: "application/json", .cacheControl: "no-store"],
            body: .init(byteBuffer: ByteBuffer(bytes: try JSON.encode(value) + [UInt8(ascii: "\n")])))
    }

    /// With a link to the page that begins after `cursor` (RFC 8288); nil: this is the last one.
    func linkingNext(_ cursor: String?, after request: Request) -> Response {
        guard let cursor, let link = HTTPField.Name("Link") else { return self }
        var query = request.uri.queryParameters.filter { $0.key != "cursor" }.map {
            "\(Self.escaped($0.key))=\(Self.escaped($0.value))"
        }
        query.append("cursor=\(Self.escaped(cursor))")
        var response = self
        response.headers[link] = "<\(request.uri.path)?\(query.joined(separator: "&"))>; rel=\"next\""
        return response
    }

    /// All but RFC 3986's unreserved characters.
    private static func escaped(_ text: some StringProtocol) -> String {
        let unreserved = CharacterSet(
            charactersIn: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
        return text.addingPercentEncoding(withAllowedCharacters: unreserved) ?? ""
    }

    static func text(_ text: String, type: String = "text/plain; charset=utf-8") -> Response {
        Response(status: .ok, headers: [.contentType: type], body: .init(byteBuffer: ByteBuffer(string: text)))
    }
}

extension Request {
    /// The body as a value; an empty one as `fallback`, if there is one.
    func decode<T: Decodable>(_ type: T.Type = T.self, whenEmpty fallback: T? = nil) async throws -> T {
        var buffer = try await body.collect(upTo: APIServer.maximumBody)
        let bytes = buffer.readBytes(length: buffer.readableBytes) ?? []
        if bytes.isEmpty {
            if let fallback { return fallback }
            throw Problem(.malformed, "the body is empty; a JSON object is expected")
        }
        return try JSON.decode(type, from: bytes)
    }

    /// A query parameter; nil when it is absent or empty.
    func parameter(_ name: String) -> String? {
        uri.queryParameters[Substring(name)].map(String.init).flatMap { $0.isEmpty ? nil : $0 }
    }

    /// The tunnel that the query names.
    func tunnel() throws -> String? {
        let name = parameter("tunnel")
        if let name, !name.isASCII { throw StoreError.noSuchTunnel(name) }
        return name
    }

    /// The link that the query names.
    func link() throws -> String? {
        let name = parameter("link")
        if let name, !name.isASCII { throw StoreError.noSuchLink(tunnel: try tunnel() ?? "", link: name) }
        return name
    }

    func flag(_ name: String) throws -> Bool {
        switch parameter(name) {
        case nil, "0", "false", "no": return false
        case "1", "true", "yes": return true
        case let other?: throw Problem(.malformed, "\(name): \(quoted(other)) is neither 1 nor 0")
        }
    }

    /// How many items a page of a list has at most.
    func limit(default value: Int = .max) throws -> Int {
        guard let text = parameter("limit") else { return value }
        guard let limit = Int(text), (1...100_000).contains(limit) else {
            throw Problem(.malformed, "limit: \(quoted(text)) is no number from 1 to 100000")
        }
        return limit
    }

    /// Where a page begins, for lists whose items have numbers; see ``Response/linkingNext(_:after:)``.
    func numericCursor() throws -> Int64? {
        guard let text = parameter("cursor") else { return nil }
        guard let number = Int64(text) else { throw Problem(.malformed, "cursor: \(quoted(text)) is none") }
        return number
    }

    /// One page of a list that is in the order of `name`, and whether there are more.
    func page<Item>(of items: [Item], name: (Item) -> String) throws -> (items: [Item], next: String?) {
        let limit = try limit()
        let cursor = parameter("cursor")
        let rest = items.drop { item in cursor.map { name(item) <= $0 } ?? false }
        let page = Array(rest.prefix(limit))
        return (page, page.count < rest.count ? page.last.map(name) : nil)
    }

    /// The version in If-Match, which alone may be changed; nil: any (RFC 9110, section 13.1.1).
    func expectedVersion() throws -> Int64? {
        guard let text = headers[.ifMatch], text != "*" else { return nil }
        guard let version = Int64(text.trimmingCharacters(in: CharacterSet(charactersIn: "\""))) else {
            throw Problem(.malformed, "If-Match: \(quoted(text)) is no version")
        }
        return version
    }
}
