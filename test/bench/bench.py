#!/usr/bin/env python3
"""What the agent costs, beside plain forwarding and its peers, in one run on one machine.

usage: bench.py AGENT_LIBRARY FORWARD_LIBRARY FORWARD_LOCKS_LIBRARY ALLOC_BENCH LOCK_BENCH CONTENDED_BENCH [locks | contended]
Prints tables; a peer that is not installed is named. Times are the best of several interleaved runs and depend on the
machine: read the ratios. Instructions (callgrind) do not.
"""

import dataclasses
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from peers import Peers

ROUNDS = 5
CONTENDED_ROUNDS = 15  # who gets the lock next is up to the scheduler
CALLGRIND = shutil.which("valgrind")


def run(case, command):
    environment = {**os.environ, **case.environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def instructions(case, command, scratch):
    """Instructions of one whole run."""
    # The launcher loads the library too; only what runs under callgrind is counted.
    done = run(case, [CALLGRIND, "--tool=callgrind", f"--callgrind-out-file={scratch}/callgrind.out", *command])
    return int(re.search(r"Collected : (\d+)", done.stderr).group(1))


def instructions_per_pair(case, command, scratch):
    few, many = 20_000, 220_000
    runs = [instructions(case, [*command, str(pairs)], scratch) for pairs in (few, many)]
    return (runs[1] - runs[0]) / (many - few)


def best_times(cases, command):
    """{name: least nanoseconds}, each round visiting every case, so that a slow second hits all of them."""
    best = {}
    for _ in range(ROUNDS):
        for case in cases:
            spent = float(run(case, command).stdout.split()[-1])
            best[case.name] = min(spent, best.get(case.name, spent))
    return best


def private_dirty_kib(case):
    process = subprocess.Popen(["sleep", "30"], env={**os.environ, **case.environment}, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)  # until it sleeps: nothing is measured in time here
        with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as file:
            return int(re.search(r"Private_Dirty:\s+(\d+)", file.read()).group(1))
    finally:
        process.kill()
        process.wait()


def split(cases):
    """The cases that can run; says which cannot, and why."""
    for case in cases:
        if case.missing:
            print(f"not measured: {case.name}: {case.missing}")
    return [case for case in cases if not case.missing]


def print_table(title, head, rows):
    print(f"\n{title}")
    table = [head, *[[cell if isinstance(cell, str) else f"{cell:.2f}" for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        first, *rest = row
        print("  " + first.ljust(widths[0]) + "".join("  " + cell.rjust(width) for cell, width in zip(rest, widths[1:])))


def pair_table(cases, program, scratch):
    times = best_times(cases, [program, "5000000"])
    counts = {case.name: instructions_per_pair(case, [program], scratch) for case in cases} if CALLGRIND else {}
    rows = []
    for case in cases:
        row = [case.name, times[case.name], times[case.name] / times[case.base]]
        if counts:
            row += [counts[case.name], counts[case.name] - counts[case.base]] if case.counts else ["-", "-"]
        rows.append(row)
    head = ["", "ns", "ratio"] + (["instructions", "more than base"] if counts else [])
    print_table("malloc(64) + free, default rate (base: the same allocator, not profiled)", head, rows)


def depth_table(cases, program):
    times = best_times(cases, [program, "200000", "50"])
    rows = [[case.name, times[case.name], times[case.name] - times[case.base]] for case in cases]
    print_table("every allocation recorded, 50 frames deep: malloc(64) + free", ["", "ns", "more than base"], rows)


def thread_table(cases, program):
    one = best_times(cases, [program, "3000000", "0", "1"])
    two = best_times(cases, [program, "3000000", "0", "2"])
    rows = [[case.name, one[case.name], two[case.name], two[case.name] / one[case.name]] for case in cases]
    print_table(f"two threads, {os.cpu_count()} processors: ns per pair in each (ratio 1 = scales)",
                ["", "1 thread", "2 threads", "ratio"], rows)


def lock_table(cases, program, scratch):
    """The first case is the base of the others."""
    rows = []
    for operation in ("mutex", "read", "write", "semaphore", "cond"):
        times = best_times(cases, [program, operation, "3000000"])
        counts = {}
        if CALLGRIND:
            counts = {case.name: instructions_per_pair(case, [program, operation], scratch) for case in cases}
        base = cases[0].name
        for case in cases:
            row = [operation if case is cases[0] else "", case.name, times[case.name], times[case.name] - times[base]]
            if counts:
                row += [counts[case.name], counts[case.name] - counts[base]]
            rows.append(row)
    head = ["", "", "ns", "more"] + (["instructions", "more"] if counts else [])
    print_table("locks that nobody else wants, a pair: lock + unlock, post + wait, signal + broadcast", head, rows)


def contended_table(cases, program):
    """Ratios of times taken right after another; "none" is run twice, and its ratio to itself is the noise. The first case is
    the base of the others."""
    cases = [*cases, dataclasses.replace(cases[0], name="none, again")]
    rows = []
    for threads in (2, 8):
        for steps in (100, 10_000):
            times = [[float(run(case, [program, str(threads), "250", str(steps)]).stdout) for case in cases]
                     for _ in range(CONTENDED_ROUNDS)]
            for column, case in enumerate(cases):
                ratios = sorted(row[column] / row[0] for row in times)
                rows.append([f"{threads} threads, {steps} steps" if column == 0 else "", case.name,
                             statistics.median(row[column] for row in times), statistics.median(ratios),
                             ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]])
    head = ["", "", "ns", "ratio", "1st quartile", "3rd"]
    print_table(f"a mutex that all threads want, {os.cpu_count()} processors: ns per pair of the whole process", head, rows)


def process_table(cases, scratch):
    rows = []
    base = {}
    for case in cases:
        figures = [private_dirty_kib(case)]
        if CALLGRIND and case.counts:
            figures.append(instructions(case, ["/bin/true"], scratch))
        base = base or figures
        row = [case.name]
        for figure, first in zip(figures, base):
            row += [f"{figure:,}", f"{figure - first:+,}"]
        row += ["-"] * (2 * (len(base) - len(figures)))
        rows.append(row)
    head = ["", "KiB dirty", "more"] + (["instructions", "more"] if CALLGRIND else [])
    print_table("idle `sleep`: private dirty memory; `/bin/true`: instructions from start to end", head, rows)


def main(agent, forward, forward_locks, program, lock_program, contended_program, only=None):
    if not CALLGRIND:
        print("not measured: instructions: no valgrind on this machine (scripts/setup.sh bench)")
    with tempfile.TemporaryDirectory() as scratch:
        peers = Peers(agent, forward, forward_locks, scratch)
        lock_profilers = split(peers.lock_profilers())
        contended_table(lock_profilers, contended_program)
        if only == "contended":
            return 0
        lock_table(lock_profilers, lock_program, scratch)
        if only == "locks":
            return 0
        cases = split(peers.defaults())
        pair_table(cases, program, scratch)
        depth_table(split(peers.every_allocation()), program)
        thread_table(cases, program)
        process_table([case for case in peers.whole_processes() if not case.missing], scratch)
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(os.path.abspath, sys.argv[1:7]), *sys.argv[7:]))
