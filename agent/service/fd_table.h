// A descriptor table for our thread alone. What it opens never takes a number that the program counts on, is
// never closed by the program's closefrom(), and is never inherited; and no copy of the program's descriptors
// stays behind to keep a pipe or a socket of its open.
#pragma once

#include <span>

namespace profagent::service {

// Leaves the calling thread with a table of its own that holds the descriptors of `keep` (the same numbers),
// the program's stderr if asked for, and something harmless at 0, 1 and 2, so that no file of ours ever
// becomes stdout. False: the kernel refuses (a seccomp filter); nothing has changed.
[[nodiscard]] bool take_own_fd_table(std::span<const int> keep, bool keep_stderr) noexcept;

// Closes all descriptors but `sorted`, which ascend. The table must be the caller's own. System calls alone,
// also on a small stack, so a process that shares our memory may call it before it executes another program.
void close_other_fds(std::span<const int> sorted) noexcept;

// Moves a descriptor above the numbers that programs look at; returns the old one when there is no room.
[[nodiscard]] int move_fd_high(int fd) noexcept;

}  // namespace profagent::service
