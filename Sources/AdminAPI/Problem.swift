/// What went wrong, as RFC 9457 has it: `application/problem+json`.
public struct Problem: Error, Codable, Equatable, Sendable, CustomStringConvertible {
    /// Says which kind it is, for programs; one of ``Kind``.
    public var type: String
    /// Says the same, for people.
    public var title: String
    /// The HTTP status.
    public var status: Int
    /// What happened here, and what to do.
    public var detail: String
    /// Of a refused definition: each thing that is wrong.
    public var errors: [FieldProblem]?

    public struct FieldProblem: Codable, Equatable, Sendable {
        /// A flag's name, or a place: `link adsl1: bind`.
        public var field: String
        public var problem: String

        public init(field: String, problem: String) {
            self.field = field
            self.problem = problem
        }
    }

    public enum Kind: String, CaseIterable, Sendable {
        case malformed, unauthorized, forbidden, notFound = "not-found", noSuchTunnel = "no-such-tunnel", noSuchLink =
            "no-such-link"
        case wrongMethod = "wrong-method", refused, conflict, tooLarge = "too-large", unavailable, failed, usage,
            unreachable

        public var uri: String { "urn:mlvpn:problem:\(rawValue)" }

        public var title: String {
            switch self {
            case .malformed: "The request is malformed"
            case .unauthorized: "A token is needed"
            case .forbidden: "Not allowed"
            case .notFound: "There is no such resource"
            case .noSuchTunnel: "There is no such tunnel"
            case .noSuchLink: "There is no such link"
            case .wrongMethod: "The method is not one of this resource"
            case .refused: "Refused"
            case .conflict: "Conflict with a concurrent change"
            case .tooLarge: "The request is too large"
            case .unavailable: "Not available now"
            case .failed: "Failed"
            case .usage: "Wrong usage"
            case .unreachable: "The daemon cannot be reached"
            }
        }

        /// For what never crosses HTTP: what comes closest.
        public var status: Int {
            switch self {
            case .malformed, .usage: 400
            case .unauthorized: 401
            case .forbidden: 403
            case .notFound, .noSuchTunnel, .noSuchLink: 404
            case .wrongMethod: 405
            case .refused: 422
            case .conflict: 409
            case .tooLarge: 413
            case .unavailable, .unreachable: 503
            case .failed: 500
            }
        }

        /// mlvpn-admin's exit code.
        public var exitCode: Int32 {
            switch self {
            case .usage: 2
            case .noSuchTunnel, .noSuchLink: 3
            case .unreachable: 4
            case .conflict: 5
            default: 1
            }
        }
    }

    public init(_ kind: Kind, _ detail: String, errors: [FieldProblem]? = nil) {
        type = kind.uri
        title = kind.title
        status = kind.status
        self.detail = detail
        self.errors = errors
    }

    /// Nil for a type that this version does not know.
    public var kind: Kind? { Kind.allCases.first { $0.uri == type } }

    public var description: String { detail.isEmpty ? title : detail }
}
