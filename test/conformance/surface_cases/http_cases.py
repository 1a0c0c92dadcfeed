"""H: the paths, the headers, the methods, the connections."""

import os
import re
import stat

from . import pprof
from .case import GZIP, PLAIN, SNAPSHOTS, Case, Skip, check_file, check_go_error, check_text, equal, together
from .wire import Connection, to_bytes

LISTED = ["allocs", "block", "cmdline", "goroutine", "heap", "mutex", "threadcreate"]


def index(t):
    answer = t.get("/debug/pprof/")
    equal(answer.status, 200, "status")
    equal(answer.header("Content-Type"), "text/html; charset=utf-8", "Content-Type")
    equal(answer.header("X-Content-Type-Options"), "nosniff", "X-Content-Type-Options")
    page = answer.body.decode()
    assert "Types of profiles available:" in page
    # Go lists profile, symbol and trace as well, but not in all of its versions.
    for name in LISTED + ([] if t.is_go else ["profile", "symbol"]):
        assert f"<a href='{name}?debug=1'>" in page, f"{name} is not listed"


def sentences(t):
    page = t.get("/debug/pprof/").body.decode()
    for name in re.findall(r"<a href='([^'?]+)\?debug=1'>", page):
        if t.is_go and name == "custom":
            continue  # a user's profile has no sentence there
        assert re.search(rf"<div class=profile-name>{name}: </div> [^\s<]", page), f"{name} has no sentence"


def no_slash(t):
    answer = t.get("/debug/pprof")
    assert answer.status in (301, 307), answer
    equal(answer.header("Location"), "/debug/pprof/", "Location")
    # Go's redirect keeps the query, with what is not ASCII escaped; ours too.
    location = t.get("/debug/pprof?a=\xe9").header("Location")
    equal(location, "/debug/pprof/?a=%c3%a9", "Location")


def unknown(t):
    check_go_error(t.get("/debug/pprof/nosuch"), 404, "Unknown profile")


def reflects_nothing(t):
    check_go_error(t.get("/debug/pprof/%3Cscript%3Escripty%3Cscript%3E"), 404, "Unknown profile")


def below_a_profile(t):
    check_go_error(t.get("/debug/pprof/heap/"), 404, "Unknown profile")


def outside(t):
    equal(t.get("/nosuch").status, 404, "status")


def cleaned(t):
    for target, wanted in (
        ("//debug/pprof/heap", "/debug/pprof/heap"),
        ("/debug//pprof/./heap?debug=1&x=%2F", "/debug/pprof/heap?debug=1&x=%2F"),
        ("/a/../debug/pprof/", "/debug/pprof/"),
        ("/debug/%2e%2e/../../debug/pprof//", "/debug/pprof/"),
    ):
        answer = t.get(target)
        assert answer.status in (301, 307), (target, answer)
        equal(answer.header("Location"), wanted, target)


def snapshot(*names):
    def run(t):
        for name in names:
            answer = t.get(f"/debug/pprof/{name}")
            check_file(answer, name)
            for header in ("Server", "Access-Control-Allow-Origin", "ETag", "Cache-Control"):
                equal(answer.header(header), None, header)

    return run


def escaped_path(t):
    check_file(t.get("/debug/pprof/%68eap"), "heap")


def text(t):
    heads = {"heap": "heap profile: ", "allocs": "heap profile: ", "block": "--- contention:\n", "mutex": "--- mutex:\n"}
    for name in SNAPSHOTS:
        answer = t.get(f"/debug/pprof/{name}?debug=1")
        check_text(answer)
        head = heads.get(name, f"{name} profile: total ")
        assert answer.body.decode().startswith(head), (name, answer.body[:80])


# What Go's r.FormValue and strconv.Atoi make of a query: a text or the file.
DEBUG = {
    "debug=0": "file", "debug=abc": "file", "debug=": "file", "debug": "file", "debug=1.0": "file", "debug=0x1": "file",
    "debug=+1": "file", "debug=1+": "file", "debug=%zz": "file", "debug=0&debug=1": "file", "Debug=1": "file", "debug=1_0": "file",
    "debug=1;x=1": "file", "x=%zz&debug=1": "text", "debug=1": "text", "debug=%31": "text", "de%62ug=1": "text",
    "debug=%2B1": "text", "debug=01": "text", "debug=1&debug=0": "text", "&&debug=1&": "text", "debug=99999999999999999999": "text",
    "debug=0&seconds=": "file", "?debug=1": "file",
}  # fmt: skip


