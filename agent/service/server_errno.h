// "ENOENT" for an error number; a number for what has no name. No allocation, no locale (strerror has both).
#pragma once

#include <cstring>

namespace profagent::service {

[[nodiscard]] inline const char* errno_name(long error) noexcept {
  const char* name = strerrorname_np(static_cast<int>(error));
  return name != nullptr ? name : "unknown error";
}

}  // namespace profagent::service
