"""Hostile peers, made from doc/wire.md and doc/security.md alone: `python3 hostile.py SUITE [ARGUMENT ...]`, started by
spec/hostile_peer_spec.lua. A suite does what nobody should, asks between for an honest echo, prints `ok` or what was wrong.
"""

import collections
import hashlib
import os
import random
import socket
import struct
import sys
import threading

KEY = open(os.path.join(os.environ["IPC_RUNTIME_DIR"], "cookie"), "rb").read()
PATIENCE = 60  # a watchdog


# ---- what is sent ----------------------------------------------------------------------------------------------------


class Raw(bytes):
    """Bytes that stand for themselves."""


class Pairs(list):
    """A map with any keys, the same one twice among them."""


def pack(v):
    if isinstance(v, Raw):
        return v
    if v is None or isinstance(v, bool):
        return {None: b"\xc0", True: b"\xc3", False: b"\xc2"}[v]
    if isinstance(v, int):
        return b"\xcf" + struct.pack(">Q", v) if v >= 0 else b"\xd3" + struct.pack(">q", v)
    if isinstance(v, float):
        return b"\xcb" + struct.pack(">d", v)
    if isinstance(v, str):
        return b"\xdb" + struct.pack(">I", len(v.encode())) + v.encode()
    if isinstance(v, bytes):
        return b"\xc6" + struct.pack(">I", len(v)) + v
    if isinstance(v, (dict, Pairs)):
        pairs = v if isinstance(v, Pairs) else v.items()
        return b"\xdf" + struct.pack(">I", len(v)) + b"".join(pack(k) + pack(w) for k, w in pairs)
    return b"\xdd" + struct.pack(">I", len(v)) + b"".join(map(pack, v))


def name_of(key):
    return hashlib.blake2s(b"libipc cookie 2\0" + key).digest()[:16]


def fields(**changes):
    """The fields of an honest hello, but for the changes."""
    return {
        "version": "hostile", "process": os.urandom(16), "boot": "", "pid": 1, "uid": 0, "little_endian": sys.byteorder == "little",
        "dtypes": list(range(1, 10)), "devices": [], "offers": [], "functions": False, "encrypt": None, "demands": True,
        "max_message": 1 << 30, "max_tensor_bytes": None, "max_tensors": 65536, "nonce": os.urandom(16),
        "cookies": [name_of(KEY)], **changes,
    }


def packet(kind, body, version=2, length=None):
    return b"LIBIPC" + struct.pack("<BBI", version, kind, len(body) if length is None else length) + body


def prove(*parts, key=KEY):
    return hashlib.blake2s(b"".join(parts), key=key).digest()


def addresses(s):
    def in_bytes(name):
        return b"\0" * 10 + b"\xff\xff" + socket.inet_aton(name[0]) + struct.pack(">H", name[1])

    return in_bytes(s.getsockname()) + in_bytes(s.getpeername())


def frame(message, descriptors=b"", data=b"", kind=1, flags=0, zero=0, d=None, n=None):
    head = struct.pack("<BBHIQ", kind, flags, zero, len(descriptors) if d is None else d, len(message) if n is None else n)
    return head + message + descriptors + data


def value(v, prelude=0x10):
    return bytes([prelude]) + pack(v)


def ext(code, payload):
    return Raw(b"\xc9" + struct.pack(">Ib", len(payload), code) + payload)


def text(s):
    return b"\xdb" + struct.pack(">I", len(s)) + s


def tensor(kind, dtype, *sizes):
    return struct.pack("<BBH", kind, dtype, len(sizes)) + b"".join(struct.pack("<Q", n) for n in sizes)


def within(kind, dtype, memory, offset, sizes, strides=()):
    return tensor(kind, dtype, *sizes) + b"".join(struct.pack("<Q", n) for n in (memory, offset, *strides))


ATTACHED = Raw(b"\xd6\x02\0\0\0\0")


# ---- how it is sent --------------------------------------------------------------------------------------------------


