// swift-tools-version:6.2
import PackageDescription

/// Every target of ours: Swift 6 mode, warnings are errors, those in C as well.
let settings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let cSettings: [CSetting] = [.enableWarning("all"), .enableWarning("extra"), .treatAllWarnings(as: .error)]

let package = Package(
    name: "mlvpn-concentrator",
    products: [
        .executable(name: "mlvpnd", targets: ["mlvpnd"]),
        .executable(name: "mlvpn-engine", targets: ["mlvpn-engine"]),
        .executable(name: "mlvpn-control", targets: ["mlvpn-control"]),
        .executable(name: "mlvpn-admin", targets: ["mlvpn-admin"]),
        .executable(name: "mlvpn", targets: ["mlvpn"]),
        // For Benchmarks/, a package of its own.
        .executable(name: "link-emulator", targets: ["link-emulator"]),
        .library(name: "TunnelTestKit", targets: ["TunnelTestKit"]),
        .library(name: "DataPlane", targets: ["TunnelCore", "TunnelCrypto", "TunnelModel", "TunnelWire"]),
        // For Fuzz/, another.
        .library(name: "ProcessChannel", targets: ["ProcessChannel"]),
    ],
    traits: [
        .trait(name: "TLS", description: "TLS for the API on TCP."),
        .default(enabledTraits: ["TLS"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.14.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.0"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0", traits: []),
    ],
    targets: [
        // What Swift cannot import, and system libraries.
        .target(name: "CLinux", cSettings: cSettings),
        .systemLibrary(name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
        .systemLibrary(name: "CPcap", pkgConfig: "libpcap", providers: [.apt(["libpcap-dev"])]),

        // The protocol and the data plane's logic: no clock, no socket, no thread.
        .target(name: "TunnelWire", exclude: ["wire-v1.md"], swiftSettings: settings),
        .target(name: "TunnelCrypto", dependencies: ["CSodium"], swiftSettings: settings),
        .target(name: "TunnelModel", swiftSettings: settings),
        .target(
            name: "TunnelCore", dependencies: ["TunnelWire", "TunnelCrypto", "TunnelModel"], swiftSettings: settings),

        // Linux, and the processes.
        .target(
            name: "LinuxSystem", dependencies: ["CLinux", .product(name: "Logging", package: "swift-log")],
            swiftSettings: settings),
        .target(name: "FilterCompiler", dependencies: ["CPcap", "TunnelModel"], swiftSettings: settings),
        .target(
            name: "ProcessChannel",
            dependencies: [
                "CLinux", "LinuxSystem", "TunnelModel", .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        .target(
            name: "Helper",
            dependencies: [
                "CLinux", "LinuxSystem", "ProcessChannel", "TunnelModel",
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),
        .target(
            name: "Supervisor",
            dependencies: [
                "CLinux", "LinuxSystem", "ProcessChannel", "TunnelModel", "Helper",
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),
        .target(
            name: "Engine",
            dependencies: [
                "CLinux", "LinuxSystem", "ProcessChannel", "TunnelCore", "TunnelCrypto", "TunnelModel", "TunnelWire",
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),

        // Definitions, history, API.
        .target(
            name: "Store",
            dependencies: [
                "TunnelModel", .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ],
            // Symbolic links to db/: the schema is in the executable.
            resources: [.embedInCode("SQL")], swiftSettings: settings),
        .target(name: "AdminAPI", dependencies: ["CSodium", "TunnelModel"], swiftSettings: settings),
        .target(
            name: "Control",
            dependencies: [
                "AdminAPI", "CLinux", "FilterCompiler", "LinuxSystem", "ProcessChannel", "Store", "TunnelModel",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl", condition: .when(traits: ["TLS"])),
            ], swiftSettings: settings),

        // Thin mains.
        .target(name: "ProgramOptions", dependencies: ["TunnelModel"], swiftSettings: settings),
        .executableTarget(
            name: "mlvpnd",
            dependencies: [
                "Helper", "LinuxSystem", "ProgramOptions", "Supervisor", "TunnelModel",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "mlvpn-engine",
            dependencies: ["Engine", "LinuxSystem", .product(name: "Logging", package: "swift-log")],
            swiftSettings: settings),
        .executableTarget(
            name: "mlvpn-control",
            dependencies: [
                "Control", "LinuxSystem", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "mlvpn-admin",
            dependencies: [
                "AdminAPI", "TunnelModel",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ], swiftSettings: settings),
        .executableTarget(
            name: "mlvpn",
            dependencies: [
                "FilterCompiler", "Helper", "LinuxSystem", "ProcessChannel", "ProgramOptions", "Supervisor",
                "TunnelModel",
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),

        // Tests.
        .target(name: "CTestKit", cSettings: cSettings),
        .target(
            name: "TunnelTestKit", dependencies: ["CTestKit", "TunnelCore", "TunnelWire"], swiftSettings: settings),
        .executableTarget(name: "link-emulator", dependencies: ["TunnelTestKit"], swiftSettings: settings),
        .testTarget(
            name: "TunnelTestKitTests", dependencies: ["TunnelTestKit", "link-emulator"], swiftSettings: settings),
        .testTarget(
            name: "TunnelWireTests", dependencies: ["TunnelCrypto", "TunnelWire"], swiftSettings: settings),
        .testTarget(name: "TunnelCryptoTests", dependencies: ["CSodium", "TunnelCrypto"], swiftSettings: settings),
        .testTarget(
            name: "TunnelCoreTests", dependencies: ["TunnelCore", "TunnelCrypto", "TunnelModel", "TunnelWire"],
            swiftSettings: settings),
        .testTarget(
            name: "LinuxSystemTests",
            dependencies: [
                "CLinux", "LinuxSystem", "TunnelTestKit", .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),
        .testTarget(
            name: "ProcessChannelTests", dependencies: ["CLinux", "LinuxSystem", "ProcessChannel", "TunnelModel"],
            swiftSettings: settings),
        .testTarget(
            name: "HelperTests",
            dependencies: [
                "Helper", "LinuxSystem", "TunnelModel", "TunnelTestKit",
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),
        .testTarget(
            name: "SupervisorTests",
            dependencies: ["LinuxSystem", "ProcessChannel", "Supervisor", "TunnelModel", "TunnelTestKit"],
            swiftSettings: settings),
        .testTarget(
            name: "StoreTests",
            dependencies: ["Store", "TunnelModel", .product(name: "GRDB", package: "GRDB.swift")],
            exclude: ["Fixtures"], swiftSettings: settings),
        .testTarget(
            name: "ControlTests",
            dependencies: [
                "AdminAPI", "Control", "LinuxSystem", "ProcessChannel", "Store", "TunnelModel",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "AdminTests",
            dependencies: [
                "AdminAPI", "TunnelModel", "mlvpn-admin",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "NIOCore", package: "swift-nio"),
            ], swiftSettings: settings),
        // Whole processes, in network namespaces.
        .testTarget(
            name: "IntegrationTests",
            dependencies: [
                "TunnelTestKit", "link-emulator", "mlvpn", "mlvpn-admin", "mlvpn-control", "mlvpn-engine", "mlvpnd",
            ], exclude: ["v1_peer.py"], swiftSettings: settings),
        .testTarget(name: "ProgramOptionsTests", dependencies: ["ProgramOptions"], swiftSettings: settings),
        .testTarget(name: "TunnelModelTests", dependencies: ["TunnelModel"], swiftSettings: settings),
        .testTarget(
            name: "FilterCompilerTests", dependencies: ["CPcap", "FilterCompiler", "TunnelModel"],
            swiftSettings: settings),
    ]
)
