"""A client of a libipc server in Python, with the standard library only: what doc/wire.md says is enough to write one.

    luajit -e "local s, port = require('libipc').server() print(port) io.flush() print((s:recvAny()))" &
    python3 examples/client.py PORT '["hello", 1, true]'

Sends the value (JSON) and, with --echo, prints the value that comes back. The server has to run on this host as this user:
the two prove it to each other by the user's cookie. Tensors, functions, shared tables and cycles are not spoken here.
"""

import hashlib
import hmac
import json
import os
import pwd
import socket
import stat
import struct
import sys

LIMITS = {"max_message": 1 << 30, "max_tensor_bytes": 0, "max_tensors": 0}


# ---- MessagePack, as far as it is needed ------------------------------------------------------------------------------


def pack(v):
    if v is None:
        return b"\xc0"
    if v is True or v is False:
        return b"\xc3" if v else b"\xc2"
    if isinstance(v, int):
        if 0 <= v < 128:
            return bytes([v])
        return b"\xcf" + struct.pack(">Q", v) if v >= 0 else b"\xd3" + struct.pack(">q", v)
    if isinstance(v, float):
        return b"\xcb" + struct.pack(">d", v)
    if isinstance(v, str):
        v = v.encode()
        return b"\xdb" + struct.pack(">I", len(v)) + v
    if isinstance(v, bytes):
        return b"\xc6" + struct.pack(">I", len(v)) + v
    if isinstance(v, list):
        return b"\xdd" + struct.pack(">I", len(v)) + b"".join(map(pack, v))
    if isinstance(v, dict):
        return b"\xdf" + struct.pack(">I", len(v)) + b"".join(pack(k) + pack(w) for k, w in v.items())
    raise TypeError(type(v))


def unpack(b, at=0):
    """The value that begins at `at`, and where the next one does."""
    code, at = b[at], at + 1
    fixed = {0xC0: None, 0xC2: False, 0xC3: True}
    if code in fixed:
        return fixed[code], at
    if code < 0x80:
        return code, at
    if code >= 0xE0:
        return code - 256, at
    if code in (0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF, 0xD0, 0xD1, 0xD2, 0xD3):
        form = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}[code]
        return struct.unpack_from(form, b, at)[0], at + struct.calcsize(form)
    if code < 0x90:
        kind, n = "map", code & 15
    elif code < 0xA0:
        kind, n = "array", code & 15
    elif code < 0xC0:
        kind, n = "str", code & 31
    else:
        kinds = {0xC4: ("bin", ">B"), 0xC5: ("bin", ">H"), 0xC6: ("bin", ">I"), 0xD9: ("str", ">B"), 0xDA: ("str", ">H"),
                 0xDB: ("str", ">I"), 0xDC: ("array", ">H"), 0xDD: ("array", ">I"), 0xDE: ("map", ">H"), 0xDF: ("map", ">I")}
        if code not in kinds:
            raise ValueError("a value that this client does not speak (0x%02x)" % code)
        kind, form = kinds[code]
        n = struct.unpack_from(form, b, at)[0]
        at += struct.calcsize(form)
    if kind in ("str", "bin"):
        text = b[at:at + n]
        return (text.decode("utf-8", "surrogateescape") if kind == "str" else text), at + n
    if kind == "array":
        items = []
        for _ in range(n):
            v, at = unpack(b, at)
            items.append(v)
        return items, at
    table = {}
    for _ in range(n):
        k, at = unpack(b, at)
        table[k], at = unpack(b, at)
    return table, at


# ---- the cookie -------------------------------------------------------------------------------------------------------


def cookies():
    """The cookies of this user that can be read: id -> bytes, best first."""
    uid = os.geteuid()
    folders = [os.environ.get("IPC_RUNTIME_DIR"), "/run/user/%d/libipc" % uid]
    if os.environ.get("XDG_RUNTIME_DIR"):
        folders.append(os.environ["XDG_RUNTIME_DIR"] + "/libipc")
    try:
        folders.append(pwd.getpwuid(uid).pw_dir + "/.cache/libipc")
    except KeyError:
        pass
    folders.append("/tmp/libipc-%d" % uid)
    found = {}
    for folder in folders:
        if not folder or not folder.startswith("/"):
            continue
        try:
            at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            meta = os.fstat(at)
            if meta.st_uid != uid or stat.S_IMODE(meta.st_mode) != 0o700:
                continue
            fd = os.open("cookie", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
            with os.fdopen(fd, "rb") as file:
                meta = os.fstat(fd)
                good = stat.S_ISREG(meta.st_mode) and meta.st_uid == uid and stat.S_IMODE(meta.st_mode) == 0o600
                key = file.read(33) if good else b""
            if len(key) == 32:
                found.setdefault(hashlib.blake2s(b"libipc cookie 2\0" + key).digest()[:16], key)
        except OSError:
            pass
        finally:
            os.close(at)
    return found


def boot():
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def network(sock):
    SO_NETNS_COOKIE = 71  # Linux 5.14
    try:
        return struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))[0]
    except (OSError, struct.error):
        return None


