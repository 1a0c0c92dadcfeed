// What a thread waits for in futex(2), from the line of /proc/self/task/TID/syscall. Pure text to data.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace profagent::service {

struct FutexWait {
  std::uintptr_t address = 0;
  std::uint32_t value = 0;  // that the word had
  bool is_timed = false;
  std::uintptr_t sp = 0;
  std::uintptr_t pc = 0;

  friend bool operator==(const FutexWait&, const FutexWait&) = default;
};

// Nothing for a thread that runs, or is blocked in anything else.
[[nodiscard]] std::optional<FutexWait> parse_futex_wait(std::string_view line);

}  // namespace profagent::service
