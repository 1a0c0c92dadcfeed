"""A, R: Grafana Alloy and Parca, as their sources say that they ask and judge."""

import time

from . import pprof
from .case import BINARY, Case, Skip, equal, together
from .encoding_cases import check_growth, first_types

INTERVALS = 10
CUMULATIVE = ["allocs", "block", "mutex"]


def alloy(t, seconds):
    """One interval: five targets at once. Their profiles by name."""
    targets = [*CUMULATIVE, "goroutine", f"profile?seconds={seconds}"]

    def scrape(target):
        answer = t.get("/debug/pprof/" + target, [("User-Agent", "Alloy/v1 (linux)"), ("Accept-Encoding", "gzip")])
        assert 200 <= answer.status < 300, (target, answer)
        assert (answer.header("Content-Type") or "").startswith(BINARY), (target, answer)
        assert len(answer.body) > 2 and answer.body[:2] == b"\x1f\x8b", (target, answer)
        return pprof.Profile(answer.body)

    return dict(zip(targets, together([lambda target=target: scrape(target) for target in targets])))


def alloy_intervals(t):
    last = {}
    for _ in range(INTERVALS):
        profiles = alloy(t, 1)
        for name in CUMULATIVE:
            if name in last:
                check_growth(last[name], profiles[name])
                assert profiles[name].time > last[name].time, "time does not go on"
        last = profiles


def alloy_as_configured(t):
    if not t.is_long:
        raise Skip("three times 15 s: --long")
    for _ in range(3):
        begin = time.monotonic()
        alloy(t, 14)
        time.sleep(max(0, 15 - (time.monotonic() - begin)))


def fast_delta(t):
    """Identity is addresses and labels; at most four values; every location is there."""
    for name in CUMULATIVE:
        before, after = t.profile("/debug/pprof/" + name), t.profile("/debug/pprof/" + name)
        for profile in (before, after):
            assert len(profile.sample_types) <= 4, profile.sample_types
            seen = set()
            for sample in profile.samples:
                assert all(location in profile.location_of for location in sample.locations), "an unknown location"
                identity = profile.identity(sample)
                # Go's own may come twice; then a scraper adds them up.
                assert t.is_go or identity not in seen, f"two samples with the same stack and labels: {identity}"
                seen.add(identity)
        check_growth(before, after)


def delta_endpoints(t):
    for name in ("delta_heap", "delta_block", "delta_mutex"):
        answer = t.get("/debug/pprof/" + name)
        if answer.status == 404:
            raise Skip("not offered")
        equal(answer.status, 200, name)
        equal(answer.header("Content-Type"), BINARY, name)
        time.sleep(0.1)
        second = t.profile("/debug/pprof/" + name)
        assert second.duration > 0, f"the second {name} has no duration"


def parca(t):
    targets = ["allocs", "block", "goroutine", "mutex", "profile?seconds=1"]

    def scrape(target):
        answer = t.get("/debug/pprof/" + target, [("User-Agent", "conprof/0.22"), ("Accept-Encoding", "gzip")])
        equal(answer.status, 200, target)
        assert answer.body, target
        profile = pprof.Profile(answer.body)
        for table in (profile.mappings, profile.locations, profile.functions):
            equal([row.id for row in table], list(range(1, len(table) + 1)), f"ids of {target}")
        for location in profile.locations:
            assert not location.mapping_id or location.mapping_id in profile.mapping_of, target
            assert all(line in profile.function_of for line in location.lines), target
        for sample in profile.samples:
            equal(len(sample.values), len(profile.sample_types), target)
            assert all(location in profile.location_of for location in sample.locations), target
            assert all(label.key for label in sample.labels), target
        return profile

    for _ in range(INTERVALS if t.is_long else 2):
        together([lambda target=target: scrape(target) for target in targets])


def comments(t):
    for target in ("heap", "block", "goroutine", "profile?seconds=1"):
        for comment in t.profile("/debug/pprof/" + target).comments:
            assert not comment.startswith("executableInfo="), comment


CASES = [
    Case("A01", "M", "Alloy: ten intervals", alloy_intervals),
    Case("A01", "M", "Alloy: three intervals as it is configured", alloy_as_configured),
    Case("A02", "M", "Alloy's fastdelta", fast_delta),
    Case("A03", "M", "old stacks stay what they are when threads and libraries come", elsewhere="encoding_test"),
    Case("A04", "M", "the types that Alloy looks for", first_types),
    Case("A05", "X", "delta_heap twice", delta_endpoints),
    Case("R01", "M", "Parca's rules", parca),
    Case("R02", "M", "no comment looks like executableInfo", comments),
]
