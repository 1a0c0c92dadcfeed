#!/usr/bin/env python3
"""Does a server of /debug/pprof do what its clients rely on?

Asks BASE_URL (http://127.0.0.1:6060) every case of the table and prints which it passes, fails, or cannot be asked, and why.
The exit status is 1 when a case that must or should pass fails. More cases can be asked, or asked better, with

  --pid PID        the process that serves: its descriptors, threads and memory, its executable
  --unix PATH      its Unix socket
  --tools FOLDER   with checkprof and go_pprof (BUILD/test/conformance)
  --long           cases that take minutes
  --go             it is Go's own server (go_server), which differs here and there
  --only IDS       H04,V01,…
"""

import argparse
import sys
import time
import traceback

from surface_cases import delta_cases, encoding_cases, hostile_cases, http_cases, scrape_cases, symbol_cases
from surface_cases.case import Skip, Target

GROUPS = [http_cases, delta_cases, symbol_cases, encoding_cases, scrape_cases, hostile_cases]
CASES = [case for group in GROUPS for case in group.CASES]


def judge(case, target):
    """("pass" | "FAIL" | "skip", why)"""
    if case.elsewhere:
        return "skip", f"see {case.elsewhere}"
    if target.is_go and case.not_for_go:
        return "skip", f"not for Go: {case.not_for_go}"
    try:
        case.run(target)
    except Skip as reason:
        return "skip", str(reason)
    except Exception as error:  # a server that breaks a case breaks no other one
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "FAIL", f"{type(error).__name__}: {str(error)[:500]} ({place.name}:{place.lineno})"
    return "pass", ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int)
    parser.add_argument("--unix")
    parser.add_argument("--tools")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--go", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","))
    options = parser.parse_args()
    target = Target(options)
    counts = {"pass": 0, "FAIL": 0, "skip": 0}
    for case in CASES:
        if options.only and case.id not in options.only:
            continue
        begin = time.monotonic()
        result, why = judge(case, target)
        counts[result] += 1
        print(f"{case.id:4} {case.strictness} {result} {time.monotonic() - begin:5.1f}s  {case.title}{why and ': ' + why}", flush=True)
    print(f"{counts['pass']} passed, {counts['FAIL']} failed, {counts['skip']} skipped")
    sys.exit(1 if counts["FAIL"] or not counts["pass"] else 0)


if __name__ == "__main__":
    main()
