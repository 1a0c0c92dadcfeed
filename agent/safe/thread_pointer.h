// Whether the calling thread has thread-local storage, for signal handlers: a task that was made by a raw
// clone() may have none at all.
#pragma once

#include <cstdint>

#include <sys/auxv.h>

#include "agent/safe/sys.h"

namespace profagent::safe {

[[nodiscard]] inline bool has_thread_pointer() noexcept {
  constexpr unsigned long kMayReadFs = 2;  // HWCAP2_FSGSBASE
  std::uintptr_t base = 0;
  if ((getauxval(AT_HWCAP2) & kMayReadFs) != 0) {
    asm("rdfsbase %0" : "=r"(base));
  } else {
    constexpr long kGetFs = 0x1003;  // ARCH_GET_FS
    sys::call(SYS_arch_prctl, kGetFs, reinterpret_cast<long>(&base));
  }
  return base != 0;
}

}  // namespace profagent::safe
