#!/usr/bin/env python3
"""Small things in every text file: no trailing blanks, a newline at the end, no path of somebody's machine,
headers open with a comment and `#pragma once`. A file over 400 lines is named, as a question, not as an error.

usage: hygiene.py ROOT
"""

import re
import sys

from sources import finish, project_files, read_text

# Absolute paths that exist on one machine only. Written so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w.$}-])/(?:" + "home/[a-z]|work/|root/|Users/" + r")|/tmp/" + r"build-")
LONG = 400
TEXT = (".cc", ".h", ".c", ".cpp", ".def", ".inc", ".py", ".sh", ".md", ".build", ".txt", ".proto", ".map", ".in", ".S",
        ".s", ".yml", "run", ".clang-tidy", ".clang-format", ".gitignore")


def check_text(path, text):
    if text and not text.endswith("\n"):
        yield f"{path}: no newline at the end"
    if text.endswith("\n\n"):
        yield f"{path}: empty lines at the end"
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            yield f"{path}:{number}: trailing blanks"
        if "\t" in line and not path.endswith((".txt", ".c", ".S", ".s")):
            yield f"{path}:{number}: tab"
        if MACHINE_PATH.search(line):
            yield f"{path}:{number}: a path of one machine: {line.strip()}"
    if path.endswith(".h"):
        if "#pragma once\n" not in text:
            yield f"{path}: no #pragma once"
        if not text.startswith("//"):
            yield f"{path}: a header opens with its contract"


def main(root):
    files = project_files(root, TEXT)
    problems = []
    for path in files:
        text = read_text(root, path)
        problems += check_text(path, text)
        lines = text.count("\n")
        if lines > LONG and not path.startswith("test/golden/"):
            print(f"note: {path} has {lines} lines: which second idea moved in?")
    return finish(problems, len(files))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
