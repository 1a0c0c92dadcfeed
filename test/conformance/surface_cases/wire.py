"""HTTP over a socket: says exactly what it is told to, follows nothing, decodes nothing."""

import socket
import struct
import urllib.parse

PATIENCE = 150  # seconds; only guards against hangs


class Answer:
    def __init__(self, version, status, headers, body):
        self.version, self.status, self.headers, self.body = version, status, headers, body

    def header(self, name):
        """The value, None when there is none. A header that comes twice is an error."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, f"{name} comes {len(values)} times"
        return values[0] if values else None

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:200]!r}>"


class Connection:
    def __init__(self, address):
        """address: (host, port), or the path of a Unix socket"""
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address)
        self.ahead = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        """A peer that has closed is not an error: what it said before is still to be read."""
        try:
            self.socket.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def request(self, method, target, headers=(), body=b"", version="HTTP/1.1"):
        self.send(to_bytes(method, target, headers, body, version))
        return self.answer(method == "HEAD")

    def fill(self):
        try:
            got = self.socket.recv(1 << 16)
        except ConnectionResetError:
            got = b""
        self.ahead += got
        return bool(got)

    def take(self, count):
        while len(self.ahead) < count and self.fill():
            pass
        taken, self.ahead = self.ahead[:count], self.ahead[count:]
        assert len(taken) == count, f"the connection ends {count - len(taken)} bytes too early"
        return taken

    def take_until(self, mark):
        while mark not in self.ahead:
            assert self.fill(), f"the connection ends before {mark!r}: {self.ahead[:200]!r}"
        taken, _, self.ahead = self.ahead.partition(mark)
        return taken

    def answer(self, is_head=False):
        head = self.take_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, _ = (head[0] + " ").split(" ", 2)
        headers = [tuple(part.strip() for part in line.split(":", 1)) for line in head[1:]]
        answer = Answer(version, int(status), headers, b"")
        if is_head or status == "100":
            return answer
        if answer.header("Transfer-Encoding") == "chunked":
            answer.body = self.take_chunks()
        elif answer.header("Content-Length") is not None:
            answer.body = self.take(int(answer.header("Content-Length")))
        else:
            answer.body = self.read_to_end()
        return answer

    def take_chunks(self):
        body = b""
        while True:
            size = int(self.take_until(b"\r\n"), 16)
            body += self.take(size)
            self.take_until(b"\r\n")
            if size == 0:
                return body

    def read_to_end(self):
        while self.fill():
            pass
        taken, self.ahead = self.ahead, b""
        return taken

    def finish_sending(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # the peer has ended the connection
            pass

    def close(self):
        self.socket.close()

    def reset(self):
        """An end without the orderly goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def to_bytes(method, target, headers=(), body=b"", version="HTTP/1.1"):
    lines = [f"{method} {target} {version}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if not any(name.lower() == "host" for name, _ in headers):
        lines.append("Host: localhost")
    if body and not any(name.lower() == "transfer-encoding" for name, _ in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def to_address(url):
    parts = urllib.parse.urlsplit(url)
    return parts.path if parts.scheme == "unix" else (parts.hostname, parts.port or 80)
