#!/usr/bin/env python3
"""The one file that we deploy enters a stranger's process: what it exports, needs and does at load is checked here.

usage: library.py LIBRARY HOOK_NAMES GOLDEN_FOLDER
"""

import os
import re
import sys

import elf
from golden import compare, read_list
from sources import finish

NEEDED = {"libc.so.6", "ld-linux-x86-64.so.2"}
NEWEST_GLIBC = (2, 36)
MOST_TLS = 512
DYNAMIC_TLS = {"R_X86_64_DTPMOD64", "R_X86_64_DTPOFF64", "R_X86_64_TLSDESC"}


def hook_names(path):
    """Names of the rows of hooks/table.def, one a line."""
    with open(path, encoding="utf-8") as file:
        return set(file.read().split())


def check_exports(library, names, golden):
    exports = {name.split("@")[0] for name in elf.dynamic_symbols(library, "--defined-only")
               if not name.startswith("GLIBC_")}  # the names of versions are symbols, too
    wanted = hook_names(names)
    for name in sorted(exports ^ wanted):
        yield f"{name}: " + ("exported, but no row of hooks/table.def" if name in exports else "a row, but not exported")
    for name in sorted(exports ^ read_list(golden)):
        yield f"{name}: " + ("exported, but not in " if name in exports else "not exported, but in ") + golden


def check_dynamic(library):
    section = elf.dynamic_section(library)
    tags = {tag for tag, _ in section}
    flags = " ".join(text for tag, text in section if tag in ("FLAGS", "FLAGS_1"))
    needed = {re.sub(r".*\[(.*)\].*", r"\1", text) for tag, text in section if tag == "NEEDED"}
    for name in sorted(needed - NEEDED):
        yield f"NEEDED {name}: a preloaded library's dependencies enter the program's symbol lookup"
    if "TEXTREL" in tags or "TEXTREL" in flags:
        yield "text relocations"
    if not ("BIND_NOW" in tags or "BIND_NOW" in flags or "NOW" in flags):
        yield "not bound at load (-z now): the first call in a signal handler would run the dynamic linker"
    if tags & {"RPATH", "RUNPATH"}:
        yield "RPATH or RUNPATH"


def check_load(library, golden):
    if elf.tls_size(library) >= MOST_TLS:
        yield f"{elf.tls_size(library)} bytes of TLS: at most {MOST_TLS - 1}, else small thread stacks fail"
    yield from compare(set(elf.init_functions(library)), golden, "runs at load")
    for name in sorted(elf.relocation_types(library) & DYNAMIC_TLS):
        yield f"{name}: dynamic TLS allocates on first access"


def check_imports(library, golden):
    imports = elf.dynamic_symbols(library, "--undefined-only")
    yield from compare({name.split("@")[0] for name in imports}, golden, "import")
    for name in sorted(imports):
        version = re.search(r"@GLIBC_(\d+)\.(\d+)", name)
        if version and tuple(map(int, version.groups())) > NEWEST_GLIBC:
            yield f"{name}: newer than Debian 12's glibc"


def main(library, names, golden):
    exports, imports, init = (os.path.join(golden, name) for name in ("exports.txt", "imports.txt", "init.txt"))
    problems = [*check_exports(library, names, exports), *check_dynamic(library), *check_load(library, init),
                *check_imports(library, imports)]
    return finish(problems, len(elf.dynamic_symbols(library, "--defined-only")))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
