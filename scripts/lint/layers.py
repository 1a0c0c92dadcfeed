#!/usr/bin/env python3
"""Includes point down or right, never up, never between hooks/ and agent/service/ (docs/architecture.md).

usage: layers.py ROOT
"""

import re
import sys

from sources import finish, project_files, read_text

# A layer may include itself and what its row names. The first row whose prefix fits decides.
LAYERS = [
    ("agent/safe/", ()),
    ("agent/service/", ("agent/safe/", "encoder/")),
    ("agent/helper/", ("agent/safe/", "agent/service/")),
    ("agent/", ("agent/safe/", "agent/service/", "agent/helper/", "encoder/", "hooks/")),
    ("hooks/", ("agent/safe/",)),
    ("encoder/", ()),
    ("test/", ("agent/", "hooks/", "encoder/")),
]

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def layer_of(path):
    return next(((prefix, allowed) for prefix, allowed in LAYERS if path.startswith(prefix)), None)


def check_file(root, path, names):
    prefix, allowed = layer_of(path)
    for quote, target in INCLUDE.findall(read_text(root, path)):
        target_layer = layer_of(target)
        if quote == '"' and target_layer is None and not target.endswith((".pb.h", ".pb.zero.h")):
            yield f'{path}: "{target}" is not a path from the root'
        elif target_layer is None:
            continue
        elif quote == "<" and target in names:
            yield f"{path}: <{target}> is ours: include it with quotes"
        elif target_layer[0] != prefix and not target.startswith(allowed or ("\0",)):
            yield f"{path}: {prefix} must not include {target}"


def main(root):
    names = set(project_files(root, (".h", ".cc", ".def", ".inc")))
    files = [path for path in project_files(root, (".h", ".cc", ".c", ".def", ".inc")) if layer_of(path)]
    problems = [problem for path in files for problem in check_file(root, path, names)]
    return finish(problems, len(files))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
