#!/usr/bin/env python3
"""Adds up meson's test logs: shows what failed, then one line "N passed, N failed".

Of a failed test's output the end is shown here once more, where also a reader who sees only the end of a long log finds it.

usage: sum_tests.py FAILED_STEPS [TESTLOG_JSON...]
Exit status 1 when anything failed or nothing passed.
"""

import json
import sys

PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP", "IGNORED"}
SHOWN_LINES = 60


def last_lines(text):
    for line in text.splitlines()[-SHOWN_LINES:]:
        print("    " + line[:300])


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
                    last_lines(test.get("stdout", ""))
                    last_lines(test.get("stderr", ""))
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
