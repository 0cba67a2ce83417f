import LinuxSystem
import ProcessChannel
import Testing
import TunnelModel
import TunnelTestKit

@testable import Helper

/// A link's socket and its peer's addresses, as definitions and names change.
struct LinkSocketTests {
    private final class Surroundings {
        let loop: EventLoop
        var told: [String] = []
        var problems: [String] = []
        var questions: [(isIPv6: Bool?, done: (Result<[IPAddress], LookupFailure>) -> Void)] = []

        init() throws { loop = try EventLoop() }

        func socket(_ words: String, mode: TunnelMode = .client) throws -> LinkSocket {
            LinkSocket(
                try LinkSpec(words).definition, mode: mode,
                surroundings: .init(
                    loop: loop,
                    resolve: { [unowned self] (_, isIPv6, done) throws(SystemError) in
                        questions.append((isIPv6, done))
                    },
                    tell: { [unowned self] notice in
                        switch notice {
                        case .socket(_, let isIPv6): told.append(isIPv6 ? "IPv6 socket" : "IPv4 socket")
                        case .resolved(let addresses): told.append("\(addresses)")
                        }
                    },
                    report: { [unowned self] _, text in if let text { problems.append(text) } }))
        }

        func answer(_ addresses: String...) throws {
            try #require(questions.last).done(.success(addresses.compactMap { IPAddress($0) }))
        }

        func turn(until isDone: () -> Bool) throws {
            let limit = Clock.now() + .seconds(10)
            while !isDone() {
                try #require(Clock.now() < limit)
                try loop.turn()
            }
        }
    }

    /// A port of an address that a socket has.
    private struct TakenPort: ~Copyable {
        private let socket: OwnedDescriptor
        let port: UInt16

