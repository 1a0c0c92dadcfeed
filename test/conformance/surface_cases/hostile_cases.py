"""J, and H18: what clients can do wrong. The program never notices: as many threads, sockets and pages as before."""

import contextlib
import os

from .case import SNAPSHOTS, Case, check_file, check_go_error, equal, together, wait_until
from .delta_cases import leaves
from .symbol_cases import POST_ONLY_OURS
from .wire import to_bytes

HEAP = to_bytes("GET", "/debug/pprof/heap")


def sockets(pid):
    """Of all tables of descriptors of the process: the agent's thread has one of its own."""
    links = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        folder = f"/proc/{pid}/task/{task}/fd"
        with contextlib.suppress(OSError):
            for fd in os.listdir(folder):
                with contextlib.suppress(OSError):
                    links.add(os.readlink(f"{folder}/{fd}"))
    return sum(link.startswith("socket:") for link in links)


def status_of(pid, key):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key + ":"))


@contextlib.contextmanager
def unnoticed(t):
    """What the program has of ours is afterwards what it was before."""
    t.get("/debug/pprof/heap")
    before = sockets(t.pid) if t.pid else 0
    yield
    check_file(t.get("/debug/pprof/heap"), "heap")
    if t.pid:
        wait_until(lambda: sockets(t.pid) <= before, lambda: f"{sockets(t.pid)} sockets after {before}")


def half_open(t):
    with unnoticed(t), contextlib.ExitStack() as open_ones:
        for part in (b"", b"G", b"GET /debug/pprof/heap HTTP/1.1\r\nHost: local", HEAP[:-2], HEAP[:-1]):
            for _ in range(8):
                connection = open_ones.enter_context(t.connect())
                connection.send(part)
        check_file(t.get("/debug/pprof/heap"), "heap")


