"""What a case is, and the server that it asks."""

import collections
import functools
import os
import subprocess
import tempfile
import threading
import time

from . import pprof
from .wire import Connection, to_address

# Answered at once, and as a difference with ?seconds=N.
SNAPSHOTS = ["allocs", "block", "goroutine", "heap", "mutex", "threadcreate"]
EVERY = [*SNAPSHOTS, "profile?seconds=1", *(f"{name}?seconds=1" for name in SNAPSHOTS)]
GZIP = b"\x1f\x8b\x08"
PLAIN = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"

# strictness: M must, S should (Go's bytes), X an extension of ours. not_for_go: why Go's own server answers differently.
# A case that cannot be shown through a URL alone has no function; `elsewhere` names the test that shows it.
Case = collections.namedtuple("Case", "id strictness title run not_for_go elsewhere", defaults=(None, None, None))


class Scrape:
    """An answer, and when it was asked for and there, ns."""

    def __init__(self, begin, answer, end):
        self.begin, self.answer, self.end = begin, answer, end

    @functools.cached_property
    def profile(self):
        return pprof.Profile(self.answer.body)


class Skip(Exception):
    """This server, or what we know of it, has not what the case needs."""


def equal(got, wanted, what=""):
    assert got == wanted, f"{what}: {got!r} instead of {wanted!r}".lstrip(": ")


class Target:
    def __init__(self, options):
        self.url, self.pid, self.unix, self.tools = options.url.rstrip("/"), options.pid, options.unix, options.tools
        self.is_go, self.is_long, self.go_version = options.go, options.long, (0, 0)
        self.address = to_address(self.url)
        if self.is_go:
            version = self.get("/version").body.decode()  # "go1.26.8"
            self.go_version = tuple(int(part) for part in version[2:].split(".")[:2])

    def connect(self):
        return Connection(self.address)

    def ask(self, method, target, headers=(), body=b""):
        with self.connect() as connection:
            return connection.request(method, target, [*headers, ("Connection", "close")], body)

    def get(self, target, headers=()):
        return self.ask("GET", target, headers)

    def profile(self, target):
        answer = self.get(target)
        equal(answer.status, 200, target)
        return pprof.Profile(answer.body)

    def scrape(self, target):
        begin = time.time_ns()
        answer = self.get("/debug/pprof/" + target)
        return Scrape(begin, answer, time.time_ns())

    @functools.cache
    def every(self):
        """Each profile as it was once, for all cases that only look at what is in it."""
        return dict(zip(EVERY, together([lambda target=target: self.scrape(target) for target in EVERY])))

    def need_pid(self):
        if not self.pid:
            raise Skip("no --pid")

    def tool(self, name, *arguments, fails=False):
        """Runs one of the clients that --tools has; its output, or what it complains of when it is to fail."""
        if not self.tools or not os.path.exists(os.path.join(self.tools, name)):
            raise Skip(f"no {name} in --tools")
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "PPROF_TMPDIR": folder, "HOME": folder}
            done = subprocess.run(
                [os.path.join(self.tools, name), *arguments], capture_output=True, text=True, env=environment, timeout=120
            )
        assert (done.returncode != 0) == fails, f"{name} {arguments}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stderr if fails else done.stdout


def each(rule):
    """The case that a rule of a target and its scrape holds for each profile."""

    def run(t):
        for target, scrape in t.every().items():
            try:
                rule(target, scrape)
            except AssertionError as error:
                raise AssertionError(f"{target}: {error}") from None

    return run


def each_profile(rule):
    return each(lambda _, scrape: rule(scrape.profile))


def together(works):
    """Runs all at the same time; their results in order."""
    results = [None] * len(works)

    def run(i):
        try:
            results[i] = works[i]()
        except BaseException as error:  # the thread that waits for us raises it
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def wait_until(condition, what):
    deadline = time.monotonic() + 60  # only guards against hangs
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def check_go_error(answer, status, text):
    equal(answer.status, status, "status")
    equal(answer.header("Content-Type"), PLAIN, "Content-Type")
    equal(answer.header("X-Go-Pprof"), "1", "X-Go-Pprof")
    equal(answer.header("X-Content-Type-Options"), "nosniff", "X-Content-Type-Options")
    equal(answer.header("Content-Disposition"), None, "Content-Disposition")
    equal(answer.body.decode(), text + "\n", "body")


def check_file(answer, name):
    equal(answer.status, 200, name)
    equal(answer.header("Content-Type"), BINARY, "Content-Type")
    equal(answer.header("Content-Disposition"), f'attachment; filename="{name}"', "Content-Disposition")
    equal(answer.header("X-Content-Type-Options"), "nosniff", "X-Content-Type-Options")
    assert answer.body[:3] == GZIP, answer.body[:40]


def check_text(answer):
    equal(answer.status, 200, "status")
    equal(answer.header("Content-Type"), PLAIN, "Content-Type")
    equal(answer.header("Content-Disposition"), None, "Content-Disposition")
