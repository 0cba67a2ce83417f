import Testing

/// Waits until `condition` holds, which is asked every 5 ms.
func eventually(
    _ what: String, within limit: Duration = .seconds(20), _ condition: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + limit
    while try await !condition() {
        try #require(ContinuousClock.now < end, "\(what): not within \(limit)")
        try await Task.sleep(for: .milliseconds(5))
    }
}
