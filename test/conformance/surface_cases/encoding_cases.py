"""V: what is in the profiles, and what the clients make of them."""

import os
import re
import socket
import subprocess

from . import pprof
from .case import EVERY, Case, Skip, each, each_profile, equal, together, wait_until
from .wire import Connection

CUMULATIVE = {"alloc_objects", "alloc_space", "contentions", "delay"}


def scrapers_rules(t):
    urls = [f"{t.url}/debug/pprof/{target}" for target in EVERY]
    outputs = together([lambda url=url: t.tool("checkprof", url) for url in urls])
    equal(outputs, [f"{url}: ok\n" for url in urls], "checkprof")


def raw(t):
    urls = [f"{t.url}/debug/pprof/{target}" for target in EVERY]
    for output in together([lambda url=url: t.tool("go_pprof", "-raw", "-symbolize=none", url) for url in urls]):
        assert "PeriodType: " in output, output[:200]


def sequential_ids(profile):
    for table in (profile.mappings, profile.locations, profile.functions):
        equal([row.id for row in table], list(range(1, len(table) + 1)), "ids")


def addresses(profile):
    seen = set()
    for location in profile.locations:
        assert location.address, f"location {location.id} has address 0"
        assert location.address not in seen, f"two locations have address {location.address:#x}"
        seen.add(location.address)
        if location.mapping_id:
            mapping = profile.mapping_of[location.mapping_id]
            assert mapping.start <= location.address < mapping.limit, f"{location.address:#x} is outside of {mapping}"


def same_addresses(t):
    """What has been counted stays, at the same stack."""
    for name in ("allocs", "block", "mutex"):
        before, after = t.profile(f"/debug/pprof/{name}"), t.profile(f"/debug/pprof/{name}")
        check_growth(before, after)


def check_growth(before, after):
    now = sums(after)
    for identity, values in sums(before).items():
        for i, (kind, _) in enumerate(before.sample_types):
            if kind in CUMULATIVE and values[i]:
                assert identity in now, f"a stack is gone: {identity}"
                assert now[identity][i] >= values[i], f"{kind} falls from {values[i]} to {now[identity][i]}"


def sums(profile):
    result = {}
    for sample in profile.samples:
        values = result.get(profile.identity(sample), [0] * len(sample.values))
        result[profile.identity(sample)] = [a + b for a, b in zip(values, sample.values)]
    return result


def mappings(profile):
    for mapping in profile.mappings:
        for name in ("start", "limit", "offset"):
            equal(getattr(mapping, name) % 4096, 0, f"{mapping.file} {name}")
        assert mapping.start < mapping.limit and not mapping.file.endswith(" (deleted)"), mapping


def main_mapping(t):
    each_profile(mappings)(t)
    t.need_pid()
    program = os.readlink(f"/proc/{t.pid}/exe")
    notes = subprocess.run(["readelf", "-n", program], capture_output=True, text=True).stdout
    build_id = re.search(r"Build ID: ([0-9a-f]+)", notes)
    for scrape in t.every().values():
        first = scrape.profile.mappings[0]
        equal(first.file, program, "the first mapping")
        if build_id:
            equal(first.build_id, build_id[1], "its build id")


def string_table(profile):
    equal(profile.strings[0], "", "the first string")
    equal(len(set(profile.strings)), len(profile.strings), "strings")


def round_trip(t):
    for target in ("heap", "goroutine", "profile?seconds=1"):
        url = f"{t.url}/debug/pprof/{target}"
        file = os.path.join("/tmp", f"surface-{os.getpid()}.pb.gz")
        try:
            t.tool("go_pprof", "-proto", f"-output={file}", url)
            with open(file, "rb") as written:
                pprof.Profile(written.read())
        finally:
            if os.path.exists(file):
                os.remove(file)


def bare_address(t):
    out = t.tool("go_pprof", "-raw", "-seconds=1", t.url)
    assert "PeriodType: cpu nanoseconds" in out, out[:200]


def seconds_option(t):
    assert re.search(r"^Duration: ([2-9]|\d\d)(\.\d+)?s", t.tool("go_pprof", "-top", "-seconds=2", f"{t.url}/debug/pprof/heap"), re.M)


def our_words(t):
    complaint = t.tool("go_pprof", "-top", f"{t.url}/debug/pprof/nosuch", fails=True)
    assert "server response: 404 Not Found - Unknown profile" in complaint, complaint


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()


def is_served(address):
    try:
        Connection(address).close()
    except ConnectionRefusedError:
        return False
    return True


