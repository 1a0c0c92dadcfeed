#include "agent/safe/thread_state.h"

#include <cerrno>
#include <csignal>

#include "agent/safe/events.h"
#include "agent/safe/sys.h"

namespace profagent::safe {

constinit thread_local ThreadState thread_state;

// Called for what is nested (rare: a handler that allocates) or was left, so a few system calls do not
// matter. Were it wrong, and the section still alive on another stack, the recorders would be entered as by a
// second thread.
bool Section::was_left(std::uintptr_t open, std::uintptr_t here) noexcept {
  constexpr std::uintptr_t kFar = 64 << 10;
  constexpr std::uintptr_t kPage = 4096;
  // Two living frames are not in one place.
  if (here == open) return true;
  if (here < open || here - open > kFar || !may_ask_kernel()) return false;
  stack_t alternate = {};
  if (sys::call(SYS_sigaltstack, 0, reinterpret_cast<long>(&alternate)) != 0) return false;
  const auto begin = reinterpret_cast<std::uintptr_t>(alternate.ss_sp);
  const bool was_on_alternate = open - begin < alternate.ss_size;
  const bool is_on_alternate = (alternate.ss_flags & SS_ONSTACK) != 0;
  if (was_on_alternate != is_on_alternate) return false;
  // Stacks have a guard page below them.
  for (std::uintptr_t page = open & ~(kPage - 1); page < here; page += kPage) {
    if (!sys::is_readable(page)) return false;
  }
  return true;
}

int* SafeSection::errno_location() noexcept {
  return __errno_location();
}

}  // namespace profagent::safe
