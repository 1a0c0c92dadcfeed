// The kernel's name of a thread.
#pragma once

#include <cstdint>

#include <sys/prctl.h>

#include "agent/safe/sys.h"

namespace profagent::safe {

// At most 15 bytes and a zero (prctl(2), PR_GET_NAME), as two words.
struct ThreadName {
  std::uint64_t words[2] = {};

  [[nodiscard]] const char* text() const noexcept { return reinterpret_cast<const char*>(words); }
  friend bool operator==(const ThreadName&, const ThreadName&) = default;
};

// One system call.
[[nodiscard]] inline ThreadName current_thread_name() noexcept {
  ThreadName name;
  sys::call(SYS_prctl, PR_GET_NAME, reinterpret_cast<long>(name.words));
  return name;
}

}  // namespace profagent::safe