BIG = {
    "a query of 2 MiB": b"GET /debug/pprof/heap?" + b"x" * (2 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path of 1 MiB": b"GET /" + b"x" * (1 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a header of 2 MiB": b"GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\nX: " + b"h" * (2 << 20) + b"\r\n\r\n",
    "400,000 headers": b"GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 400_000 + b"\r\n",
}
BROKEN = {
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 300,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "zeros": b"\0" * 4096,
    "a word": b"GET\r\n\r\n",
    "no version": b"GET /debug/pprof/heap\r\n\r\n",
    "an unknown version": b"GET /debug/pprof/heap HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no Host": b"GET /debug/pprof/heap HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "a zero byte in the path": b"GET /debug/\0pprof/heap HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a space in the path": b"GET /debug/pprof/ heap HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a wrong escape": b"GET /debug/pprof/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a cut escape": b"GET /debug/pprof/heap%2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a header without a colon": b"GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
    "a space before the colon": b"GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n",
    "a length below zero": b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "a length of 21 digits": b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999999999999\r\n\r\n",
    "a length in hex": b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x5\r\n\r\nabcde",
    "two lengths": b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "an unknown encoding": b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: zip\r\n\r\nabc",
    "no end": b"GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\n",
    "nothing": b"",
}  # fmt: skip


def refused(requests):
    def run(t):
        with unnoticed(t):
            for name, request in requests.items():
                with t.connect() as connection:
                    connection.send(request)
                    connection.finish_sending()
                    answer = connection.read_to_end()
                    ok = not answer or answer[:7] == b"HTTP/1." and answer[9:12] != b"500" and answer[9:10] in b"45"
                    assert ok, f"{name}: {answer[:200]!r}"

    return run


def large_headers(t):
    request = b"GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: " + b"h" * (64 << 10) + b"\r\n\r\n"
    with unnoticed(t), t.connect() as connection:
        connection.send(request)
        answer = connection.answer()
        assert answer.status in (200, 431), answer


def smuggled(t):
    """Both lengths: whoever stands in front may see one request, we another. Nobody gets to see the second."""
    with unnoticed(t), t.connect() as connection:
        connection.send(
            b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\nGET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        connection.finish_sending()
        answer = connection.read_to_end()
        assert answer.count(b"HTTP/1.1 ") == 1, answer


def own_names(t):
    port = f":{t.address[1]}"
    for host in (f"localhost{port}", f"127.0.0.1{port}", f"[::1]{port}", "localhost"):
        equal(t.get("/debug/pprof/heap", [("Host", host)]).status, 200, host)
    for host in ("evil.example", "localhost6", "127.0.0.1.", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "0"):
        answer = t.get("/debug/pprof/heap", [("Host", host)])
        equal(answer.status, 403, host)
        equal(answer.header("X-Go-Pprof"), "1", host)
    equal(t.get("http://evil.example/debug/pprof/heap").status, 403, "an absolute target")


def slow_header(t):
    """While 30 clients send a byte now and then, others get what they ask for at once."""
    with unnoticed(t), contextlib.ExitStack() as slow:
        connections = [slow.enter_context(t.connect()) for _ in range(30)]
        for byte in HEAP[:20]:
            for connection in connections:
                connection.send(bytes([byte]))
            check_file(t.get("/debug/pprof/heap"), "heap")


def slow_reader(t):
    """Clients that ask for much and read nothing."""
    with unnoticed(t), contextlib.ExitStack() as slow:
        for _ in range(20):
            connection = slow.enter_context(t.connect())
            connection.send(HEAP * 50)
        for _ in range(5):
            check_file(t.get("/debug/pprof/heap"), "heap")


def crowd(t):
    """120 connections that say nothing: a client with a question gets its answer, at the latest when their time is over."""
    with unnoticed(t), contextlib.ExitStack() as idle:
        for _ in range(120):
            idle.enter_context(t.connect())
        wait_until(lambda: t.get("/debug/pprof/heap").status == 200, lambda: "nobody gets an answer")


def busy(t):
    """64 requests that take a minute: the next client is told to come again."""
    with unnoticed(t), contextlib.ExitStack() as waiting:
        for _ in range(64):
            waiting.enter_context(t.connect()).send(to_bytes("GET", "/debug/pprof/heap?seconds=60"))
        answer = t.get("/debug/pprof/heap")
        check_go_error(answer, 503, "profagent answers 64 connections at a time. Try again.")
        equal(answer.header("Retry-After"), "1", "Retry-After")


def uploads(t):
    """20 bodies of 16 MiB that do not come to their end: later ones have room again."""
    part = to_bytes("POST", "/debug/pprof/symbol", [("Content-Length", 16 << 20)]) + b"0x1000+" * 10_000
    with unnoticed(t):
        with contextlib.ExitStack() as clients:
            for _ in range(20):
                clients.enter_context(t.connect()).send(part)
            check_file(t.get("/debug/pprof/heap"), "heap")
        wait_until(
            lambda: t.ask("POST", "/debug/pprof/symbol", [("Transfer-Encoding", "chunked")], b"0\r\n\r\n").status == 200,
            lambda: "no room for a body",
        )


def at_once(t):
    """100 clients at the same time: each gets a profile, or is told to come again."""
    with unnoticed(t):
        answers = together([lambda: t.get("/debug/pprof/heap") for _ in range(100)])
        for answer in answers:
            assert answer.status in (200, 503), answer
        assert sum(answer.status == 200 for answer in answers) >= 1


def leave(t, count):
    """`count` clients that go away in the middle of a profile, half of them without a goodbye."""
    targets = ["profile?seconds=30", "heap?seconds=30", "heap", "goroutine?seconds=30", "profile?seconds=30&hz=500"]
    at_a_time = 40
    for begin in range(0, count, at_a_time):
        connections = [t.connect() for _ in range(min(at_a_time, count - begin))]
        for i, connection in enumerate(connections):
            connection.send(to_bytes("GET", "/debug/pprof/" + targets[i % len(targets)]))
        equal(t.get("/debug/pprof/cmdline").status, 200, "meanwhile")  # so they have been heard
        for i, connection in enumerate(connections):
            connection.reset() if i % 2 else connection.close()


def thousand_leave(t):
    def has_cpu_profile():  # Go may need a moment to notice that nobody wants the one before any more
        return t.get("/debug/pprof/profile?seconds=1").status == 200

    leave(t, 40)  # what is needed for the first time is there from now on
    wait_until(has_cpu_profile, lambda: "no CPU profile")
    before = {key: status_of(t.pid, key) for key in ("Threads", "VmRSS")} if t.pid else {}
    with unnoticed(t):
        leave(t, 1000)
        wait_until(has_cpu_profile, lambda: "no CPU profile afterwards")
    if not t.pid or t.is_go:
        return  # Go's own memory and threads are not what is looked at
    wait_until(lambda: status_of(t.pid, "Threads") <= before["Threads"], lambda: "threads stay")
    grown = status_of(t.pid, "VmRSS") - before["VmRSS"]
    assert grown < 4096, f"{grown} KiB more than before"


def scrapes_during_profile(t):
    """A CPU profile and five scrapes at once."""
    seconds = 14 if t.is_long else 3
    targets = [f"profile?seconds={seconds}", "allocs", "block", "mutex", "goroutine", "heap"]
    for answer in together([lambda target=target: t.get("/debug/pprof/" + target) for target in targets]):
        equal(answer.status, 200, "status")


def too_long(t):
    for name in ["profile", *SNAPSHOTS]:
        for seconds in ("3601", "9223372036854775807"):
            check_go_error(t.get(f"/debug/pprof/{name}?seconds={seconds}"), 400, '"seconds" must be at most 3600')


def longest(t):
    with t.connect() as connection:
        connection.send("GET /debug/pprof/heap?seconds=3600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        equal(t.get("/debug/pprof/heap").status, 200, "meanwhile")
        connection.socket.setblocking(False)
        try:
            got = connection.socket.recv(100)
        except BlockingIOError:
            return
        raise AssertionError(f"an answer at once: {got!r}")


CASES = [
    Case("H18", "M", "half-open connections", half_open),
    Case("H18", "M", "requests that are too large", refused(BIG)),
    Case("H18", "M", "headers of 64 KiB", large_headers),
    Case("H18", "M", "what is not HTTP", refused(BROKEN)),
    Case("J2", "X", "only our own names", own_names, "it answers to every name"),
    Case("J9", "M", "clients that send slowly", slow_header),
    Case("J9", "M", "clients that do not read", slow_reader),
    Case("J9", "M", "connections that say nothing", crowd),
    Case("J9", "X", "more requests than are served at a time", busy, "it has no limit"),
    Case("J10", "M", "a client that leaves", leaves),
    Case("J10", "M", "a thousand clients that leave in the middle", thousand_leave),
    Case("J11", "M", "a hundred at the same time", at_once),
    Case("J11", "M", "large bodies that do not come to their end", uploads, POST_ONLY_OURS),
    Case("J11", "M", "five scrapes during a CPU profile (--long: of 14 s)", scrapes_during_profile),
    Case("J11", "X", "seconds has a bound", too_long, "it has none"),
    Case("J11", "X", "an hour is not beyond it", longest),
    Case("J12", "X", "two lengths for one body", smuggled, "it believes the chunks and goes on"),
]
