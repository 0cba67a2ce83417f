import Glibc
import LinuxSystem
import ProcessChannel

/// A child process with its channel. A child that breaks the channel's rules is killed: its end, which the owner learns
/// from ``Children``, is the only way in which it goes.
final class Peer<Notice: ChannelMessage> {
    let pid: pid_t
    let started = Clock.now()
    private let channel: Channel
    private let loop: EventLoop
    private let receive: (Notice, inout DescriptorList) -> Void
    private let broken: (ChannelError) -> Void
    private var watch: EventLoop.WatchID?

    /// - Parameter broken: told once why the channel is of no more use.
    init(
        pid: pid_t, channel: consuming OwnedDescriptor, loop: EventLoop, buffer: Channel.Buffer,
        receive: @escaping (Notice, inout DescriptorList) -> Void, broken: @escaping (ChannelError) -> Void
    ) throws(SystemError) {
        self.pid = pid
        self.channel = Channel(channel, buffer: buffer)
        self.loop = loop
        self.receive = receive
        self.broken = broken
        watch = try loop.watch(self.channel.raw) { [weak self] event in self?.ready(event) }
    }

    /// Nothing happens once the channel is broken: the child's end is near.
    func send(_ message: some ChannelMessage, descriptors: [Int32] = []) {
        guard let watch else { return }
        do throws(ChannelError) {
            try channel.send(message, descriptors: descriptors)
            loop.change(watch, to: channel.wantsWrite ? [.read, .write] : .read)
        } catch {
            fail(error)
        }
    }

    /// The child has ended. What it said last is heard.
    func close() {
        // A channel that breaks now is no news.
        try? receiveAll()
        unwatch()
    }

    private func unwatch() {
        if let watch { loop.remove(watch) }
        watch = nil
    }

    func kill() { Glibc.kill(pid, SIGKILL) }

    private func ready(_ event: EpollEvent) {
        do throws(ChannelError) {
            if event.isWritable { try channel.flush() }
            try receiveAll()
            if let watch { loop.change(watch, to: channel.wantsWrite ? [.read, .write] : .read) }
        } catch {
            fail(error)
        }
    }

    private func receiveAll() throws(ChannelError) {
        while watch != nil, var received = try channel.receive(Notice.self) {
            receive(received.message, &received.descriptors)
        }
    }

    private func fail(_ error: ChannelError) {
        guard watch != nil else { return }
        unwatch()
        broken(error)
        // Who has closed its end is about to go by itself; who misbehaves is not waited for.
        guard error == .ended else { return kill() }
        let pid = pid
        loop.after(.seconds(1)) { [weak self] in
            if self?.pid == pid { self?.kill() }
        }
    }
}
