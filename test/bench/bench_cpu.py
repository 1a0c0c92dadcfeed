#!/usr/bin/env python3
"""What CPU profiles cost and how much of the truth is in them, beside gperftools and perf, in one run on one machine.

usage: bench_cpu.py AGENT_LIBRARY CPU_SAMPLE_BENCH CPU_WORK
Prints tables. Times depend on the machine, so read the ratios: every figure stands beside others that were taken in
turn with it.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from cpu_profilers import Gperftools, NANOS, Nothing, Perf, Preloaded, Profagent

SAMPLE_ROUNDS = 5
BLOCKS = 12
PAIRS = 8
STACKS = {"repeated": "the same each time", "leaf": "8 innermost frames fresh", "all": "all frames fresh"}


def print_table(title, head, rows):
    print(f"\n{title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(cell if isinstance(cell, str) else f"{cell:,.0f}" for cell in row) + " |")
    sys.stdout.flush()


def sample_table(program):
    """Returns {(profiler, depth, stacks): nanoseconds of a signal with an empty handler, and with the profiler's}."""
    profilers = {"profagent": "200"} | ({} if Gperftools.missing else {"gperftools": "20"})
    cases = [(profiler, depth, kind) for depth in (10, 50, 200) for kind in STACKS for profiler in profilers]
    runs = {case: [] for case in cases}
    for _ in range(SAMPLE_ROUNDS):
        for case in cases:
            profiler, depth, kind = case
            output = subprocess.run([program, profiler, str(depth), kind, profilers[profiler]],
                                    capture_output=True, text=True, check=True).stdout
            runs[case].append([float(word) for word in output.split()])
    # The run that was disturbed least, empty and full handler alike.
    best = {case: min(pairs, key=sum) for case, pairs in runs.items()}
    above = {case: full - empty for case, (empty, full) in best.items()}
    rows = []
    for depth in (10, 50, 200):
        for kind, words in STACKS.items():
            ours = above["profagent", depth, kind]
            empty = best["profagent", depth, kind][0]
            row = [str(depth), words, empty, ours, f"{ours / empty:.2f}"]
            peer = above.get(("gperftools", depth, kind))
            rows.append(row + ([peer, f"{peer / ours:.1f}"] if peer else ["-", "-"]))
    print_table("One sample, ns above a signal whose handler is empty; that includes sending it and making fresh frames",
                ["depth", "stack", "empty signal", "profagent", "in empty signals", "gperftools", "in profagent's"], rows)
    return best


def parts_table(program):
    least = {}
    for _ in range(SAMPLE_ROUNDS):
        output = subprocess.run([program, "parts", "50"], capture_output=True, text=True, check=True).stdout
        for line in output.splitlines():
            part, *times = line.split("\t")
            new = [float(one) for one in times]
            least.setdefault(part, []).append(new)
    rows = []
    for part, measured in least.items():
        columns = [statistics.median(column) for column in zip(*measured)]
        rows.append([part, columns[0], columns[1] if len(columns) > 1 else "-"])
    print_table("Where it goes: depth 50, the same stack each time, ns", ["part", "alone in a handler", "in a loop"], rows)


def timer_table(program):
    """What a sample costs while a program works: {(profiler, depth): nanoseconds}."""
    times = {}
    for _ in range(SAMPLE_ROUNDS):
        for depth in (10, 50, 200):
            for profiler in ["profagent"] + ([] if Gperftools.missing else ["gperftools"]):
                environment = {**os.environ, "CPUPROFILE_FREQUENCY": "1000"}
                output = subprocess.run([program, profiler, str(depth), "timer", "1"], env=environment,
                                        capture_output=True, text=True, check=True).stdout
                times.setdefault((profiler, depth), []).append([float(word) for word in output.split()])
    middle = {case: [statistics.median(column) for column in zip(*pairs)] for case, pairs in times.items()}
    rows = []
    for depth in (10, 50, 200):
        ours, peer = middle["profagent", depth], middle.get(("gperftools", depth))
        rows.append([str(depth), *ours, *(peer or "--"), f"{peer[0] / ours[0]:.1f}" if peer else "-"])
    print_table("In the handler as the timers come, asked for at 1000 Hz: the thread works in between, so caches are cold. "
                "Fresh leaves, ns", ["depth", "profagent, median", "ninth decile", "gperftools, median", "ninth decile",
                                     "in profagent's"], rows)
    return middle


def computed_line(warm, cold):
    empty, full = warm["profagent", 50, "leaf"]
    for rate in (100, 1000):
        print(f"\nComputed: the handler {rate} times in a second of CPU time, 50 deep, fresh leaves, is "
              f"{100 * rate * (full - empty) / NANOS:.3f} % of it with warm caches, "
              f"{100 * rate * cold['profagent', 50][0] / NANOS:.3f} % with cold ones.")


def spread(ratios):
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.4f}", f"{low:.4f} … {high:.4f}"


