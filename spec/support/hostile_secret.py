"""Hostile peers that know the secret, or pretend to, made from doc/wire.md alone; started by spec/hostile_secret_spec.lua as
`python3 hostile_secret.py SUITE PORT`. The cryptography is here in a few lines, since the standard library has no such thing:
it is for tests, slow, and nothing about it resists who measures its time.
"""

import hashlib
import hmac
import os
import random
import socket
import struct
import sys

from hostile import ATTACHED, ECHO, answer, connect, enter, fields, frame, pack, packet, push, read, tensor, value, wrong_values

SECRET = b"s"


# ---- X25519 (RFC 7748), ChaCha20-Poly1305 (RFC 8439) ------------------------------------------------------------------

P = 2**255 - 19


def x25519(scalar, point):
    k = int.from_bytes(scalar, "little") & ~7 & (2**255 - 1) | 2**254
    u = int.from_bytes(point, "little") & (2**255 - 1)
    x2, z2, x3, z3, swapped = 1, 0, u, 1, 0
    for t in range(254, -1, -1):
        bit = k >> t & 1
        if bit != swapped:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swapped = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a, c * b, a * a, b * b
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        e = aa - bb
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def block(key, counter, nonce):
    mask = 0xFFFFFFFF
    start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce)]
    x = list(start)

    def quarter(a, b, c, d):
        for left, right, turn, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[left] = x[left] + x[right] & mask
            y = x[turn] ^ x[left]
            x[turn] = (y << by | y >> 32 - by) & mask

    for _ in range(10):
        for i in range(4):
            quarter(i, i + 4, i + 8, i + 12)
        for i in range(4):
            quarter(i, (i + 1) % 4 + 4, (i + 2) % 4 + 8, (i + 3) % 4 + 12)
    return struct.pack("<16I", *(a + b & mask for a, b in zip(x, start)))


