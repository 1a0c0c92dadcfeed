"""D: ?seconds=N on a snapshot is what changed meanwhile."""

from .case import SNAPSHOTS, Case, Skip, check_file, check_go_error, equal, together

INVALID = 'invalid value for "seconds" - must be a positive integer'
SECOND = 1_000_000_000


def check_delta(name, seconds, scrape):
    check_file(scrape.answer, f"{name}-delta")
    delta = scrape.profile
    # Never shorter than asked; no longer than the client itself has waited, so that a busy machine breaks nothing.
    took = scrape.end - scrape.begin
    assert seconds * SECOND * 99 // 100 <= delta.duration <= took, (delta.duration, took)
    assert scrape.begin <= delta.time <= scrape.end, (scrape, delta.time)
    return delta


def heap_delta(t):
    check_delta("heap", 1, t.scrape("heap?seconds=1"))


def all_deltas(t):
    every = t.every()
    for name in SNAPSHOTS:
        delta = check_delta(name, 1, every[f"{name}?seconds=1"])
        whole = every[name].profile
        equal(delta.sample_types, whole.sample_types, name)
        equal((delta.period_type, delta.period), (whole.period_type, whole.period), name)


def only_changes(t):
    every = t.every()
    for name in SNAPSHOTS:
        delta = every[f"{name}?seconds=1"].profile
        for sample in delta.samples:
            assert any(sample.values), f"a sample of zeros in the delta of {name}"
            for (kind, _), value in zip(delta.sample_types, sample.values):
                assert value >= 0 or not kind.startswith("alloc_"), f"{kind} falls"
        used = {location for sample in delta.samples for location in sample.locations}
        equal({location.id for location in delta.locations}, used, f"locations of the delta of {name}")


def wrong_seconds(t):
    for name in SNAPSHOTS:
        for value in ("0", "-1", "abc", "1.5", "1e1", "0x1", "1_0", "+1", "1+", "99999999999999999999"):
            check_go_error(t.get(f"/debug/pprof/{name}?seconds={value}"), 400, INVALID)


def debug_too(t):
    for debug in ("1", "2", "-1"):
        answer = t.get(f"/debug/pprof/heap?seconds=1&debug={debug}")
        check_go_error(answer, 400, "seconds and debug params are incompatible")


def no_debug(t):
    check_file(t.get("/debug/pprof/heap?seconds="), "heap")
    queries = ["seconds=1&debug=0", "seconds=%2B1", "s%65conds=1&seconds=abc", "seconds=1&debug=abc"]
    for answer in together([lambda query=query: t.get("/debug/pprof/heap?" + query) for query in queries]):
        check_file(answer, "heap-delta")


def not_supported(t):
    if t.get("/debug/pprof/custom").status == 404:
        raise Skip("no profile that is not a delta's")
    answer = t.get("/debug/pprof/custom?seconds=1")
    check_go_error(answer, 400, '"seconds" parameter is not supported for this profile type')


def other_pages(t):
    equal(t.get("/debug/pprof/cmdline?seconds=0").status, 200, "cmdline")
    equal(t.get("/debug/pprof/nosuch?seconds=0").status, 404, "nosuch")


def leaves(t):
    with t.connect() as orderly, t.connect() as abrupt:
        for connection in (orderly, abrupt):
            connection.send("GET /debug/pprof/heap?seconds=300 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        equal(t.get("/debug/pprof/heap").status, 200, "meanwhile")
        abrupt.reset()
    equal(t.get("/debug/pprof/heap").status, 200, "afterwards")


def overlapping(t):
    def delta(seconds):
        check_delta("allocs", seconds, t.scrape(f"allocs?seconds={seconds}"))

    together([lambda: delta(3), lambda: delta(1), lambda: delta(2)])


def long_delta(t):
    # Ours waits 5 s for the end of a header, and for nothing else less than a minute.
    seconds = 65 if t.is_long else 7
    check_delta("heap", seconds, t.scrape(f"heap?seconds={seconds}"))


CASES = [
    Case("D01", "M", "a delta takes its time and says so", heap_delta),
    Case("D02", "M", "so do the deltas of the other snapshots, with the right types", all_deltas),
    Case("D03", "M", "seconds must be a positive integer", wrong_seconds),
    Case("D04", "M", "seconds and debug do not go together", debug_too),
    Case("D05", "S", "debug=0 leaves a delta, an empty seconds a snapshot", no_debug),
    Case("D06", "S", "a profile that is not a delta's", not_supported),
    Case("D06", "S", "pages that have no time", other_pages),
    Case("D07", "M", "a delta shows what happened meanwhile and nothing else", elsewhere="delta_test, contention_test"),
    Case("D08", "M", "a delta in which nothing happened is a valid empty profile", elsewhere="delta_test, contention_test"),
    Case("D09", "M", "no samples of zeros, nothing that no sample needs", only_changes),
    Case("D10", "M", "memory that goes meanwhile is negative in use", elsewhere="delta_test"),
    Case("D11", "M", "a client that leaves a long delta", leaves),
    Case("D12", "M", "overlapping deltas", overlapping),
    Case("D13", "M", "a delta longer than the server's other deadlines (--long: 65 s)", long_delta),
]