def connect(port):
    s = socket.create_connection(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.settimeout(PATIENCE)
    return s


def push(s, data):
    """Sends what the peer still takes."""
    try:
        s.sendall(data)
    except OSError:
        pass


def read(s, n):
    parts = b""
    while len(parts) < n:
        part = s.recv(n - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


def answer(s):
    """Kind and bytes of the packet that comes, or None and why there is none."""
    try:
        head = read(s, 12)
        return head[7], head + read(s, struct.unpack("<I", head[8:])[0])
    except EOFError:
        return None, b"closed"
    except ConnectionError:
        return None, b"closed"
    except socket.timeout:
        return None, b"silence"


def confirmation(s, hello, welcome, choice=None, key=KEY):
    packed = packet(6, pack({} if choice is None else choice) + bytes(32))[:-32]
    return packed + prove(b"libipc client 2\0", hello, welcome, addresses(s), packed, key=key)


def enter(port, **changes):
    """A connection that is in."""
    s = connect(port)
    hello = packet(1, pack(fields(**changes)))
    s.sendall(hello)
    kind, welcome = answer(s)
    assert kind == 3, welcome
    s.sendall(confirmation(s, hello, welcome))
    return s


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


ECHO = frame(b"\x10\xa3end")


class Honest:
    """A client that behaves: the server has to go on answering it."""

    def __init__(self, port):
        self.port = port
        self.socket = enter(port)

    def ask(self):
        for s in (self.socket, enter(self.port)):
            s.sendall(ECHO)
            assert read(s, len(ECHO)) == ECHO
        s.close()


# ---- hellos ----------------------------------------------------------------------------------------------------------


def wrong_values():
    return [
        None, True, 0, -1, 1, 2**63, 2**64 - 1, 1.5, float("nan"), "", "x" * 7000, b"", b"x" * 15, b"x" * 16, b"x" * 17, [], [[]],
        {}, [1] * 1000, [b"x" * 16] * 65, [b"x" * 15], [256], [-1], *map(Raw, (
            b"\xc1", b"\xd4\x01\x00", b"\xdb\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
            b"\xa2\xff\xfe", b"\x91" * 3000 + b"\xc0", b"\x81\xc0" * 3000 + b"\xc0",
        )),
    ]


# Fields of which any value does, of those above that are of the right type.
TAKEN = {
    "version": 2, "process": 1, "boot": 2, "pid": 2, "uid": 2, "little_endian": 1, "dtypes": 3, "devices": 1, "offers": 1, "functions": 1,
    "encrypt": 2, "demands": 1, "max_message": 4, "max_tensor_bytes": 5, "max_tensors": 2, "nonce": 1, "cookies": 0,
}
MAY_LACK = {"devices", "offers", "encrypt", "max_tensor_bytes"}


def hellos(port):
    honest = Honest(port)

    def said(data, end=False):
        s = connect(port)
        push(s, data)
        if end:
            try:
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        kind, raw = answer(s)
        s.close()
        return kind, raw

    good = fields()
    for name in good:
        for v in wrong_values():
            kind, raw = said(packet(1, pack({**good, name: v})))
            assert kind in (3, 5), (name, v, raw)
        kind, _ = said(packet(1, pack({k: v for k, v in good.items() if k != name})))
        assert kind == (3 if name in MAY_LACK else 5), name
        assert said(packet(1, pack(Pairs([*good.items(), (name, good[name])]))))[0] == 5, name
        honest.ask()
    packed = pack(good)
    for body, expected in (
        (pack({**good, "weather": [1, {"a": 2}]}), 3), (packed + b"\xc0", 5), (packed + bytes(32), 5), (b"", 5), (pack([1, 2]), 5),
        (pack(list(good.values())), 5), (b"x" * 8193, 5), (pack({**good, "cookies": [bytes(16)] * 16}), 5),
        (pack({**good, "cookies": [bytes(16)] * 15 + [name_of(KEY)]}), 3), (pack({**good, "boot": "another"}), 5),
        (pack({**good, "network": 2**64 - 1}), 5),
    ):
        kind, raw = said(packet(1, body))
        assert kind == expected, (body[:40], raw)
    assert said(packet(1, b"x" * 100, length=2**32 - 1))[0] == 5
    for kind in range(256):
        if kind != 1:
            assert said(packet(kind, packed))[0] == 5, kind
    for version in (0, 1, 3, 255):
        kind, raw = said(packet(1, packed, version))
        assert kind == 5 and raw[6] == (1 if version == 1 else 2), raw
    for junk in (b"GET / HTTP/1.0\r\n\r\n", bytes(100), b"\x16\x03\x01\x02\x00\x01" + bytes(100)):
        assert said(junk) == (None, b"closed"), junk
    whole = packet(1, packed)
    for n in range(len(whole)):
        assert said(whole[:n], end=True) == (None, b"closed"), n
    s = connect(port)
    for i in range(len(whole)):
        s.send(whole[i:i + 1])
    assert answer(s)[0] == 3
    dice = random.Random(5)
    for _ in range(1000):
        bent = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 5))):
            bent[dice.randrange(len(bent))] = dice.randrange(256)
        assert said(bytes(bent), end=True)[0] in (None, 3, 5), bent
    honest.ask()