def prove(key, *parts):
    return hashlib.blake2s(b"".join(parts), key=key).digest()


# ---- the connection ---------------------------------------------------------------------------------------------------


class Client:
    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.shake_hands()

    def read(self, n):
        parts = []
        while n > 0:
            part = self.socket.recv(n)
            if not part:
                raise ConnectionError("the server closed the connection")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    @staticmethod
    def packet(kind, body):
        return b"LIBIPC" + struct.pack("<BBI", 2, kind, len(body)) + body

    def answer(self):
        head = self.read(12)
        version, kind, length = struct.unpack("<BBI", head[6:])
        if head[:6] != b"LIBIPC":
            raise ConnectionError("this is no libipc")
        body = self.read(length)
        if kind == 5:  # it has this form in every version
            refusal = unpack(body)[0]
            raise ConnectionError("%s: %s" % (refusal["code"], refusal["what"]))
        if version != 2 or kind != 3:
            raise ConnectionError("version %d, kind %d" % (version, kind))
        return head + body

    def addresses(self):
        def in_bytes(name):
            host = name[0].split("%")[0]
            if ":" in host:
                ip = socket.inet_pton(socket.AF_INET6, host)
            else:
                ip = b"\0" * 10 + b"\xff\xff" + socket.inet_aton(host)
            return ip + struct.pack(">H", name[1])

        return in_bytes(self.socket.getsockname()) + in_bytes(self.socket.getpeername())

    def shake_hands(self):
        known = cookies()
        me = {
            "version": "python", "process": os.urandom(16), "boot": boot(), "network": network(self.socket), "pid": os.getpid(), "uid": os.geteuid(),
            "little_endian": sys.byteorder == "little", "dtypes": [], "functions": False, "encrypt": None, "demands": True,
            "nonce": os.urandom(16), "cookies": list(known)[:16], **LIMITS,
        }
        hello = self.packet(1, pack(me))
        self.socket.sendall(hello)
        welcome = self.answer()
        self.server = unpack(welcome, 12)[0]
        key = known.get(self.server.get("cookie"))
        if key is None:
            raise ConnectionError("the server proves nothing: it does not run as this user on this host")
        addresses = self.addresses()
        for name in ("boot", "network"):  # a forwarder may use the same addresses on both sides
            if me[name] and self.server.get(name) and me[name] != self.server[name]:
                raise ConnectionError("the server runs on another host, or in another network of this one")
        proof = prove(key, b"libipc server 2\0", hello, welcome[:-32], addresses)
        if not hmac.compare_digest(proof, welcome[-32:]):
            raise ConnectionError("the server's proof is wrong: something in between forwards the connection")
        body = pack({"link": None})
        confirm = self.packet(6, body + bytes(32))[:-32]
        self.socket.sendall(confirm + prove(key, b"libipc client 2\0", hello, welcome, addresses, confirm))

    def send(self, value):
        message = b"\x10" + pack(value)
        if len(message) > self.server["max_message"]:
            raise ValueError("%d bytes, the server takes %d" % (len(message), self.server["max_message"]))
        self.socket.sendall(struct.pack("<BBHIQ", 1, 0, 0, 0, len(message)) + message)

    def recv(self):
        kind, flags, zero, descriptors, length = struct.unpack("<BBHIQ", self.read(16))
        if kind != 1 or flags or zero or descriptors or length > LIMITS["max_message"]:
            raise ConnectionError("a frame that was not agreed on")
        message = self.read(length)
        if message[0] & 0xF0 != 0x10:
            raise ConnectionError("values of another form")
        return unpack(message, 1)[0]


if __name__ == "__main__":
    client = Client("127.0.0.1", int(sys.argv[1]))
    client.send(json.loads(sys.argv[2]))
    if "--echo" in sys.argv:
        print(json.dumps(client.recv(), sort_keys=True))
