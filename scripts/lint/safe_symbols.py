#!/usr/bin/env python3
"""The ground floor (agent/safe, hooks) calls nothing that may wait or allocate: what its objects need from outside
is in a golden list, and some names can never be put there.

usage: safe_symbols.py GOLDEN ARCHIVE...
"""

import re
import sys

from elf import undefined_symbols
from golden import compare, read_list
from sources import finish

# Whatever the list says: the general-dynamic TLS call allocates; the malloc family (plain, not through the
# pointers that dlsym gave) would enter our own hook; locks wait; the rest takes locks or allocates inside.
FORBIDDEN = re.compile(
    r"^(__tls_get_addr|(m|c|re|v|pv)alloc|reallocarray|free|memalign|posix_memalign|aligned_alloc|_Zn[wa].*|_Zd[la].*"
    r"|pthread_(mutex|rwlock|cond|spin|once|barrier|getspecific|setspecific|key).*|__cxa_(guard|throw|allocate|atexit).*"
    r"|dl_iterate_phdr|dladdr.*|backtrace.*|_Unwind_Backtrace|printf|f?puts|fopen|syslog|exit|__stack_chk_fail"
    r"|pthread_getattr_np)$")


def main(golden, *archives):
    needed = undefined_symbols(*archives)
    # What the agent's other floors define for this one is ours, not libc's.
    foreign = {name for name in needed if "profagent" not in name and name != "_GLOBAL_OFFSET_TABLE_"}
    problems = list(compare(foreign, golden, "ground floor"))
    problems += [f"never in the ground floor: {name}" for name in sorted(foreign | read_list(golden))
                 if FORBIDDEN.match(name)]
    return finish(problems, len(needed))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
