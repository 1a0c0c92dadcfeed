"""S: names for addresses."""

from .case import Case, Skip, check_text, equal
from .wire import to_bytes

POST_ONLY_OURS = "since 1.22 it answers 405 to the POST that its own client sends"


def known(t):
    """Two addresses with the names that may stand for them."""
    profile = t.profile("/debug/pprof/goroutine")
    # The leaf may lie on the first byte of a function; callers lie inside.
    callers = [profile.location_of[location] for sample in profile.samples for location in sample.locations[1:]]
    named = {location.address: profile.names(location) for location in callers if location.lines and location.mapping_id}
    named = {address: names for address, names in named.items() if not any(name.startswith("[") for name in names)}
    if len(named) < 2:
        raise Skip("no two functions with a name")
    return list(named.items())[:2]


def check_names(t, answer, wanted):
    check_text(answer)
    lines = answer.body.decode().splitlines()
    equal(lines[0], "num_symbols: 1", "the first line")
    equal(len(lines), 1 + len(wanted), answer.body)
    for line, (address, names) in zip(lines[1:], wanted):
        shown, _, name = line.partition(" ")
        equal(shown, hex(address), line)
        assert name in names, f"{line}: not one of {names}"


def nothing(t):
    for query in ("", "?", "?0", "?zz"):
        equal(t.get("/debug/pprof/symbol" + query).body, b"num_symbols: 1\n", query)


def by_get(t):
    wanted = known(t)
    for order in (wanted, wanted[::-1]):
        words = "+".join(hex(address) for address, _ in order)
        check_names(t, t.get("/debug/pprof/symbol?" + words), order)


def by_post(t):
    wanted = known(t)
    words = "+".join(hex(address) for address, _ in wanted).encode()
    for kind in ("application/octet-stream", "application/x-www-form-urlencoded"):
        check_names(t, t.ask("POST", "/debug/pprof/symbol", [("Content-Type", kind)], words), wanted)


def words(t):
    first, second = known(t)
    a, b = first[0], second[0]
    mixed = f"0x1+{a}+zz++0+-1+0x{a:X}+0{b:o}+0b{b:b}+0xfffffffffffffffff+0o{b:o}+0x_{a:x}+0x{b:x}_"
    check_names(t, t.get("/debug/pprof/symbol?" + mixed), [first, first, second, second, second, first])
    # Neither of these separates words.
    check_names(t, t.get(f"/debug/pprof/symbol?{a:#x},{b:#x}+{a:#x}%2B{b:#x}+{b:#x}"), [second])


def endless_word(t):
    first, _ = known(t)
    answer = t.get(f"/debug/pprof/symbol?{first[0]:#x}+" + "0" * 5000 + "+1")
    assert answer.body.endswith(b"\nreading request: bufio: buffer full\n"), answer.body[-100:]


def many(t):
    first, second = known(t)
    count = 100_000
    body = "+".join([f"{first[0]:#x}", f"{second[0]:#x}"] * (count // 2)).encode()
    lines = t.ask("POST", "/debug/pprof/symbol", [], body).body.decode().splitlines()
    equal(len(lines), 1 + count, "lines")
    for line in lines[-2:]:
        assert line.partition(" ")[2] in first[1] | second[1], line


def other_bodies(t):
    wanted = known(t)
    words = "+".join(hex(address) for address, _ in wanted).encode()
    half = len(words) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (words[:half], words[half:])) + b"0\r\n\r\n"
    with t.connect() as connection:
        answer = connection.request("POST", "/debug/pprof/symbol", [("Transfer-Encoding", "chunked")], chunks)
        check_names(t, answer, wanted)
        announced = to_bytes("POST", "/debug/pprof/symbol", [("Expect", "100-continue")], words)
        connection.send(announced[: -len(words)])
        equal(connection.answer().status, 100, "the interim answer")
        connection.send(words)
        check_names(t, connection.answer(), wanted)


CASES = [
    Case("S01", "M", "without addresses the answer is that there are symbols", nothing),
    Case("S02", "M", "names in the order asked", by_get),
    Case("S03", "M", "by POST", by_post, POST_ONLY_OURS),
    Case("S04", "M", "what is no address is passed over", words),
    Case("S04", "S", "a word without end", endless_word),
    Case("S05", "M", "a hundred thousand addresses", many, POST_ONLY_OURS),
    Case("S06", "M", "clients ask for the names that a profile has not", elsewhere="clients_test"),
    Case("S07", "S", "chunked and announced bodies", other_bodies, POST_ONLY_OURS),
]