def units_for(seconds, program, scratch):
    """Work that takes about that long, undisturbed."""
    probe = Nothing(program, scratch, 0).worker
    nanos = min(probe.work(1000)[0] for _ in range(10))
    probe.end()
    return round(seconds * NANOS / (nanos / 1000))


def on_and_off(case, units):
    """Least CPU time of the same work, while the profile runs and while it does not, within one process; and the
    samples that came in a second of CPU time."""
    on, off = [], []
    used = 0
    case.start(1)
    end = time.monotonic() + 0.85
    while time.monotonic() < end:
        nanos = case.worker.work(units)[0]
        used += nanos
        if time.monotonic() < end:
            on.append(nanos)
    _, samples = case.stop()
    for _ in range(len(on)):
        off.append(case.worker.work(units)[0])
    if not on:
        return None
    return min(on) / min(off), samples * NANOS / used


def slow_down_table(agent, program, scratch):
    units = units_for(0.04, program, scratch)
    cases = [Nothing(program, scratch, 0)]
    for kind in (Profagent, Gperftools, Perf):
        if not kind.missing:
            cases += [kind(program, scratch, rate, agent) for rate in (100, 1000)]
    ratios = {id(case): [] for case in cases}
    samples = {id(case): [] for case in cases}
    for _ in range(BLOCKS):
        for case in cases:
            measured = on_and_off(case, units)
            if measured:
                ratios[id(case)].append(measured[0])
                samples[id(case)].append(measured[1])
    rows = []
    for case in cases:
        rate = f"{case.rate} Hz" if case.rate else ""
        came = f"{statistics.median(samples[id(case)]):.0f}" if case.rate else ""
        rows.append([case.name, rate, came, *spread(ratios[id(case)])])
        case.worker.end()
    print_table(f"CPU time of the same work while a profile runs, to that without: {BLOCKS} times in turn",
                ["", "asked for", "came in a second of CPU time", "median ratio", "quartiles"], rows)


def preload_table(agent, program, scratch):
    units = units_for(0.04, program, scratch)
    rows = []
    for kind in (Nothing, Preloaded):
        ratios = []
        for _ in range(PAIRS):
            # Two processes are never laid out alike, so several pairs.
            plain, other = Nothing(program, scratch, 0), kind(program, scratch, 0, agent)
            best = [float("inf")] * 2
            for _ in range(15):
                for i, case in enumerate((plain, other)):
                    best[i] = min(best[i], case.worker.work(units)[0])
            ratios.append(best[1] / best[0])
            plain.worker.end()
            other.worker.end()
        rows.append([kind.name, *spread(ratios)])
    print_table(f"CPU time of the same work in another process, to that in a plain one: {PAIRS} pairs",
                ["", "median ratio", "quartiles"], rows)


def coverage_table(agent, program, scratch):
    threads = (1, 4)
    units = units_for(0.7, program, scratch)
    rows = []
    by_getrusage = {count: [] for count in threads}
    for kind in (Profagent, Gperftools, Perf):
        if kind.missing:
            continue
        row = [kind.name]
        case = kind(program, scratch, 1000, agent)
        for count in threads:
            shares = []
            while len(shares) < 3:
                begin = time.monotonic()
                case.start(6)
                used, process = case.worker.work(units, count)
                was_inside = time.monotonic() - begin < 6
                shown, _ = case.stop()
                # The window of ours is fixed; on a machine this busy the work may outlast it.
                if was_inside:
                    shares.append(shown / used)
                    by_getrusage[count].append(process / used)
            row.append(f"{100 * statistics.median(shares):.1f} % ({100 * min(shares):.1f} … {100 * max(shares):.1f})")
        case.worker.end()
        rows.append(row)
    rows.append(["getrusage", *(f"{100 * statistics.median(by_getrusage[count]):.1f} %" for count in threads)])
    print_table("CPU time in a profile at 1000 Hz, of what the clocks of the working threads say",
                ["", *(f"{count} thread{'s' * (count > 1)}" for count in threads)], rows)


def main(agent, sample_bench, work):
    for kind in (Gperftools, Perf):
        if kind.missing:
            print(f"left out: {kind.name}: {kind.missing}")
    with tempfile.TemporaryDirectory() as scratch:
        computed_line(sample_table(sample_bench), timer_table(sample_bench))
        parts_table(sample_bench)
        slow_down_table(agent, work, scratch)
        preload_table(agent, work, scratch)
        coverage_table(agent, work, scratch)
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(os.path.abspath, sys.argv[1:])))
