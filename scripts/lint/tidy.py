#!/usr/bin/env python3
"""clang-tidy-14 over the .cc files of the library, as many at once as there are processors.

usage: tidy.py ROOT BUILD CLANG_TIDY [FILE...]
A file that passed is not looked at again until it, a header of the project, or .clang-tidy changes.
"""

import concurrent.futures
import hashlib
import json
import os
import re
import subprocess
import sys
import time

from sources import finish, project_files, read_text

# GCC's options that clang does not know are no findings.
UNKNOWN = ["--extra-arg=-Wno-unknown-warning-option", "--extra-arg=-Wno-unused-command-line-argument"]
# All checks over all of Catch2's, Beast's or the JSON library's one large header cost five times what parsing it does. Files
# that include them get the checks that find bugs in tests and glue.
LARGE = re.compile(r"#include <(boost|nlohmann|catch2)/")
LEAN = ("-*,bugprone-dangling-handle,bugprone-sizeof-expression,bugprone-string-constructor,bugprone-unused-raii,"
        "bugprone-use-after-move,misc-definitions-in-headers,modernize-use-nullptr,modernize-use-override,"
        "performance-for-range-copy,performance-unnecessary-value-param")
NOISE = re.compile(r"^\d+ warnings? (generated|treated)|^Suppressed |^Use -header-filter|^$")


def compiled_files(root, build):
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        commands = json.load(file)
    ours = set(project_files(root, (".cc",)))
    found = {}
    for row in commands:
        path = os.path.relpath(os.path.realpath(os.path.join(row["directory"], row["file"])), os.path.realpath(root))
        # What runs in other people's processes. Tests have the compilers' warnings and the sanitizers.
        if path in ours and not path.startswith("test/"):
            found.setdefault(path, row["command"])
    return found


def key_of(root, path, command, shared):
    return hashlib.sha256("\0".join([shared, path, command, read_text(root, path)]).encode()).hexdigest()


def check(root, build, tidy, path):
    begin = time.monotonic()
    lean = [f"--checks={LEAN}"] if LARGE.search(read_text(root, path)) else []
    done = subprocess.run([tidy, "-p", build, "--quiet", *lean, *UNKNOWN, os.path.join(root, path)], capture_output=True, text=True,
                          check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if not NOISE.match(line)]
    return path, done.returncode, lines, time.monotonic() - begin


def main(root, build, tidy, *only):
    files = compiled_files(root, build)
    if only:
        files = {path: files[path] for path in only}
    headers = [read_text(root, path) for path in project_files(root, (".h", ".def", ".inc", ".clang-tidy"))]
    shared = hashlib.sha256("\0".join(headers).encode()).hexdigest()
    store = os.path.join(build, "tidy-passed.json")
    passed = set()
    if os.path.exists(store):
        with open(store, encoding="utf-8") as file:
            passed = set(json.load(file))
    keys = {path: key_of(root, path, command, shared) for path, command in files.items()}
    # The slowest first, so that no processor waits for one at the end: those that include the large libraries.
    waiting = sorted((path for path in files if keys[path] not in passed),
                     key=lambda path: not LARGE.search(read_text(root, path)))
    problems = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, status, lines, seconds in pool.map(lambda path: check(root, build, tidy, path), waiting):
            print(f"{seconds:6.1f} s  {path}", flush=True)
            if status == 0:
                passed.add(keys[path])
            else:
                problems += lines or [f"{path}: clang-tidy ended with {status}"]
    with open(store, "w", encoding="utf-8") as file:
        json.dump(sorted(passed & set(keys.values())), file)
    return finish(problems, len(files))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