def confirmations(port):
    """What is said after the welcome, with and without the cookie."""
    honest = Honest(port)

    def begin(**changes):
        s = connect(port)
        hello = packet(1, pack(fields(**changes)))
        s.sendall(hello)
        kind, welcome = answer(s)
        assert kind == 3 and KEY not in welcome
        return s, hello, welcome

    def is_out(s, what):
        push(s, ECHO)
        kind, raw = answer(s)
        assert kind in (None, 5) and raw != b"silence", (what, raw)
        s.close()

    for what, bend in {
        "a wrong proof": lambda c: c[:-1] + bytes([c[-1] ^ 1]), "zeros": lambda c: c[:-32] + bytes(32),
        "no proof": lambda c: packet(6, c[12:-32]), "a short one": lambda c: packet(6, c[12:-1]), "a long one": lambda c: packet(6, c[12:] + b"\0"),
        "a frame at once": lambda c: b"", "a refusal": lambda c: packet(5, pack({"code": "x", "what": "y"})), "nonsense": lambda c: packet(5, b"\xc1"),
        "a hello": lambda c: packet(1, pack(fields())), "another version": lambda c: c[:6] + b"\3" + c[7:],
        "too long": lambda c: packet(6, bytes(8193)), "endless": lambda c: packet(6, b"", length=2**32 - 1),
    }.items():
        s, hello, welcome = begin()
        push(s, bend(confirmation(s, hello, welcome)))
        is_out(s, what)
    for choice in ({"link": "shm"}, {"link": "tcp"}, {"link": ""}, {"link": 5}, [None], [], Raw(b""), Raw(b"\xc0"), {"link": "x" * 5000},
                   Pairs([("link", None)] * 2), Raw(pack({}) + b"\xc0")):
        s, hello, welcome = begin()
        push(s, confirmation(s, hello, welcome, choice))
        is_out(s, choice)
    s, hello, welcome = begin()
    push(s, confirmation(s, hello, welcome, key=os.urandom(32)))
    is_out(s, "another key of that name")
    # The server's own proof, and its role.
    s, hello, welcome = begin()
    push(s, packet(6, pack({}) + welcome[-32:]))
    is_out(s, "reflected")
    s, hello, welcome = begin()
    head = packet(6, pack({}) + bytes(32))[:-32]
    push(s, head + prove(b"libipc server 2\0", hello, welcome, addresses(s), head))
    is_out(s, "the other role")
    # The proof of one connection on another, with the same hello; and all of it again.
    a, hello, welcome = begin()
    b = connect(port)
    b.sendall(hello)
    assert answer(b)[0] == 3
    right = confirmation(a, hello, welcome)
    push(b, right)
    is_out(b, "of another connection")
    a.sendall(right + ECHO)
    assert read(a, len(ECHO)) == ECHO
    c = connect(port)
    c.sendall(hello + right)
    assert answer(c)[0] == 3
    is_out(c, "again")
    # Slowly, and with the first message.
    s, hello, welcome = begin()
    for byte in confirmation(s, hello, welcome) + ECHO:
        s.send(bytes([byte]))
    assert read(s, len(ECHO)) == ECHO
    honest.ask()


# ---- frames and values -----------------------------------------------------------------------------------------------


