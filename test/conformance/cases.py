#!/usr/bin/env python3
"""Which of the cases that must be shown has which test?

Cases are tags of Catch2 test cases, such as TEST_CASE("...", "[H01][H02]"), "# [V01]" in scripts, and the rows of surface_cases
that have a function.
Usage: cases.py TEST_FOLDER [--table]. Without --table it only reports cases that have no test, and fails if there are any.
"""

import pathlib
import re
import sys


def expand(text):
    """"H01-H03 V01" -> H01 H02 H03 V01; numbers keep their width: E4-E6 are E4 E5 E6"""
    for part in text.split():
        first, _, last = part.partition("-")
        letter, digits = first[0], first[1:]
        end = int(last[1:]) if last else int(digits)
        for number in range(int(digits), end + 1):
            yield f"{letter}{number:0{len(digits)}d}"


# Conformance cases (two digits), then rows of the fault table (as written there). D10-D13 are in both tables; as rows of the fault table their tags are [fault D10] and so on. B13 and B14 are
# both.
REQUIRED = list(
    expand(
        "H01-H24 D01-D13 A01-A05 R01 R02 M01-M15 B01-B14 G01-G08 P01-P19 S01-S07 V01-V24 "
        "A1-A10 A14 A15 B1-B9 B15 C1-C15 D1-D9 D14-D17 D19-D24 E1-E13 F3 F6 F8-F10 F14-F17 G4-G7 H2 H6 I1 J1-J14"
    )
) + [f"fault {row}" for row in expand("D10-D13")]


def find_tests(folder):
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".cc":
            pattern = re.compile(r'TEST_CASE\(\s*"((?:[^"\\]|\\.)*)"(?:\s*,\s*"([^"]*)")?\s*\)')
            matches = [(m.group(1), m.group(2) or "") for m in pattern.finditer(path.read_text(errors="replace"))]
        elif path.suffix == ".sh":
            matches = [(path.name, line) for line in path.read_text().splitlines() if line.startswith("# [")]
        elif path.parent.name == "surface_cases" and path.suffix == ".py":
            row = re.compile(r'Case\("([A-Z]\d+)", "[MSX]", "([^"]*)", (?!elsewhere=)')
            matches = [(title, f"[{case}]") for case, title in row.findall(path.read_text())]
        else:
            continue
        for title, tags in matches:
            for group in re.findall(r"\[([^\]]+)\]", tags + title):
                for tag in [group] if group.startswith("fault ") else group.split():
                    found.setdefault(tag, []).append(f"{path.relative_to(folder)}: {title}")
    return found


def main():
    folder = pathlib.Path(sys.argv[1])
    found = find_tests(folder)
    if "--table" in sys.argv:
        for case in REQUIRED:
            print(f"| {case} | {'; '.join(found.get(case, ['-']))} |")
    missing = [case for case in REQUIRED if case not in found]
    for case in missing:
        print(f"no test for {case}")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