def web_pages(t):
    if not t.tools or not os.path.exists(os.path.join(t.tools, "go_pprof")):
        raise Skip("no go_pprof in --tools")
    process = None
    try:
        # Somebody else may be given the port before the program has it.
        for _ in range(3):
            address = free_address()
            host = "%s:%d" % address
            command = [os.path.join(t.tools, "go_pprof"), f"-http={host}", "-no_browser", f"{t.url}/debug/pprof/heap"]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            wait_until(lambda: process.poll() is not None or is_served(address), lambda: "no web pages")
            if process.poll() is None:
                break
        # The graph of /ui/ needs graphviz, the page of sources a function to look for (clients_test).
        for path in ("/ui/flamegraph", "/ui/top", "/ui/peek?f=."):
            with Connection(address) as connection:
                answer = connection.request("GET", path, [("Host", host), ("Connection", "close")])
                equal(answer.status, 200, path)
    finally:
        if process is not None:
            process.kill()
            process.wait()


def one_gzip_file(_, scrape):
    pprof.unzip(scrape.answer.body)


def times(target, scrape):
    assert scrape.begin <= scrape.profile.time <= scrape.end, scrape.profile.time
    # The time of a CPU profile is that of its begin.
    if target.startswith("profile"):
        assert scrape.profile.time + scrape.profile.duration <= scrape.end, scrape.profile.duration


def durations(target, scrape):
    equal(scrape.profile.duration > 0, "seconds" in target, "it has a duration")


def types(profile):
    assert 1 <= len(profile.sample_types) <= 4, profile.sample_types
    for kind, unit in profile.sample_types:
        assert kind and unit and "-" not in kind, profile.sample_types
    for sample in profile.samples:
        equal(len(sample.values), len(profile.sample_types), "values")


def labels(profile):
    for sample in profile.samples:
        keys = [label.key for label in sample.labels]
        equal(len(set(keys)), len(keys), f"labels {sample.labels}")
        for label in sample.labels:
            assert label.key and not label.key.startswith("pprof::"), label
            assert label.text or label.number or label.unit, label


def first_types(t):
    heap = [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")]
    waits = [("contentions", "count"), ("delay", "nanoseconds")]
    every = t.every()
    for name, wanted, period in (
        ("heap", heap, ("space", "bytes")),
        ("allocs", heap, ("space", "bytes")),
        ("block", waits, ("contentions", "count")),
        ("mutex", waits, ("contentions", "count")),
        ("goroutine", [("goroutine", "count")], ("goroutine", "count")),
        ("threadcreate", [("threadcreate", "count")], ("threadcreate", "count")),
        ("profile?seconds=1", [("samples", "count"), ("cpu", "nanoseconds")], ("cpu", "nanoseconds")),
    ):
        profile = every[name].profile
        equal(profile.sample_types, wanted, name)
        equal(profile.period_type, period, name)


CASES = [
    Case("V01", "M", "checkprof on every endpoint", scrapers_rules, "checkprof knows rules for programs that are not Go's"),
    Case("V02", "M", "pprof -raw on every endpoint", raw),
    Case("V03", "M", "ids count from 1 in message order", each_profile(sequential_ids)),
    Case("V04", "M", "addresses are unique, not zero, in their mappings", each_profile(addresses)),
    Case("V05", "M", "a stack has the same addresses in two scrapes (after dlopen: encoding_test)", same_addresses),
    Case("V06", "M", "mappings: the executable first, page aligned, with its build id", main_mapping),
    Case("V07", "M", "the parser of /proc/self/maps", elsewhere="maps_test"),
    Case("V08", "M", "strings are UTF-8", each_profile(lambda profile: None)),
    Case("V09", "M", "the string table", each_profile(string_table)),
    Case("V10", "M", "two clients print the same C++ names", elsewhere="clients_test"),
    Case("V11", "M", "system_name is the linker's", elsewhere="clients_test"),
    Case("V12", "M", "-list shows source lines", elsewhere="clients_test, with a program whose source is there"),
    Case("V13", "M", "-disasm shows instructions", elsewhere="clients_test, with a program whose source is there"),
    Case("V14", "M", "what pprof writes again can be read", round_trip),
    Case("V15", "M", "an address without a path is that of the CPU profile", bare_address),
    Case("V16", "M", "-seconds asks for a delta", seconds_option),
    Case("V17", "M", "pprof prints the words of a refusal", our_words),
    Case("V18", "M", "pprof's web pages", web_pages),
    Case("V19", "M", "profiles of two processes merge", elsewhere="clients_test"),
    Case("V20", "M", "one gzip file with a right checksum", each(one_gzip_file)),
    Case("V21", "M", "the time is that of the scrape", each(times)),
    Case("V22", "M", "only CPU profiles and deltas have a duration", each(durations)),
    Case("V23", "M", "at most four types, as many values", each_profile(types)),
    Case("V23", "M", "Go's types and periods", first_types),
    Case("V24", "M", "labels that every client can keep", each_profile(labels)),
]
