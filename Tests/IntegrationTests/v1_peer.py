"""An MLVPN peer that knows version 1 of the protocol and nothing else, written after Sources/TunnelWire/wire-v1.md alone.

usage: v1_peer.py server|client NAME tun|tap ADDRESS PASSWORD CLEARTEXT LOCAL:PORT[=REMOTE:PORT]...

It makes the device NAME with ADDRESS, takes the links in turn as MLVPN does without weights, and prints, when it is told to
end (SIGTERM, answered with a DISCONNECT on each link that is up), what it has received as one line of JSON.
"""

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

AUTH, AUTH_OK, KEEPALIVE, DATA, DISCONNECT = range(5)
BODIES = {AUTH: b"AU", AUTH_OK: b"OK", KEEPALIVE: b"", DISCONNECT: b""}
NONE = 65535
TIMEOUT = 5

sodium = ctypes.CDLL("libsodium.so.23")
if sodium.sodium_init() < 0:
    sys.exit("libsodium cannot be used")

role, name, kind, address, password, cleartext = sys.argv[1:7]
is_server, is_clear = role == "server", cleartext == "1"
key = ctypes.create_string_buffer(32)
sodium.crypto_generichash(key, 32, password.encode(), ctypes.c_ulonglong(len(password)), None, 0)
found = {
    "data": 0, "ordered": 0, "numbered": 0, "refused": 0, "up": 0, "downs": 0, "clear": 0, "other_versions": 0,
    "repeated": 0,
}
used = set()


def clock():
    return int(time.monotonic() * 1000)


def stamp(milliseconds):
    low = milliseconds % 65536
    return 0 if low == NONE else low


class Tunnel:
    data_seq = 0
    turn = 0


class Link:
    def __init__(self, text):
        local, _, remote = text.partition("=")
        host, port = local.rsplit(":", 1)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, int(port)))
        self.peer = (remote.rsplit(":", 1)[0], int(remote.rsplit(":", 1)[1])) if remote else None
        self.flow = int.from_bytes(os.urandom(4), "big")
        self.sequence = 0
        self.state = "down"
        self.heard = self.answered = 0
        # The peer's latest timestamp, and when it came.
        self.echo = None

    def send(self, kind, body=None):
        plain = BODIES[kind] if body is None else body
        data_seq = 0
        if kind == DATA:
            Tunnel.data_seq += 1
            data_seq = Tunnel.data_seq
        if kind != DATA or not is_clear:
            sealed = ctypes.create_string_buffer(len(plain) + 16)
            nonce = struct.pack("<QI12x", self.sequence, self.flow)
            sodium.crypto_secretbox_easy(sealed, plain, ctypes.c_ulonglong(len(plain)), nonce, key)
            plain = sealed.raw
        reply, now = NONE, clock()
        if self.echo is not None and now - self.echo[1] < 1000:
            reply = stamp(self.echo[0] + now - self.echo[1])
        self.echo = None
        header = struct.pack("<H", 1 | kind << 4 | 1 << 10)
        datagram = struct.pack(">H", len(plain)) + header + struct.pack(
            ">HHIQQ", stamp(now), reply, self.flow, self.sequence, data_seq)
        self.sequence += 1
        self.socket.sendto(datagram + plain, self.peer)

    def tick(self):
        now = clock()
        if self.state == "up" and now - self.heard > TIMEOUT * 1000:
            self.leave()
        if self.state == "up":
            self.send(KEEPALIVE)
        elif not is_server:
            self.send(AUTH)
            self.state = "auth sent"

    def leave(self):
        self.state = "down"
        found["downs"] += 1

    def enter(self):
        if self.state != "up":
            found["up"] += 1
        self.state, self.heard = "up", clock()

    def receive(self, device):
        datagram, sender = self.socket.recvfrom(2048)
        body = self.open(datagram)
        if body is None:
            found["refused"] += 1
            return
        kind, plain = body
        self.peer = sender
        if kind in (AUTH, AUTH_OK):
            if is_server:
                self.send(AUTH_OK)
                self.enter()
            elif self.state == "auth sent":
                self.enter()
        elif kind == KEEPALIVE and self.state == "up":
            self.heard = clock()
            if self.heard - self.answered >= 1000:
                self.answered = self.heard
                self.send(KEEPALIVE)
        elif kind == DISCONNECT and self.state == "up":
            self.leave()
        elif kind == DATA and self.state == "up":
            os.write(device, plain)

    def open(self, datagram):
        if len(datagram) < 28:
            return None
        length, flags = struct.unpack(">H", datagram[:2])[0], struct.unpack("<H", datagram[2:4])[0]
        timestamp, _, flow, sequence, data_seq = struct.unpack(">HHIQQ", datagram[4:28])
        kind, body = flags >> 4 & 63, datagram[28:]
        if length == 0 or length != len(body) or kind > DISCONNECT:
            return None
        if kind == DATA and is_clear:
            found["clear"] += 1
        else:
            plain = ctypes.create_string_buffer(max(1, len(body) - 16))
            nonce = struct.pack("<QI12x", sequence, flow)
            if len(body) < 16 or sodium.crypto_secretbox_open_easy(
                    plain, body, ctypes.c_ulonglong(len(body)), nonce, key):
                return None
            body = plain.raw[:len(body) - 16]
            # One key, one pair of these: ever.
            found["repeated"] += (flow, sequence) in used
            used.add((flow, sequence))
        self.echo = (timestamp, clock())
        found["other_versions"] += flags & 15 != 1
        if kind == DATA:
            found["data"] += 1
            found["ordered"] += flags >> 10 & 1
            found["numbered"] += data_seq != 0
        elif not body.startswith(BODIES[kind]):
            return None
        return kind, body


def make_device():
    device = os.open("/dev/net/tun", os.O_RDWR)
    # IFF_TUN or IFF_TAP, and IFF_NO_PI.
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", name.encode(), (1 if kind == "tun" else 2) | 0x1000))
    subprocess.run(["ip", "addr", "add", address, "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up", "mtu", "1444" if kind == "tun" else "1430"], check=True)
    return device


def main():
    device, links = make_device(), [Link(text) for text in sys.argv[7:]]
    running = [True]
    signal.signal(signal.SIGTERM, lambda *_: running.clear())
    poll = select.poll()
    poll.register(device, select.POLLIN)
    for link in links:
        poll.register(link.socket, select.POLLIN)
    by_descriptor = {link.socket.fileno(): link for link in links}
    due = clock()
    while running:
        if clock() >= due:
            due = clock() + 1000
            for link in links:
                link.tick()
        for descriptor, _ in poll.poll(max(1, due - clock())):
            if descriptor != device:
                by_descriptor[descriptor].receive(device)
                continue
            packet = os.read(device, 1444)
            up = [link for link in links if link.state == "up"]
            if up:
                Tunnel.turn += 1
                up[Tunnel.turn % len(up)].send(DATA, packet)
    for link in links:
        if link.state == "up":
            link.send(DISCONNECT)
    print(json.dumps(found), flush=True)


main()