def parameters(t):
    for query, wanted in DEBUG.items():
        answer = t.get("/debug/pprof/heap?" + query)
        try:
            check_text(answer) if wanted == "text" else check_file(answer, "heap")
        except AssertionError as error:
            raise AssertionError(f"{query}: {error}") from None


def encodings(t):
    for target in ("/debug/pprof/heap", "/debug/pprof/heap?debug=1", "/debug/pprof/"):
        plain, asked = t.get(target), t.get(target, [("Accept-Encoding", "gzip")])
        equal(asked.header("Content-Encoding"), None, "Content-Encoding")
        equal(asked.header("Content-Type"), plain.header("Content-Type"), "Content-Type")
        equal(asked.body[:2], plain.body[:2], target)


def methods(t):
    if t.is_go and t.go_version < (1, 22):
        raise Skip("this Go accepts every method")
    for method in ("POST", "PUT", "OPTIONS", "DELETE", "PATCH"):
        answer = t.ask(method, "/debug/pprof/heap")
        equal(answer.status, 405, method)
        equal(answer.header("Allow"), "GET, HEAD", "Allow")
        equal(answer.header("Content-Type"), PLAIN, "Content-Type")
        equal(answer.header("X-Content-Type-Options"), "nosniff", "X-Content-Type-Options")
        equal(answer.header("X-Go-Pprof"), None, "X-Go-Pprof")
        equal(answer.body, b"Method Not Allowed\n", "body")


def head(t):
    for target in ("/debug/pprof/heap", "/debug/pprof/heap?debug=1", "/debug/pprof/nosuch", "/debug/pprof/cmdline"):
        get = t.get(target)
        with t.connect() as connection:
            answer = connection.request("HEAD", target)
            equal(answer.status, get.status, target)
            for name in ("Content-Type", "Content-Disposition", "X-Content-Type-Options", "X-Go-Pprof"):
                equal(answer.header(name), get.header(name), name)
            # Nothing of a body may be on the wire before the next answer.
            equal(connection.request("GET", "/debug/pprof/cmdline").status, 200, "the next answer")


def old_http(t):
    with t.connect() as connection:
        connection.send("GET /debug/pprof/heap HTTP/1.0\r\n\r\n")
        answer = connection.answer()
        equal((answer.version, answer.status), ("HTTP/1.0", 200), "status line")
        equal(answer.header("Transfer-Encoding"), None, "Transfer-Encoding")
        pprof.Profile(answer.body)
        equal(connection.read_to_end(), b"", "behind the answer")


def keep_alive(t):
    with t.connect() as connection:
        for _ in range(3):
            equal(connection.request("GET", "/debug/pprof/heap").status, 200, "heap")
            equal(connection.request("GET", "/debug/pprof/nosuch").status, 404, "nosuch")
        equal(connection.request("GET", "/debug/pprof/cmdline", [("Connection", "close")]).status, 200, "the last one")
        equal(connection.read_to_end(), b"", "behind the last answer")


def pipelined(t):
    targets = ["/debug/pprof/cmdline", "/debug/pprof/nosuch", "/debug/pprof/heap?seconds=1", "/debug/pprof/symbol"]
    with t.connect() as connection:
        connection.send(b"".join(to_bytes("GET", target) for target in targets))
        equal([connection.answer().status for _ in targets], [200, 404, 200, 200], "in the order asked")


def body_of_a_get(t):
    with t.connect() as connection:
        answer = connection.request("GET", "/debug/pprof/heap", [("Transfer-Encoding", "chunked")], b"3\r\nabc\r\n0\r\n\r\n")
        check_file(answer, "heap")
    with t.connect() as connection:
        check_file(connection.request("GET", "/debug/pprof/heap", [], b"debug=1"), "heap")


def parallel(t):
    targets = ["profile?seconds=1"] + [SNAPSHOTS[i % len(SNAPSHOTS)] for i in range(16)]
    for answer in together([lambda target=target: t.get("/debug/pprof/" + target) for target in targets]):
        equal(answer.status, 200, "status")
        pprof.Profile(answer.body)


def long_query(t):
    equal(t.get("/debug/pprof/heap?x=" + "q" * 8192).status, 200, "status")


