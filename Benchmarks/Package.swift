// swift-tools-version:6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let programDependencies: [Target.Dependency] = [
    "BenchmarkKit",
    .product(name: "TunnelTestKit", package: "mlvpn-concentrator"),
    .product(name: "ArgumentParser", package: "swift-argument-parser"),
]

let package = Package(
    name: "mlvpn-benchmarks",
    dependencies: [
        .package(name: "mlvpn-concentrator", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    ],
    targets: [
        .target(
            name: "BenchmarkKit",
            dependencies: [
                .product(name: "TunnelTestKit", package: "mlvpn-concentrator"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], swiftSettings: settings),
        // Counts what the program allocates, by standing in for the C library's allocator.
        .target(
            name: "CAllocations",
            cSettings: [.enableWarning("all"), .enableWarning("extra"), .treatAllWarnings(as: .error)]),
        .executableTarget(
            name: "netns-throughput",
            dependencies: programDependencies + [.product(name: "DataPlane", package: "mlvpn-concentrator")],
            swiftSettings: settings),
        .executableTarget(name: "bonding", dependencies: programDependencies, swiftSettings: settings),
        // Customers of the stock protocol, simulated.
        .target(
            name: "StockClients", dependencies: [.product(name: "DataPlane", package: "mlvpn-concentrator")],
            swiftSettings: settings),
        .executableTarget(
            name: "scale",
            dependencies: programDependencies + [
                "StockClients", .product(name: "DataPlane", package: "mlvpn-concentrator"),
            ], swiftSettings: settings),
        .executableTarget(
            name: "operation",
            dependencies: programDependencies + [
                "StockClients", .product(name: "DataPlane", package: "mlvpn-concentrator"),
            ], swiftSettings: settings),
        .executableTarget(
            name: "data-plane",
            dependencies: [
                "BenchmarkKit", "CAllocations",
                .product(name: "DataPlane", package: "mlvpn-concentrator"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], swiftSettings: settings),
    ]
)
