import NIOCore

#if TLS
import NIOSSL
#endif

/// TLS for the API on TCP. The package's trait TLS, on by default, brings it in; without it, a build takes half as long.
struct ServerTLS: Sendable {
    #if TLS
    private let context: NIOSSLContext
    #endif

    /// From PEM files.
    init(certificate: String, key: String) throws {
        #if TLS
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) },
            privateKey: .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)))
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        context = try NIOSSLContext(configuration: configuration)
        #else
        throw ControlError("this mlvpn-control was built without TLS; build it with deploy/build")
        #endif
    }

    func add(to pipeline: ChannelPipeline.SynchronousOperations) throws {
        #if TLS
        try pipeline.addHandler(NIOSSLServerHandler(context: context))
        #endif
    }
}
