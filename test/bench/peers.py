"""Who is measured beside the agent: each a row of environment variables, with the row that it is compared to."""

import dataclasses
import glob
import os
import subprocess


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    environment: dict
    base: str = "none"  # the same allocator without its profiler
    missing: str = ""  # why it cannot run here
    counts: bool = True  # its instructions under callgrind mean something


def find_library(pattern):
    found = sorted(glob.glob(f"/usr/lib/*/{pattern}") + glob.glob(f"/usr/lib/{pattern}"))
    return found[0] if found else ""


def needs(library, name):
    return "" if library else f"no {name} on this machine (scripts/setup.sh bench)"


def jemalloc_without_prof(library):
    """Some builds of jemalloc have no profiler; they say so on standard error."""
    if not library:
        return needs(library, "libjemalloc2")
    environment = dict(os.environ, LD_PRELOAD=library, MALLOC_CONF="prof:true,prof_active:true")
    done = subprocess.run(["/bin/true"], env=environment, capture_output=True, text=True, check=False)
    return "this build of jemalloc has no profiler" if "Invalid conf" in done.stderr else ""


class Peers:
    def __init__(self, agent, forward, forward_locks, scratch):
        self.agent, self.forward, self.forward_locks = agent, forward, forward_locks
        self.scratch = scratch
        self.tcmalloc = find_library("libtcmalloc.so.4")
        self.jemalloc = find_library("libjemalloc.so.2")
        self.mutrace = find_library("libmutrace.so") or find_library("mutrace/libmutrace.so")
        self.heaptrack = find_library("heaptrack/libheaptrack_preload.so")

    def defaults(self):
        """The default rate of 512 KiB, everybody."""
        no_prof = jemalloc_without_prof(self.jemalloc)
        return [
            Case("none", {}),
            Case("plain forwarding", {"LD_PRELOAD": self.forward}),
            Case("profagent", {"LD_PRELOAD": self.agent}),
            Case("profagent, rate 0 (off)", {"LD_PRELOAD": self.agent, "PROFAGENT_MEM_PROFILE_RATE": "0"}),
            Case("tcmalloc", {"LD_PRELOAD": self.tcmalloc}, missing=needs(self.tcmalloc, "libgoogle-perftools4")),
            Case("tcmalloc, sampling", {"LD_PRELOAD": self.tcmalloc, "TCMALLOC_SAMPLE_PARAMETER": "524288"},
                 base="tcmalloc", missing=needs(self.tcmalloc, "libgoogle-perftools4"),
                 counts=False),  # it does not sample under Valgrind
            Case("jemalloc", {"LD_PRELOAD": self.jemalloc}, missing=needs(self.jemalloc, "libjemalloc2")),
            Case("jemalloc, prof", {"LD_PRELOAD": self.jemalloc, "MALLOC_CONF": "prof:true,lg_prof_sample:19"},
                 base="jemalloc", missing=no_prof),
        ]

    def whole_processes(self):
        """`true` is among the programs that load the agent dormant; here it is profiled all the same."""
        awake = Case("profagent, not dormant", {"LD_PRELOAD": self.agent, "PROFAGENT_PROGRAMS": "*"})
        cases = self.defaults()
        return [*cases[:3], awake, *cases[3:]]

    def lock_profilers(self):
        on = {"PROFAGENT_BLOCK_PROFILE_RATE": "1", "PROFAGENT_MUTEX_PROFILE_FRACTION": "1"}
        # What is usual where they stay on: one wait in 10 us of waiting, one unlock in a hundred.
        sampled = {"PROFAGENT_BLOCK_PROFILE_RATE": "10000", "PROFAGENT_MUTEX_PROFILE_FRACTION": "100"}
        no_mutrace = "" if self.mutrace else "not on this machine, and Debian 12 has no package of it"
        return [
            Case("none", {}),
            Case("plain forwarding (mutexes)", {"LD_PRELOAD": self.forward_locks}),
            Case("profagent", {"LD_PRELOAD": self.agent}),
            Case("profagent, block and mutex on", {"LD_PRELOAD": self.agent, **on}),
            Case("profagent, both on and sampled", {"LD_PRELOAD": self.agent, **sampled}),
            Case("mutrace", {"LD_PRELOAD": self.mutrace}, missing=no_mutrace),
        ]

    def every_allocation(self):
        """Each allocation recorded with its stack; what is written goes nowhere."""
        return [
            Case("none", {}),
            Case("profagent, rate 1", {"LD_PRELOAD": self.agent, "PROFAGENT_MEM_PROFILE_RATE": "1"}),
            Case("heaptrack", {"LD_PRELOAD": self.heaptrack, "DUMP_HEAPTRACK_OUTPUT": "/dev/null"},
                 missing=needs(self.heaptrack, "heaptrack")),
            Case("tcmalloc", {"LD_PRELOAD": self.tcmalloc}, missing=needs(self.tcmalloc, "libgoogle-perftools4")),
            Case("tcmalloc, HEAPPROFILE", {"LD_PRELOAD": self.tcmalloc, "HEAPPROFILE": os.path.join(self.scratch, "heap"),
                                           "HEAP_PROFILE_ALLOCATION_INTERVAL": "0", "HEAP_PROFILE_INUSE_INTERVAL": "0"},
                 base="tcmalloc", missing=needs(self.tcmalloc, "libgoogle-perftools4")),
            Case("jemalloc", {"LD_PRELOAD": self.jemalloc}, missing=needs(self.jemalloc, "libjemalloc2")),
            Case("jemalloc, prof of all", {"LD_PRELOAD": self.jemalloc, "MALLOC_CONF": "prof:true,lg_prof_sample:0"},
                 base="jemalloc", missing=jemalloc_without_prof(self.jemalloc)),
        ]