def sent(port, data, end=False, **changes):
    """What comes of it: `in` if the connection is still good after it, `out` if the server closed it."""
    s = enter(port, **changes)
    push(s, data + ECHO)
    if end:
        try:
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    back = b""
    try:
        while not back.endswith(ECHO):
            part = s.recv(1 << 20)
            if not part:
                return "out"
            back += part
        return "in"
    except ConnectionError:
        return "out"
    finally:
        s.close()


def frames(port):
    honest = Honest(port)
    nil, lone = b"\x10\xc0", value(ATTACHED)
    good = [
        frame(value({"a": [1, 2.5, "x", None]})), frame(lone, tensor(1, 6, 2), bytes(8)), frame(lone, tensor(1, 6)),
        frame(lone, tensor(1, 6, 2**63 - 1, 0)), frame(lone, tensor(1, 7, 2**62, 0, 2**62)), frame(lone, tensor(1, 7, 0, 2**63 - 1)),
        frame(lone, tensor(1, 6, *[1] * 64), bytes(4)), frame(lone, tensor(1, 6, 0, 0)), frame(lone, tensor(2, 1, 3), bytes(3)),
    ]
    two, memory = value([ATTACHED, Raw(b"\xd6\x02\0\0\0\1")]), tensor(3, 6, 6)
    shares = memory + within(4, 6, 0, 1, [2, 2], [2, 1]) + within(5, 6, 0, 4, [2])
    good += [
        frame(two, shares, bytes(24)), frame(lone, memory + within(4, 6, 0, 5, [1 << 20], [0]), bytes(24)),
        frame(two, tensor(1, 6, 2) + memory + within(4, 6, 1, 0, [6], [1]), bytes(32)),
    ]
    for data in good:
        assert sent(port, data) == "in", data
    bad_views = [
        within(4, 6, 0, 0, [7], [1]), within(4, 6, 0, 6, [1], [1]), within(4, 6, 0, 0, [2, 2], [5, 1]), within(4, 6, 0, 1, [2], [5]),
        within(4, 6, 0, 2**64 - 1, [1], [1]), within(4, 6, 0, 2**63, [2], [1]), within(4, 6, 0, 0, [2], [2**63]), within(4, 6, 0, 0, [3], [2**62]),
        within(4, 6, 0, 0, [2], [2**64 - 1]), within(4, 6, 1, 0, [1], [1]), within(4, 6, 2**64 - 1, 0, [1], [1]), within(4, 7, 0, 0, [1], [1]),
        within(4, 6, 0, 0, [(1 << 20) + 1], [0]), within(4, 6, 0, 0, [1 << 20, 1 << 20], [0, 0]), within(4, 6, 0, 0, [0], [1]), within(4, 6, 0, 0, [], []), within(4, 6, 0, 0, [2**61], [0]), within(4, 6, 0, 0, [1] * 65, [1] * 65),
        within(5, 6, 0, 0, [7]), within(5, 6, 0, 4, [3]), within(5, 6, 0, 0, [1, 1]), within(5, 6, 0, 0, []), within(5, 6, 0, 2**64 - 1, [1]),
        within(4, 6, 0, 0, [1], [1])[:-1], within(5, 6, 0, 0, [1]) + b"\0", tensor(1, 6, 6), memory, b"",
    ]
    bad = [frame(lone, memory + view, bytes(24)) for view in bad_views]
    bad += [frame(lone, within(4, 6, 0, 0, [1], [1]) + memory, bytes(24)), frame(lone, shares[:12] * 1000 + shares, bytes(24 * 1001))]
    bad += [frame(lone, tensor(3, 6, 2, 2), bytes(16)), frame(lone, tensor(3, 6), b""), frame(lone, tensor(6, 6, 2), bytes(8))]
    bad += [frame(nil, kind=k) for k in (0, 2, 255)] + [frame(nil, flags=f) for f in (1, 2, 4, 128, 255)]
    bad += [frame(nil, zero=z) for z in (1, 256, 65535)] + [frame(b"")]
    bad += [frame(nil, n=n) for n in ((1 << 30) + 1, 1 << 40, 2**63, 2**64 - 1, 2**64 - 16)]
    bad += [frame(nil, d=d) for d in (1, 2, 11, (16 << 20) + 1, 2**31, 2**32 - 1)]
    bad += [frame(lone, tensor(1, t, 2), bytes(16)) for t in (0, 10, 255)] + [frame(lone, tensor(k, 6, 2), bytes(8)) for k in (0, 3, 255)]
    bad += [frame(lone, tensor(2, 6, 2, 2), bytes(16)), frame(lone, tensor(2, 6)), frame(lone, tensor(1, 6, *[1] * 65), bytes(4))]
    bad += [frame(lone, struct.pack("<BBH", 1, 6, 65535)), frame(lone, tensor(1, 6, 2) + b"\0", bytes(8)), frame(lone, tensor(1, 6, 2)[:-1], bytes(8))]
    bad += [frame(lone, tensor(1, 6, *sizes)) for sizes in (
        [2**63], [2**64 - 1], [2**63 - 1], [2**62, 4], [2**32, 2**32], [2**61], [2**60], [2**63, 0], [0, 2**63], [2**64 - 1, 0], [2**62, 4, 2**62],
    )]
    bad += [frame(nil, tensor(1, 1, 0) * 100), frame(lone), frame(value(Raw(b"\xd6\x02\0\0\0\7")), tensor(1, 6, 2), bytes(8))]
    many = b"".join(b"\xd6\x02" + struct.pack(">I", i) for i in range(65537))
    bad += [frame(b"\x10\xdd" + struct.pack(">I", 65537) + many, tensor(1, 1, 1) * 65537, bytes(65537))]
    for data in bad:
        assert sent(port, data) == "out", data[:60]
    for n in (1, 15, 16, 17, 20, 40):
        assert sent(port, frame(value("x" * 256))[:n], end=True) == "out", n
    honest.ask()
    dice, came = random.Random(9), collections.Counter()
    for _ in range(800):
        bent = bytearray(dice.choice(good))
        for _ in range(dice.choice((1, 1, 2, 4))):
            bent[dice.randrange(len(bent))] = dice.choice((dice.randrange(256), 0, 255, 1))
        # It may have become the beginning of a longer one: then the end says so.
        came[sent(port, bytes(bent), end=True)] += 1
    assert came["in"] and came["out"], came
    honest.ask()


