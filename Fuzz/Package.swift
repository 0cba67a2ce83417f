// swift-tools-version:6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

// To be built with --sanitize fuzzer, which links libFuzzer and instruments the code under test.
let package = Package(
    name: "mlvpn-fuzz",
    dependencies: [.package(name: "mlvpn-concentrator", path: "..")],
    targets: [
        .executableTarget(
            name: "fuzz",
            dependencies: [
                .product(name: "DataPlane", package: "mlvpn-concentrator"),
                .product(name: "ProcessChannel", package: "mlvpn-concentrator"),
            ],
            swiftSettings: settings)
    ]
)
