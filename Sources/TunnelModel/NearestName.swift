/// The one of `known` that `text` was probably meant to be, or nil when none is close.
func nearestName(to text: String, among known: some Sequence<String>) -> String? {
    // Longer than any key: nothing to compare, and no time to lose on a megabyte.
    guard text.utf8.count <= 64 else { return nil }
    let wanted = Array(text.lowercased().utf8)
    let best = known.map { (name: $0, distance: editDistance(wanted, Array($0.utf8))) }.min {
        $0.distance < $1.distance
    }
    guard let best, best.distance <= max(1, wanted.count / 3) else { return nil }
    return best.name
}

/// `; did you mean …?` for the end of an error, or nothing.
public func suggestion(for text: String, among known: some Sequence<String>) -> String {
    nearestName(to: text, among: known).map { "; did you mean \($0)?" } ?? ""
}

/// Levenshtein's distance: insertions, deletions and replacements.
private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var row = Array(0...b.count)
    for (i, left) in a.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for (j, right) in b.enumerated() {
            let replaced = diagonal + (left == right ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(replaced, row[j] + 1, row[j + 1] + 1)
        }
    }
    return row[b.count]
}