def values(port):
    honest = Honest(port)
    for prelude in range(256):
        assert sent(port, frame(bytes([prelude]) + b"\xc0")) == ("in" if 0x10 <= prelude <= 0x13 else "out"), hex(prelude)
    came = collections.Counter()
    for first in range(256):
        for rest in (b"", b"\0" * 3, b"\1" * 20, b"\xff" * 20, b"\xc0" * 300):
            came[sent(port, frame(bytes([0x10, first]) + rest))] += 1
    assert came["in"] > 100 and came["out"] > 500, came
    honest.ask()
    payloads = [
        b"", b"\0", b"\0" * 4, b"\xff" * 4, b"\0" * 5, b"\x90\x80", b"\x80\x90", b"\x90", b"\xa1x\x80", b"\xa1x", b"\xa1x\xc0", b"\xa0\x80",
        text(b"io") + text(b"popen"), text(b"_G") + b"\xc0", text(b"os") + b"\xc0", b"\x01\xc4\x04\x1bLJ\x02\x90", b"\x36\xc4\x04\x1bLua\x90",
        b"\x90\x81\xc0\1", b"\x90\x81\xcb\x7f\xf8\0\0\0\0\0\0\1", text(b"FILE*") + b"\x80", text(b"_LOADED") + b"\x80",
        text(b"torch.FloatTensor") + b"\x80", text(b"ipc.channel") + b"\x80", text(b"_PRELOAD") + b"\x80", text(b"A" * 100000) + b"\x80",
        text(b"\0\xff\n\x1b[31m") + b"\x80",
    ]
    for code in range(-128, 128):
        for payload in payloads if -1 <= code <= 10 else payloads[:3]:
            expected = "in" if (code, payload) == (3, b"\x90\x80") else "out"
            got = sent(port, frame(b"\x10" + ext(code, payload)))
            # Extensions 7 and 8 are any 8 bytes, which some Luas can hold.
            assert got == expected or code in (7, 8) and len(payload) == 8, (code, payload)
    for payload in payloads:
        for code in (5, 6):
            assert sent(port, frame(b"\x12" + ext(code, payload), flags=1), functions=True) == "out", payload
    honest.ask()
    for n, expected in ((1000, "in"), (1001, "out"), (5000, "out"), (1000000, "out")):
        for nest in (b"\x91" * n + b"\xc0", b"\x81\x01" * n + b"\xc0"):
            assert sent(port, frame(b"\x10" + nest)) == expected, n
    for bytes_ in (
        b"\xdd\x7f\xff\xff\xff" + b"\xc0" * 1000, b"\xdc\xff\xff" + b"\xdd\0\0\xff\0" * 13000, b"\xdf" + struct.pack(">I", 1 << 18) + b"\xc0\xc0" * (1 << 18),
        b"\xdb\xff\xff\xff\xffabc", b"\x81" * 900 + b"\xc0" * 901,
    ):
        assert sent(port, frame(b"\x10" + bytes_)) == "out", bytes_[:20]
    for bytes_ in (b"\x10\xdd" + struct.pack(">I", 1 << 16) + b"\x90" * (1 << 16), b"\x11\x81\xd6\x01\0\0\0\0\x01",
                   b"\x11\xdd" + struct.pack(">I", 1 << 14) + b"\xd6\x01\0\0\0\0" * (1 << 14)):
        assert sent(port, frame(bytes_)) == "in", bytes_[:20]
    honest.ask()


