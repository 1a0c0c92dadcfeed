#!/usr/bin/env python3
"""Every function of libc that may wait is hooked, or stands in a list with the reason why not: a wait that nobody sees
makes a profile that lies.

usage: waits.py LIBC HOOK_NAMES ALLOWED
"""

import re
import sys

import elf
from golden import read_list
from sources import finish

# By their names: what the threads library calls a lock or a wait.
SYNCHRONIZES = re.compile(r"^(__)?(pthread_(?!\w*attr)\w*(lock|wait|join)(_np)?|sem_\w*wait|mtx_\w*lock|cnd_\w*wait|thrd_(join|sleep))$")
# The cancellation points of pthreads(7) and their kin, with the names that _FORTIFY_SOURCE and old programs call them by.
MAY_WAIT = """
accept accept4 aio_suspend clock_nanosleep connect epoll_pwait epoll_pwait2 epoll_wait fcntl flock getrandom io_getevents lockf
mq_receive mq_send mq_timedreceive mq_timedsend msgrcv msgsnd nanosleep open openat pause poll ppoll pread preadv preadv2 pselect
pthread_once pwrite pwritev pwritev2 read readv recv recvfrom recvmmsg recvmsg select semop semtimedop send sendfile sendmmsg sendmsg
sendto sigpause sigsuspend sigtimedwait sigwait sigwaitinfo sleep splice syscall system tcdrain tee usleep vmsplice wait wait3
wait4 waitid waitpid write writev
""".split()
PREFIXES = ("", "__")
SUFFIXES = ("", "64", "_chk", "64_chk")


def main(libc, names, allowed):
    exported = {name.split("@")[0] for name in elf.dynamic_symbols(libc, "--defined-only")}
    waits = {name for name in exported if SYNCHRONIZES.match(name)}
    waits |= exported & {prefix + name + suffix for name in MAY_WAIT for prefix in PREFIXES for suffix in SUFFIXES}
    with open(names, encoding="utf-8") as file:
        hooked = set(file.read().split())
    known = read_list(allowed)
    problems = [f"{name}: may wait, is not hooked, and {allowed} does not say why" for name in sorted(waits - hooked - known)]
    problems += [f"{allowed}: {name} is hooked" for name in sorted(known & hooked)]
    problems += [f"{allowed}: libc has no {name}" for name in sorted(known - exported)]
    return finish(problems, len(waits))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
