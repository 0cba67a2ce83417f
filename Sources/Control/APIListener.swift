import AdminAPI
import Foundation
import TunnelModel

/// Where and to whom the API is served on TCP; read before root is given up, since keys are root's.
struct APIListener: Sendable {
    var host: String
    var port: Int
    var tokens: APITokenFile
    /// Nil on loopback addresses alone.
    var tls: ServerTLS?

    /// Nil when `config` asks for none.
    init?(_ config: DaemonConfig) throws {
        guard let listen = config.apiListen, let tokenFile = config.apiTokenFile else { return nil }
        (host, port) = (listen.host.description, Int(listen.port))
        guard let data = FileManager.default.contents(atPath: tokenFile) else {
            throw ControlError("api_token_file: \(tokenFile) cannot be read")
        }
        do { tokens = try APITokenFile(String(decoding: data, as: UTF8.self)) } catch {
            throw ControlError("api_token_file: \(tokenFile): \(error)")
        }
        guard let certificate = config.apiTLSCertificate, let key = config.apiTLSKey else { return }
        do { tls = try ServerTLS(certificate: certificate, key: key) } catch {
            throw ControlError("api_tls_certificate, api_tls_key: \(certificate), \(key): \(error)")
        }
    }
}