# ---- floods, and ends in every state ---------------------------------------------------------------------------------


def states(port):
    """Connections that end, in each of three ways, at each point of a hello and of a message."""
    honest = Honest(port)
    hello = packet(1, pack(fields()))
    long = frame(value("x" * 200000))

    def greeted(s):
        s.sendall(hello)
        assert answer(s)[0] == 3

    points = [
        lambda s: None, lambda s: s.sendall(hello[:20]), lambda s: s.sendall(hello), greeted,
        lambda s: s.sendall(hello + b"LIBIPC\2\6"),
    ]
    inside = [b"", ECHO[:3], long[:16], long[:5000], long, ECHO * 50, frame(b"\x10\xc1")]
    ends = (socket.socket.close, reset, lambda s: (s.shutdown(socket.SHUT_WR), s.close()))
    for end in ends:
        for point in points:
            for _ in range(30):
                s = connect(port)
                point(s)
                try:
                    end(s)
                except OSError:
                    s.close()
        for data in inside:
            for _ in range(30):
                s = enter(port)
                push(s, data)
                try:
                    end(s)
                except OSError:
                    s.close()
        honest.ask()


def flood(port, count):
    """Many at once that say nothing, begin, drip, or stay before they are in; the server goes on answering."""
    honest = Honest(port)
    hello = packet(1, pack(fields()))
    for first in (b"", b"L", hello[:-1], hello):
        all_ = [connect(port) for _ in range(int(count))]
        for s in all_:
            push(s, first)
        honest.ask()
        for byte in b"IBIPC":
            for s in all_:
                push(s, bytes([byte]))
            honest.socket.sendall(ECHO)
            assert read(honest.socket, len(ECHO)) == ECHO
        for s in all_:
            s.close()
    honest.ask()


# ---- a forwarder between two networks, and a hostile server -----------------------------------------------------------


def forwarder(port, pid):
    """Leads whoever connects to `port` here to the same port in the network of another process, from the same port, too."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(5)
    print("ready", flush=True)
    here, at = listener.accept()
    there = []

    def beyond():
        network = os.open("/proc/%s/ns/net" % pid, os.O_RDONLY)
        assert libc.setns(network, 0x40000000) == 0, os.strerror(ctypes.get_errno())
        s = socket.socket()
        s.bind(at)
        s.connect(("127.0.0.1", port))
        there.append(s)

    def pump(a, b):
        while True:
            data = a.recv(65536)
            b.sendall(data) if data else b.shutdown(socket.SHUT_WR)
            if not data:
                return

    thread = threading.Thread(target=beyond)
    thread.start()
    thread.join()
    back = threading.Thread(target=pump, args=(there[0], here))
    back.start()
    pump(here, there[0])
    back.join()


if __name__ == "__main__":
    suite, port, *more = sys.argv[1:]
    globals()[suite](int(port), *more)
    print("ok")
