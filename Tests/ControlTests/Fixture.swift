import AdminAPI
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import LinuxSystem
import Logging
import NIOCore
import ProcessChannel
import Store
import Synchronization
import Testing
import TunnelModel

@testable import Control

/// A control process without its process: the routes of the API over a real store, and a supervisor that does at once
/// what it is told.
final class Fixture: Sendable {
    let store: Store
    let directory: TunnelDirectory
    let routes: APIRoutes
    let state: MappedState
    private let path: String
    private let supervisor: FakeSupervisor

    /// - Parameter wall: what the directory takes for the time, in milliseconds since 1970.
    init(
        host: HostResources = .unused, wall: @escaping @Sendable () -> Int64 = Clock.wallMilliseconds
    ) async throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("control-\(UUID())").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        store = try Store(path: path + "/mlvpn.db")
        let map = try MemoryFile.create(name: "state", size: StateMap.size)
        state = MappedState(base: try MemoryFile.map(map.raw, size: StateMap.size, writable: true))
        let hub = EventHub()
        let recorder = Recorder(store: store, instance: "test", retention: Retention(), logger: logger)
        let supervisor = FakeSupervisor(state)
        self.supervisor = supervisor
        let reader = StateReader(state: state)
        directory = TunnelDirectory(
            store: store, state: reader, recorder: recorder, hub: hub, logger: logger, host: host, wall: wall,
            send: { supervisor.receive($0, $1) })
        supervisor.directory.withLock { [directory] in $0 = directory }
        routes = APIRoutes(
            directory: directory, store: store, recorder: recorder, hub: hub, state: reader, logger: logger,
            stateDirectory: path)
        _ = try await recorder.begin(now: wall())
        try await directory.start(eventsRead: 0)
    }

    deinit {
        store.close()
        try? FileManager.default.removeItem(atPath: path)
    }

    /// The directory of a control process that comes after this one.
    func successor(
        _ recorder: Recorder? = nil, host: HostResources = .unused, send: @escaping @Sendable (ControlRequest) -> Void
    ) -> TunnelDirectory {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        return TunnelDirectory(
            store: store, state: StateReader(state: state),
            recorder: recorder
                ?? Recorder(store: store, instance: "test", retention: Retention(), logger: logger),
            hub: EventHub(), logger: logger, host: host, send: { request, _ in send(request) })
    }

    /// What the supervisor was told, in order.
    var requests: [ControlRequest] { supervisor.requests.withLock { $0 } }

    /// Writes records of the engine's for a link.
    func show(_ tunnel: String, _ link: String, _ change: (inout StateMap.LinkRecord) -> Void) async throws {
        let entry = try #require(await directory.entries.values.first { $0.definition.name.text == tunnel })
        let slot = try #require(entry.linkSlots.first { $0.key.text == link }?.value)
        change(&(try #require(state.link(slot)).pointee))
    }

    struct Answer {
        var status: Int
        var headers: HTTPFields
        var body: [UInt8]

        var json: JSONValue { (try? JSON.decode(JSONValue.self, from: body)) ?? .null }
        var text: String { String(decoding: body, as: UTF8.self) }
        var problem: Problem? { try? JSON.decode(Problem.self, from: body) }
    }

    func send(
        _ method: HTTPRequest.Method, _ path: String, _ body: String = "", headers: HTTPFields = [:]
    ) async throws -> Answer {
        try await send(method, path, bytes: Array(body.utf8), headers: headers)
    }

    func send(
        _ method: HTTPRequest.Method, _ path: String, bytes: [UInt8], headers: HTTPFields = [:]
    ) async throws -> Answer {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let request = Request(
            head: HTTPRequest(method: method, scheme: nil, authority: nil, path: path, headerFields: headers),
            body: RequestBody(buffer: ByteBuffer(bytes: bytes)))
        let context = APIContext(source: APIContext.Source(logger: logger, uid: 1000))
        let response: Response
        do { response = try await routes.responder().respond(to: request, context: context) } catch {
            response = problemResponse(for: error, logger)
        }
        let collected = Collected()
        try await response.body.write(Collector(collected: collected))
        return Answer(
            status: response.status.code, headers: response.headers, body: collected.bytes.withLock { $0 })
    }

    @discardableResult
    func addTunnel(_ name: String, port: Int) async throws -> Answer {
        let answer = try await send(
            .post, "/v1/tunnels",
            """
            {"name": "\(name)", "password": "secret of \(name)", "links": ["adsl,bind=127.0.0.1:\(port)", "lte,bind=:\(port + 1)"]}
            """)
        #expect(answer.status == 201, "\(answer.text)")
        return answer
    }
}

private final class Collected: Sendable {
    let bytes = Mutex<[UInt8]>([])
}

private struct Collector: ResponseBodyWriter {
    let collected: Collected

    mutating func write(_ buffer: ByteBuffer) async throws {
        collected.bytes.withLock { $0 += buffer.readableBytesView }
    }

    consuming func finish(_ trailingHeaders: HTTPFields?) async throws {}
}

/// Gives tunnels their places and acknowledges them; the engine has them at once.
private final class FakeSupervisor: Sendable {
    let requests = Mutex<[ControlRequest]>([])
    let directory = Mutex<TunnelDirectory?>(nil)
    private let state: MappedState
    private let slots = Mutex<[Int64: [LinkName: Slot]]>([:])

    init(_ state: MappedState) { self.state = state }

    func receive(_ request: ControlRequest, _ descriptors: [Descriptor]) {
        requests.withLock { $0.append(request) }
        switch request {
        case .apply(let id, let generation, let tunnel):
            let links = tunnel.definition.links.enumerated().map { index, link in
                LinkSlot(link: link.name, slot: Slot(id) * 16 + Slot(index))
            }
            let slot = Slot(id)
            state.tunnel(slot)?.pointee.generation = generation
            for link in links { state.link(link.slot)?.pointee.generation = generation }
            let directory = directory.withLock { $0 }
            Task {
                await directory?.handle(.assigned(id: id, generation: generation, slot: slot, linkSlots: links))
            }
        case .capture(_, _, let limits):
            // An engine that has seen two packets, and ends the capture.
            guard let output = descriptors.first?.take() else { return }
            for number: UInt8 in [1, 2] where limits.packets >= UInt32(number) {
                let record = [UInt8](repeating: 0, count: 16) + [number, number]
                _ = record.withUnsafeBytes { write(output.raw, $0.baseAddress, $0.count) }
            }
        case .remove, .ready, .debug, .cannotStart, .signalled: break
        }
    }
}