        init(of address: String) throws {
            let socket = try UDPSocket.open(
                bind: SocketAddress(try #require(IPAddress(address)), port: 0).system, description: "a port")
            port = SocketAddress(system: try UDPSocket.localAddress(socket.raw)).port
            self.socket = socket
        }
    }

    @Test func aNewPortIsTriedAtOnceHoweverLongTheOldOneWasTaken() throws {
        let around = try Surroundings()
        let taken = try TakenPort(of: "127.0.0.1")
        let socket = try around.socket("adsl,bind=127.0.0.1:\(taken.port)", mode: .server)
        socket.proceed()
        #expect(around.told.isEmpty && around.problems.first?.contains("ss -lunp") == true, "\(around.problems)")
        socket.configure(try LinkSpec("adsl,bind=127.0.0.1").definition, mode: .server)
        #expect(around.told == ["IPv4 socket"])
    }

    @Test func aSocketWithoutAnAddressOfItsOwnFollowsThePeersName() throws {
        let around = try Surroundings()
        let socket = try around.socket("adsl,remote=peer.example:5080")
        socket.proceed()
        try around.answer("192.0.2.1")
        #expect(around.told.first == "IPv4 socket")
        // Another name, which has no IPv4 address.
        socket.configure(try LinkSpec("adsl,remote=other.example:5080").definition, mode: .client)
        #expect(around.questions.count == 2)
        #expect(around.questions.allSatisfy { $0.isIPv6 == nil })
        around.told = []
        try around.answer("2001:db8::1", "2001:db8::2")
        #expect(around.told.first == "IPv6 socket")
        #expect(around.told.last?.contains("2001:db8::2") == true, "\(around.told)")
        // Both, and no answer: the other one is tried, and stays when something else changes.
        around.told = []
        // More often than once a second it is not asked.
        try waitUntil("another question", within: .seconds(10)) {
            socket.resolveAgain()
            return around.questions.count > 2
        }
        try around.answer("192.0.2.1", "2001:db8::1")
        #expect(around.told.first == "IPv4 socket" && around.told.last?.contains("192.0.2.1") == true, "\(around.told)")
        around.told = []
        socket.configure(try LinkSpec("adsl,remote=other.example:5080,limit=20mbit").definition, mode: .client)
        #expect(around.told.isEmpty, "\(around.told)")
    }

    /// Of two families one may lead nowhere.
    @Test func aPeerThatDoesNotAnswerIsTriedInItsOtherFamily() throws {
        let around = try Surroundings()
        let socket = try around.socket("adsl,remote=peer.example:5080")
        socket.proceed()
        try around.answer("2001:db8::1", "192.0.2.1")
        #expect(around.told.first == "IPv6 socket")
        for (round, family) in [(1, "IPv4 socket"), (2, "IPv6 socket")] {
            around.told = []
            try waitUntil("question \(round)", within: .seconds(10)) {
                socket.resolveAgain()
                return around.questions.count > round
            }
            try around.answer("2001:db8::1", "192.0.2.1")
            #expect(around.told.first { $0.hasSuffix("socket") } == family, "\(round): \(around.told)")
        }
        // Where there is no other, it stays.
        for round in [3, 4] {
            around.told = []
            try waitUntil("question \(round)", within: .seconds(10)) {
                socket.resolveAgain()
                return around.questions.count > round
            }
            try around.answer("2001:db8::1")
            #expect(!around.told.contains { $0.hasSuffix("socket") }, "\(around.told)")
        }
    }

    /// The answer comes when the link is up again: it is left as it is, now and when another name is given.
    @Test func aLinkThatIsUpStaysInItsFamily() throws {
        let around = try Surroundings()
        let socket = try around.socket("adsl,remote=peer.example:5080")
        socket.proceed()
        try around.answer("192.0.2.1", "2001:db8::1")
        #expect(around.told.first == "IPv4 socket")
        try waitUntil("another question", within: .seconds(10)) {
            socket.resolveAgain()
            return around.questions.count > 1
        }
        socket.isUp = true
        around.told = []
        try around.answer("192.0.2.1", "2001:db8::1")
        #expect(!around.told.contains { $0.hasSuffix("socket") }, "\(around.told)")
        try waitUntil("another question", within: .seconds(10)) {
            socket.resolveAgain()
            return around.questions.count > 2
        }
        try around.answer("2001:db8::1")
        #expect(around.told.allSatisfy { !$0.hasSuffix("socket") && !$0.contains("2001") }, "\(around.told)")
        socket.isUp = false
        socket.configure(try LinkSpec("adsl,remote=other.example:5080").definition, mode: .client)
        around.told = []
        try around.answer("192.0.2.2", "2001:db8::2")
        #expect(!around.told.contains { $0.hasSuffix("socket") }, "\(around.told)")
    }

    /// A port that is taken in one family may be free in the other, and a host may have no IPv6 at all.
    @Test func aFamilyThatCannotBeBoundIsLeft() throws {
        let around = try Surroundings()
        let taken = try TakenPort(of: "::1")
        let socket = try around.socket("adsl,bind=:\(taken.port),remote=peer.example:5080")
        socket.proceed()
        // The wildcard is not free either.
        try around.answer("2001:db8::1", "192.0.2.1")
        try around.turn { around.told.contains("IPv4 socket") }
        // Told last of the addresses, wherever the socket came in between.
        #expect(around.told.last { !$0.hasSuffix("socket") }?.contains("192.0.2.1") == true, "\(around.told)")
    }

    /// Its present socket serves it until it has the port that it is to have.
    @Test func aLinkThatIsUpWaitsForItsPortAndLeavesNoFamily() throws {
        let around = try Surroundings()
        let taken = try TakenPort(of: "0.0.0.0")
        let socket = try around.socket("adsl,remote=peer.example:5080")
        socket.proceed()
        try around.answer("192.0.2.1", "2001:db8::1")
        #expect(around.told.first == "IPv4 socket")
        socket.isUp = true
        around.told = []
        socket.configure(try LinkSpec("adsl,bind=:\(taken.port),remote=peer.example:5080").definition, mode: .client)
        try around.turn { !around.problems.isEmpty || around.told.contains { $0.hasSuffix("socket") } }
        #expect(around.problems.last?.contains("bind: ") == true, "\(around.problems)")
        #expect(around.told.allSatisfy { !$0.hasSuffix("socket") && !$0.contains("2001") }, "\(around.told)")
    }

    @Test func aNameWhoseAddressIsNotOursIsLookedUpAgain() throws {
        let around = try Surroundings()
        let socket = try around.socket("adsl,bind=own.example", mode: .server)
        socket.proceed()
        try around.answer("192.0.2.1")
        #expect(around.problems.last?.contains("no interface has this address") == true, "\(around.problems)")
        try around.turn { around.questions.count > 1 }
        try around.answer("127.0.0.1")
        #expect(around.told == ["IPv4 socket"])
    }

    @Test func anAddressOfItsOwnDecidesWhatIsAskedFor() throws {
        let around = try Surroundings()
        let socket = try around.socket("adsl,bind=127.0.0.1,remote=peer.example:5080")
        socket.proceed()
        #expect(around.told == ["IPv4 socket"])
        #expect(around.questions.map(\.isIPv6) == [false])
        try around.answer("192.0.2.1")
        #expect(around.told.count == 2)
    }
}
