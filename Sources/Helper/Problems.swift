import TunnelModel

/// What keeps a tunnel or a link of it from working, by what it concerns; told once per change.
struct Problems {
    enum Source: Int, Sendable, CaseIterable { case device, network, script, localName, remoteName, socket }

    private var texts: [LinkName?: [Source: String]] = [:]

    /// Sets or clears one problem. Returns what the link's (nil: the tunnel's) problems now are, all in one text, if that
    /// is news: `.some(nil)` when the last one is gone.
    mutating func set(_ link: LinkName?, _ source: Source, _ text: String?) -> String?? {
        let before = summary(of: link)
        texts[link, default: [:]][source] = text
        let after = summary(of: link)
        return before == after ? nil : .some(after)
    }

    /// Forgets links that are gone; returns those that had problems.
    mutating func keep(only links: Set<LinkName>) -> [LinkName] {
        let gone = texts.keys.compactMap { $0 }.filter { !links.contains($0) }
        let loud = gone.filter { summary(of: $0) != nil }
        for link in gone { texts[link] = nil }
        return loud
    }

    private func summary(of link: LinkName?) -> String? {
        let all = (texts[link] ?? [:]).sorted { $0.key.rawValue < $1.key.rawValue }.map(\.value)
        return all.isEmpty ? nil : all.joined(separator: "; ")
    }
}