def stream(key, nonce, text):
    pad = b"".join(block(key, 1 + i, nonce) for i in range((len(text) + 63) // 64))[:len(text)]
    return (int.from_bytes(text, "little") ^ int.from_bytes(pad, "little")).to_bytes(len(text), "little")


def tag(key, nonce, cipher, about):
    once = block(key, 0, nonce)
    r = int.from_bytes(once[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    text = about + bytes(-len(about) % 16) + cipher + bytes(-len(cipher) % 16) + struct.pack("<QQ", len(about), len(cipher))
    for i in range(0, len(text), 16):
        total = (total + int.from_bytes(text[i:i + 16] + b"\1", "little")) * r % (2**130 - 5)
    return (total + int.from_bytes(once[16:32], "little") & 2**128 - 1).to_bytes(16, "little")


def seal(key, n, text, about=b""):
    nonce = bytes(4) + struct.pack("<Q", n)
    cipher = stream(key, nonce, text)
    return cipher + tag(key, nonce, cipher, about)


def unseal(key, n, sealed, about=b""):
    nonce = bytes(4) + struct.pack("<Q", n)
    assert tag(key, nonce, sealed[:-16], about) == sealed[-16:], "the server's tag is wrong"
    return stream(key, nonce, sealed[:-16])


# ---- Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s ----------------------------------------------------------------------------


def blake(data):
    return hashlib.blake2s(data).digest()


def derive(chain, data, count):
    first = hmac.new(chain, data, hashlib.blake2s).digest()
    out, last = [], b""
    for i in range(count):
        last = hmac.new(first, last + bytes([i + 1]), hashlib.blake2s).digest()
        out.append(last)
    return out


class Handshake:
    def __init__(self, secret=SECRET):
        self.hash = self.chain = blake(b"Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s")
        self.mix(b"LIBIPC\2")
        self.chain, more, self.key = derive(self.chain, blake(b"libipc pre-shared key 1\0" + secret), 3)
        self.mix(more)

    def mix(self, data):
        self.hash = blake(self.hash + data)

    def mix_key(self, data):
        self.chain, self.key = derive(self.chain, data, 2)

    def first(self, payload, public=None):
        self.own = os.urandom(32)
        public = public or x25519(self.own, b"\x09" + bytes(31))
        self.mix(public)
        self.mix_key(public)
        sealed = seal(self.key, 0, payload, self.hash)
        self.mix(sealed)
        return public + sealed

    def second(self, message):
        self.mix(message[:32])
        self.mix_key(message[:32])
        self.mix_key(x25519(self.own, message[:32]))
        payload = unseal(self.key, 0, message[32:], self.hash)
        self.mine, self.theirs = derive(self.chain, b"", 2)
        return payload


def hello(payload=None, secret=SECRET, public=None, **changes):
    handshake = Handshake(secret)
    if payload is None:
        payload = pack(fields(**{"cookies": [], **changes}))
    return handshake, packet(2, handshake.first(payload, public))


def begin(port):
    """A connection up to the welcome: its socket, and the keys."""
    s = connect(port)
    handshake, sent = hello()
    s.sendall(sent)
    kind, raw = answer(s)
    assert kind == 4, raw
    handshake.second(raw[12:])
    return s, handshake


class Sealed:
    """An encrypted connection that is in."""

    def __init__(self, port):
        self.socket, keys = begin(port)
        self.mine, self.theirs = keys.mine, keys.theirs
        self.socket.sendall(packet(6, seal(self.mine, 0, pack({}))))
        self.sent, self.taken, self.ahead = 1, 0, b""

    def record(self, text, n=None, key=None):
        if n is None:
            n, self.sent = self.sent, self.sent + 1
        sealed = seal(key or self.mine, n, text)
        return struct.pack("<H", len(sealed)) + sealed

    def records(self, text, size):
        return b"".join(self.record(text[i:i + size]) for i in range(0, len(text), size))

    def echoes(self):
        """`in` when the echo comes back, `out` when the connection ends before."""
        back = b""
        try:
            while not back.endswith(ECHO):
                back += unseal(self.theirs, self.taken, read(self.socket, struct.unpack("<H", read(self.socket, 2))[0]))
                self.taken += 1
            return "in"
        except (EOFError, ConnectionError):
            return "out"


def sent(port, data, end=False):
    """What comes of `data(connection)`, bytes to send, and an echo after it."""
    c = Sealed(port)
    push(c.socket, data(c))
    if end:
        try:
            c.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    came = c.echoes()
    c.socket.close()
    return came


class Honest:
    def __init__(self, port):
        self.port, self.connection = port, Sealed(port)

    def ask(self):
        for c in (self.connection, Sealed(self.port)):
            c.socket.sendall(c.record(ECHO))
            assert c.echoes() == "in"
        c.socket.close()


# ---- the suites -------------------------------------------------------------------------------------------------------


def handshakes(port):
    honest = Honest(port)

    def said(data, end=False):
        s = connect(port)
        push(s, data)
        if end:
            s.shutdown(socket.SHUT_WR)
        kind, raw = answer(s)
        s.close()
        return kind, raw

    kind, raw = said(hello(secret=b"another")[1])
    assert kind == 5 and b"auth" in raw, raw
    kind, raw = said(packet(1, pack(fields())))
    assert kind == 5 and b"auth" in raw, raw
    for n in (0, 1, 31, 32, 47, 48, 49, 200):
        assert said(packet(2, os.urandom(n)))[0] == 5, n
    good = pack(fields())
    for payload in (b"", b"\xc0", b"\x80", pack([1]), b"\x91" * 3000, good + b"\xc0", b"x" * 8000, b"\xdf\xff\xff\xff\xff"):
        assert said(hello(payload)[1])[0] == 5, payload[:20]
    # Points of small order: the secret is in the keys all the same.
    for public in (bytes(32), b"\1" + bytes(31), b"\xff" * 32):
        assert said(hello(public=public, secret=b"another")[1])[0] == 5
        assert said(hello(public=public)[1])[0] in (4, 5)
    for name in ("process", "max_message", "max_tensors", "nonce", "functions", "encrypt", "dtypes"):
        for v in wrong_values():
            assert said(hello(**{name: v})[1])[0] in (4, 5), (name, v)
    honest.ask()
    whole = hello()[1]
    for n in range(0, len(whole), 7):
        assert said(whole[:n], end=True)[0] is None, n
    dice = random.Random(3)
    for _ in range(100):
        bent = bytearray(whole)
        bent[dice.randrange(8, len(bent))] ^= 1 << dice.randrange(8)
        assert said(bytes(bent), end=True)[0] in (None, 5)
    # Confirmations, with a message behind each.
    for what, bend in {
        "plain": lambda k: packet(6, pack({})), "the next nonce": lambda k: packet(6, seal(k.mine, 1, pack({}))),
        "the server's key": lambda k: packet(6, seal(k.theirs, 0, pack({}))), "nothing": lambda k: packet(6, b""),
        "no tag": lambda k: packet(6, b"x" * 15), "an empty one": lambda k: packet(6, seal(k.mine, 0, b"")),
        "no map": lambda k: packet(6, seal(k.mine, 0, b"\xc1")), "more than a map": lambda k: packet(6, seal(k.mine, 0, pack({}) + b"\xc0")),
        "a link": lambda k: packet(6, seal(k.mine, 0, pack({"link": "tcp"}))), "a long one": lambda k: packet(6, seal(k.mine, 0, b"x" * 8000)),
        "over the hash": lambda k: packet(6, seal(k.mine, 0, pack({}), k.hash)), "a refusal": lambda k: packet(5, pack({"code": "auth", "what": "no"})),
        "none": lambda k: b"",
    }.items():
        s, keys = begin(port)
        record = seal(keys.mine, 1, ECHO)
        push(s, bend(keys) + struct.pack("<H", len(record)) + record)
        kind, raw = answer(s)
        assert kind in (None, 5) and raw != b"silence", (what, raw)
        s.close()
    # A recorded hello gets an answer, of which its sender can make nothing.
    s, keys = begin(port)
    handshake, recorded = hello()
    a, b = connect(port), connect(port)
    a.sendall(recorded)
    handshake.second(answer(a)[1][12:])
    right = packet(6, seal(handshake.mine, 0, pack({})))
    b.sendall(recorded)
    assert answer(b)[0] == 4
    push(b, right)
    assert answer(b)[0] == 5
    for each in (s, a, b):
        each.close()
    honest.ask()


def records(port):
    honest = Honest(port)
    for n in range(17):
        assert sent(port, lambda c: struct.pack("<H", n) + os.urandom(n) + c.record(ECHO)) == "out", n
    # However a message is cut.
    for size in (1, 2, 7, 15, 16, 17, 1000):
        assert sent(port, lambda c: c.records(frame(value("x" * 40)) + ECHO, size)) == "in", size
    longest = frame(value("x" * (65519 - len(frame(value("")) + ECHO)))) + ECHO
    assert len(longest) == 65519 and sent(port, lambda c: c.record(longest)) == "in"
    for what, data in {
        "another key": lambda c: c.record(ECHO, key=os.urandom(32)), "the server's own": lambda c: c.record(ECHO, 0, c.theirs),
        "a nonce that was": lambda c: c.record(ECHO, 0), "a nonce to come": lambda c: c.record(ECHO, 2), "the last nonce": lambda c: c.record(ECHO, 2**64 - 1),
        "again": lambda c: 2 * c.record(frame(b"\x10\xc0")) + c.record(ECHO), "swapped": lambda c: c.record(ECHO, 2) + c.record(ECHO, 1),
        "left out": lambda c: (c.record(ECHO), c.record(ECHO))[1], "no record": lambda c: ECHO * 5000, "an empty one": lambda c: c.record(b"") + c.record(ECHO),
        "associated": lambda c: struct.pack("<H", len(ECHO) + 16) + seal(c.mine, 1, ECHO, b"x") + c.record(ECHO, 2),
    }.items():
        assert sent(port, data) == "out", what
    whole = len(Sealed(port).record(ECHO))
    for i in range(whole):
        def bent(c):
            data = bytearray(c.record(ECHO))
            data[i] ^= 1
            return bytes(data) + c.record(ECHO)

        assert sent(port, bent, end=True) == "out", i
        assert sent(port, lambda c: c.record(ECHO)[:i], end=True) == "out", i
    # What is in them is looked at as in the clear.
    for data in (frame(b"\x10\xc0", kind=2), frame(b"\x10\xc0", n=1 << 40), frame(b"\x10\xc1"), frame(value(ATTACHED), tensor(1, 6, 2**63)), os.urandom(64)):
        assert sent(port, lambda c: c.record(data) + c.record(ECHO)) == "out", data
    honest.ask()
    # One that never reads what it asks for, and one that ends its half of the connection.
    flood = Sealed(port)
    flood.socket.settimeout(1)
    push(flood.socket, flood.record(frame(value("y" * 500)) * 100) * 1)
    honest.ask()
    assert sent(port, lambda c: c.record(ECHO), end=True) == "in"
    urgent = Sealed(port)
    urgent.socket.send(b"!", socket.MSG_OOB)
    urgent.socket.sendall(urgent.record(ECHO))
    assert urgent.echoes() == "in"
    for c in (flood, urgent):
        c.socket.close()
    # Without the secret nobody is in.
    try:
        enter(port)
        assert False, "in without the secret"
    except AssertionError as e:
        assert "auth" in str(e), e
    honest.ask()


if __name__ == "__main__":
    globals()[sys.argv[1]](int(sys.argv[2]))
    print("ok")
