import TunnelModel

/// Finds what libpcap would look up as the name of a host or network, by reading an expression as libpcap's scanner does.
///
/// On the side of caution: where the grammar lets a name inherit what it names from far away, it counts as a host's, and
/// the operator is asked to write `port` or `proto` once more.
enum HostNames {
    /// The first such name, or nil.
    static func first(in expression: String) -> String? {
        // Whether a name here is one of a port or protocol, which local files know.
        var isLocalName = false
        var followsType = false
        var scanner = Scanner(expression)
        while let token = scanner.next() {
            switch token {
            case .word(let word) where localTypes.contains(word):
                isLocalName = true
                followsType = true
                continue
            case .word(let word) where joiners.contains(word): break
            case .word(let word) where keywords.contains(word) || isConstant(word): isLocalName = false
            case .word(let word):
                if isNumberOrAddress(word) { break }
                if !isLocalName { return word }
            case .escaped(let word):
                if !isLocalName { return word }
            case .parenthesis(let opens):
                if !(opens && followsType) { isLocalName = false }
            }
            followsType = false
        }
        return nil
    }

    private static let localTypes: Set<String> = ["port", "portrange", "proto", "protochain"]
    private static let joiners: Set<String> = ["and", "or", "not"]
    /// What the grammar of pcap-filter(7) has for IP packets and Ethernet frames; others do not compile for them.
    private static let keywords: Set<String> = Set(
        """
        dst src link ether ppp slip fddi tr wlan arp rarp ip sctp tcp udp icmp igmp igrp pim vrrp carp radio ip6 icmp6 \
        ah esp atalk aarp decnet lat sca moprc mopdl iso esis es-is isis is-is l1 l2 iih lsp snp csnp psnp clnp stp \
        ipx netbeui host net mask gateway less greater byte broadcast multicast len length inbound outbound ifindex \
        vlan mpls pppoed pppoes geneve llc icmptype icmpcode icmp6type icmp6code tcpflags
        """.split(separator: " ").map(String.init))

    /// `tcp-syn`, `icmp-echo`, `icmp6-routeradvert`: numbers with a name.
    private static func isConstant(_ word: String) -> Bool {
        let suffix: Substring
        if word.hasPrefix("tcp-") {
            return ["fin", "syn", "rst", "push", "ack", "urg", "ece", "cwr"].contains(word.dropFirst(4))
        } else if word.hasPrefix("icmp-") {
            suffix = word.dropFirst(5)
        } else if word.hasPrefix("icmp6-") {
            suffix = word.dropFirst(6)
        } else {
            return false
        }
        return icmpTypes.contains(String(suffix))
    }

    private static let icmpTypes: Set<String> = Set(
        """
        echoreply unreach sourcequench redirect echo routeradvert routersolicit timxceed paramprob tstamp tstampreply \
        ireq ireqreply maskreq maskreply destinationunreach packettoobig timeexceeded parameterproblem \
        multicastlistenerquery multicastlistenerreportv1 multicastlistenerdone neighborsolicit neighboradvert \
        routerrenum nodeinformationquery nodeinformationresponse ineighbordiscoverysolicit ineighbordiscoveryadvert \
        multicastlistenerreportv2 homeagentdiscoveryrequest homeagentdiscoveryreply mobileprefixsolicit \
        mobileprefixadvert certpathsolicit certpathadvert multicastrouteradvert multicastroutersolicit \
        multicastrouterterm
        """.split(separator: " ").map(String.init))

    /// A decimal or hexadecimal number, two to four decimals with dots, or an Ethernet address.
    private static func isNumberOrAddress(_ word: String) -> Bool {
        if word.hasPrefix("0x") || word.hasPrefix("0X") {
            return word.utf8.count > 2 && word.utf8.dropFirst(2).allSatisfy(isHexDigit)
        }
        let dotted = word.split(separator: ".", omittingEmptySubsequences: false)
        if dotted.count <= 4, dotted.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy(isDecimalDigit) }) { return true }
        return isEthernet(dotted, parts: 6, digits: 1...2) || isEthernet(dotted, parts: 3, digits: 4...4)
            || isEthernet(dotted, parts: 1, digits: 12...12)
            || isEthernet(word.split(separator: "-", omittingEmptySubsequences: false), parts: 6, digits: 1...2)
    }

    private static func isEthernet(_ words: [Substring], parts: Int, digits: ClosedRange<Int>) -> Bool {
        words.count == parts && words.allSatisfy { digits.contains($0.utf8.count) && $0.utf8.allSatisfy(isHexDigit) }
    }
}

private func isDecimalDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }

private func isHexDigit(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"): true
    default: false
    }
}

/// The words of an expression: what its operators separate.
private struct Scanner {
    enum Token {
        case word(String)
        /// After a backslash, which makes a name of a keyword.
        case escaped(String)
        case parenthesis(opens: Bool)
    }

    private var rest: ArraySlice<UInt8>
    /// The parts of a word with colons that are no address, last first.
    private var pending: [Token] = []

    init(_ expression: String) { rest = Array(expression.utf8)[...] }

    mutating func next() -> Token? {
        while true {
            if let token = pending.popLast() { return token }
            guard let byte = rest.first else { return nil }
            // A '-' that begins a word is an operator.
            if Self.isWordByte(byte), byte != UInt8(ascii: "-") {
                split(take(while: Self.isWordByte))
                continue
            }
            rest.removeFirst()
            switch byte {
            case UInt8(ascii: "("), UInt8(ascii: ")"): return .parenthesis(opens: byte == UInt8(ascii: "("))
            case UInt8(ascii: "\\"): return .escaped(take { !" !()\n\t".utf8.contains($0) })
            default: break
            }
        }
    }

    /// Hexadecimal digits with colons are an address or a slice, `[0:4]`; other words are separated by colons.
    private mutating func split(_ word: String) {
        let isAddress = word.utf8.allSatisfy { isHexDigit($0) || $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: ".") }
        if word.utf8.contains(UInt8(ascii: ":")), isAddress { return }
        for part in word.split(separator: ":").reversed() {
            // A name does not end so; there, the byte is an operator.
            let name = part.lastIndex { $0 != "-" && $0 != "_" }.map { part[...$0] } ?? ""
            if !name.isEmpty { pending.append(.word(String(name))) }
        }
    }

    private mutating func take(while belongs: (UInt8) -> Bool) -> String {
        let taken = rest.prefix(while: belongs)
        rest = rest.dropFirst(taken.count)
        return String(decoding: taken, as: UTF8.self)
    }

    private static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: ":"):
            true
        default: false
        }
    }
}