def command_line(t):
    answer = t.get("/debug/pprof/cmdline")
    check_text(answer)
    equal(answer.header("X-Content-Type-Options"), "nosniff", "X-Content-Type-Options")
    t.need_pid()
    with open(f"/proc/{t.pid}/cmdline", "rb") as file:
        equal(answer.body + b"\0", file.read(), "cmdline")


def odd_arguments(t):
    t.need_pid()
    arguments = t.get("/debug/pprof/cmdline").body.split(b"\0")
    if b"" not in arguments:
        raise Skip("the program was started without an empty argument")
    assert any(b" " in argument for argument in arguments), arguments
    command_line(t)


def unix_socket(t):
    if not t.unix:
        raise Skip("no --unix")
    for target in ("/debug/pprof/heap", "/debug/pprof/heap?debug=1", "/debug/pprof/nosuch", "/debug/pprof/"):
        with Connection(t.unix) as connection:
            local = connection.request("GET", target, [("Connection", "close")])
        tcp = t.get(target)
        varies = ("Date", "Content-Length", "Transfer-Encoding")
        equal(local.status, tcp.status, target)
        equal(*([h for h in answer.headers if h[0] not in varies] for answer in (local, tcp)), "headers")
        equal(local.body[:2], tcp.body[:2], target)


def socket_mode(t):
    if not t.unix:
        raise Skip("no --unix")
    equal(stat.S_IMODE(os.stat(t.unix).st_mode), 0o600, "mode")


def garbage_collection(t):
    for name in SNAPSHOTS:
        check_file(t.get(f"/debug/pprof/{name}?gc=1"), name)


def semicolon(t):
    check_file(t.get("/debug/pprof/heap?seconds=1;debug=1"), "heap")


def header_order(t):
    names = [name for name, _ in t.get("/debug/pprof/heap").headers]
    names = [name for name in names if name not in ("Content-Length", "Transfer-Encoding", "Connection")]
    equal(names, ["Content-Disposition", "Content-Type", "X-Content-Type-Options", "Date"], "headers in order")


def magic(t):
    equal(t.get("/debug/pprof/heap").body[:10], GZIP + b"\0\0\0\0\0\x04\xff", "the head of the gzip file")


CASES = [
    Case("H01", "M", "the index lists every profile", index),
    Case("H02", "S", "each listed profile has a sentence", sentences),
    Case("H03", "S", "the index without its slash redirects", no_slash),
    Case("H04", "M", "an unknown profile", unknown),
    Case("H05", "M", "nothing is reflected", reflects_nothing),
    Case("H06", "S", "below a profile there is nothing", below_a_profile),
    Case("H07", "S", "outside there is nothing", outside),
    Case("H07", "S", "paths that are not clean redirect to those that are", cleaned),
    Case("H08", "M", "heap is a file to download", snapshot("heap")),
    Case("H08", "S", "a path may be percent-encoded", escaped_path),
    Case("H08", "S", "headers in Go's order", header_order),
    Case("H09", "M", "so are the other snapshots", snapshot(*SNAPSHOTS)),
    Case("H10", "M", "debug=1 is text", text),
    Case("H11", "S", "queries are read as Go reads them", parameters),
    Case("H12", "M", "Accept-Encoding changes nothing", encodings),
    Case("H12", "S", "the gzip file is Go's", magic),
    Case("H13", "S", "other methods are refused", methods),
    Case("H14", "S", "HEAD has GET's headers and no body", head),
    Case("H15", "M", "HTTP/1.0", old_http),
    Case("H16", "M", "a connection serves many requests", keep_alive),
    Case("H16", "M", "also when they come at once", pipelined),
    Case("H16", "S", "and requests with bodies that nobody needs", body_of_a_get),
    Case("H17", "M", "16 snapshots in parallel during a CPU profile", parallel),
    Case("H18", "M", "a query of 8 KiB", long_query),
    Case("H19", "M", "cmdline is argv", command_line),
    Case("H20", "M", "cmdline keeps empty arguments, spaces and UTF-8", odd_arguments),
    Case("H21", "M", "the Unix socket answers as TCP does", unix_socket),
    Case("H22", "X", "the Unix socket is for its owner only", socket_mode, "Go's mode is the umask's"),
    Case("H23", "S", "gc=1 is accepted", garbage_collection),
    Case("H24", "S", "a query with a semicolon is ignored", semicolon),
]
