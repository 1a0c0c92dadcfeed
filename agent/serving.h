// Who hears clients: our own thread, or a signal of the kernel's that has it started, and while the program
// changes its rights neither.
//
// On the program's threads, in ordinary context or in the child of a fork; allocates nothing from the
// program.
#pragma once

#include <cstdint>
#include <string_view>

#include "agent/coverage.h"
#include "agent/program.h"

namespace profagent {

// What the program is. Unchanged since load.
struct Served {
  Program program;
  HeapCoverage heap;
  std::string_view cmdline;           // argv joined by NUL
  const char* runtime_dir = "";       // XDG_RUNTIME_DIR
  std::int64_t started_at = 0;        // seconds since 1970
  std::int64_t filters_at_load = -1;  // -1: not known
};

// Opens the sockets that the settings name. False when there is none. `what` is immortal.
[[nodiscard]] bool begin_serving(const Served& what) noexcept;

// In the child of a fork, which has neither the thread nor the sockets any more. safe::events.process is the
// parent still or the child already.
void forget_serving_after_fork() noexcept;

// After it: the child serves, too, from its first allocation on. It may exec at once, so nothing is opened
// before.
void serve_anew_after_fork() noexcept;

// At exit: nobody finds the Unix socket any more.
void end_serving() noexcept;

}  // namespace profagent
