#!/usr/bin/env python3
"""Every C++ file is as clang-format-14 would write it.

usage: format.py ROOT CLANG_FORMAT
"""

import collections
import re
import subprocess
import sys

from sources import finish, project_files


def main(root, clang_format):
    files = [path for path in project_files(root, (".cc", ".h", ".c", ".cpp")) if "/golden/" not in path]
    command = [clang_format, "--dry-run", "-Werror", "--style=file", *files]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    places = collections.Counter(re.findall(r"^([^:\n]+):\d+:\d+: (?:error|warning):", done.stderr, re.MULTILINE))
    problems = [f"{path}: {count} places" for path, count in sorted(places.items())]
    if done.returncode != 0 and not problems:
        problems = [done.stderr]
    return finish(problems, len(files))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
