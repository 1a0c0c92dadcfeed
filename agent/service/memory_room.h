// How much memory there still is for a process that we start: what the control groups that it will be in, and
// the machine, have left before the kernel throttles or ends somebody. On our thread only.
//
// Groups count the page cache that their processes cause. What of it has not been used for a while
// (inactive_file) is given up before anybody notices, so it counts as room; what is in use does not.
//
// Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst, proc(5),
// cgroups(7).
#pragma once

#include <cstdint>
#include <string>

namespace profagent::service {

struct MemoryRoom {
  // Whose it is: what has least.
  enum class Of : std::uint8_t { kMachine, kGroup, kUnknown };

  std::uint64_t bytes = 0;
  Of of = Of::kUnknown;
};

// Taken for the room when the kernel's files are not there to be read (a chroot).
inline constexpr std::uint64_t kUnknownRoom = std::uint64_t{1} << 30U;

// Of the calling thread's groups, up to the outermost one that can be seen. `root` stands in front of /proc
// and /sys, for tests.
[[nodiscard]] MemoryRoom memory_room(const std::string& root = {});

}  // namespace profagent::service
