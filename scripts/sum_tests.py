#!/usr/bin/env python3
"""Adds up meson's test logs: names what failed, then one line "N passed, N failed".

usage: sum_tests.py FAILED_STEPS [TESTLOG_JSON...]
Exit status 1 when anything failed or nothing passed.
"""

import json
import sys

PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP", "IGNORED"}


def main(failed_steps, *logs):
    passed, failed, skipped = 0, int(failed_steps), 0
    for log in logs:
        with open(log, encoding="utf-8") as file:
            for line in file:
                test = json.loads(line)
                if test["result"] in PASSED:
                    passed += 1
                elif test["result"] in SKIPPED:
                    skipped += 1
                    print(f"skipped: {test['name']} ({log.split('/')[0]})")
                else:
                    failed += 1
                    print(f"{test['result'].lower()}: {test['name']} ({log.split('/')[0]})")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
