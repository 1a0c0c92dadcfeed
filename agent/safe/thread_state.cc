#include "agent/safe/thread_state.h"

#include <cerrno>

namespace profagent::safe {

constinit thread_local ThreadState thread_state;

int* SafeSection::errno_location() noexcept {
  return __errno_location();
}

}  // namespace profagent::safe
