import Testing
import TunnelCore

struct LinkHealthTests {
    private let start = 100 * second

    /// Of a peer that answers promptly, in 20 ms more or less: silence is told after 150 ms, and asked about after 80.
    private func prompt() -> LinkHealth {
        var health = LinkHealth()
        health.expectPromptAnswers(roundTrip: 20 * millisecond, variation: 5 * millisecond / 2)
        return health
    }

    @Test func aLinkWhoseDatagramsAreEchoedIsTrusted() {
        var health = LinkHealth()
        for tick in 0..<100 {
            let now = start + Int64(tick) * 100 * millisecond
            health.sent(now: now)
            // The answer to each comes before the next is sent.
            let changed = health.check(lastEcho: now + 30 * millisecond, now: now + 30 * millisecond)
            #expect(!changed)
        }
        #expect(!health.isSuspect && health.deadline == .max)
    }

    @Test func aLinkThatSendsNothingOwesNothing() {
        var health = LinkHealth()
        #expect(health.deadline == .max)
        let changed = health.check(lastEcho: 0, now: start + 3600 * second)
        #expect(!changed && !health.isSuspect)
        let probes = health.takeProbe(now: start + 3600 * second)
        #expect(!probes)
    }

    @Test func silenceIsSuspectedOncePatienceIsOverAndNotBefore() {
        var health = prompt()
        health.sent(now: start)
        // More that is sent meanwhile does not put the end off.
        health.sent(now: start + 60 * millisecond)
        #expect(health.deadline == start + 80 * millisecond)
        let tooSoon = health.takeProbe(now: start + 79 * millisecond)
        let asks = health.takeProbe(now: start + 80 * millisecond)
        let asksAgain = health.takeProbe(now: start + 85 * millisecond)
        #expect(!tooSoon && asks && !asksAgain)
        #expect(health.deadline == start + 150 * millisecond)
        let early = health.check(lastEcho: start - 1, now: start + 149 * millisecond)
        #expect(!early && !health.isSuspect)
        let late = health.check(lastEcho: start - 1, now: start + 150 * millisecond)
        #expect(late && health.isSuspect)
        // It is told once.
        let again = health.check(lastEcho: start - 1, now: start + 400 * millisecond)
        #expect(!again && health.isSuspect)
    }

    /// The peer did not get the one, or its answer was lost: that it answers the question is enough.
    @Test(arguments: [true, false]) func oneLostDatagramIsNoSilence(isPrompt: Bool) {
        var health = isPrompt ? prompt() : LinkHealth()
        var now = start
        for _ in 0..<10 {
            health.sent(now: now)
            now = health.deadline
            let isTold = health.check(lastEcho: 0, now: now)
            let asks = health.takeProbe(now: now)
            #expect(!isTold && asks)
            now += 40 * millisecond
            let changed = health.check(lastEcho: now, now: now)
            #expect(!changed && !health.isSuspect && health.deadline == .max)
            now += second
        }
    }

    /// Who asks late, because nobody looked before, waits for the answer.
    @Test func aQuestionIsGivenTimeToBeAnswered() {
        var health = prompt()
        health.sent(now: start)
        let soon = health.check(lastEcho: 0, now: start + 500 * millisecond)
        let asks = health.takeProbe(now: start + 500 * millisecond)
        #expect(!soon && asks && health.deadline == start + 570 * millisecond)
        let late = health.check(lastEcho: 0, now: start + 570 * millisecond)
        #expect(late)
    }

    @Test(arguments: [(isPrompt: true, answers: 5, interval: 100 * millisecond), (false, 2, second)])
    func aSuspectedLinkComesBackOnlyAfterRegularAnswers(isPrompt: Bool, answers: Int, interval: Int64) {
        var health = isPrompt ? prompt() : LinkHealth()
        var now = start
        suspect(&health, &now)
        for number in 1...answers {
            #expect(health.isSuspect)
            now += interval
            let isDue = health.takeProbe(now: now)
            let isDueAgain = health.takeProbe(now: now + interval - 1)
            #expect(isDue && !isDueAgain)
            health.sent(now: now)
            let changed = health.check(lastEcho: now + 40 * millisecond, now: now + 40 * millisecond)
            #expect(changed == (number == answers), "answer \(number)")
        }
        #expect(!health.isSuspect)
        let probes = health.takeProbe(now: now + 10 * second)
        #expect(!probes)
    }

    @Test func aProbeWithoutAnAnswerStartsTheCountAnew() {
        var health = prompt()
        var now = start
        suspect(&health, &now)
        for answered in [true, true, true, true, false, true, true, true, true] {
            now += 200 * millisecond
            health.sent(now: now)
            let echo = answered ? now + 40 * millisecond : 0
            let changed = health.check(lastEcho: echo, now: now + (answered ? 40 : 150) * millisecond)
            #expect(!changed && health.isSuspect)
        }
        now += 200 * millisecond
        health.sent(now: now)
        let changed = health.check(lastEcho: now + 40 * millisecond, now: now + 40 * millisecond)
        #expect(changed && !health.isSuspect)
    }

    /// Something is sent and never answered.
    private func suspect(_ health: inout LinkHealth, _ now: inout Int64) {
        health.sent(now: now)
        _ = health.takeProbe(now: health.deadline)
        now += 2 * health.patience
        let changed = health.check(lastEcho: 0, now: now)
        #expect(changed && health.isSuspect)
        _ = health.takeProbe(now: now)
    }

    /// Before anything was measured a round trip may take long.
    @Test func aLinkThatWasNeverMeasuredIsGivenASecond() {
        var health = LinkHealth()
        health.expectPromptAnswers(roundTrip: 0, variation: 0)
        health.sent(now: start)
        #expect(health.deadline > start + second)
    }

    /// What comes back in its usual time is asked for by nobody, on long ways neither.
    @Test func aLongWayIsNotAskedAboutAtEachRound() {
        var health = LinkHealth()
        health.expectPromptAnswers(roundTrip: 600 * millisecond, variation: millisecond)
        health.sent(now: start)
        let asks = health.takeProbe(now: start + 650 * millisecond)
        #expect(!asks)
    }
}
