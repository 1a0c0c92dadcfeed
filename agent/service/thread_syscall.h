// What /proc/self/task/TID/syscall tells: where a thread is blocked, or that it is not.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "agent/safe/waits.h"

namespace profagent::service {

struct BlockedAt {
  std::int64_t number = 0;     // of the system call; negative: blocked elsewhere, for a page or a debugger
  std::uint64_t argument = 0;  // its first
  std::uintptr_t sp = 0;       // 0: the thread has ended
  std::uintptr_t pc = 0;
};

inline constexpr std::string_view kRunningLine = "running\n";

// Nothing for any other text, that of a running thread included.
[[nodiscard]] std::optional<BlockedAt> parse_syscall(std::string_view line);

// Why a thread is in there, as far as the system call says; kNone: it does not.
[[nodiscard]] safe::WaitKind wait_kind_of(std::int64_t system_call) noexcept;

// Waits for one of many descriptors.
[[nodiscard]] bool is_select(std::int64_t system_call) noexcept;

}  // namespace profagent::service
