#include "agent/safe/clock.h"

#include <string_view>

#include <fcntl.h>

#include "agent/safe/sys.h"

namespace profagent::safe {

namespace {

constinit std::atomic<ClockFunction> clock_function{nullptr};
constinit std::atomic<bool> is_source_readable{false};

// The one that the vDSO surely reads itself. With those of hypervisors it may have to ask the kernel, with
// all others it does.
constexpr std::string_view kReadable = "tsc\n";

}  // namespace

constinit std::atomic<bool> are_ticks_faults{false};

void set_clock_function(ClockFunction function) noexcept {
  clock_function.store(function, std::memory_order_relaxed);
}

void allow_ticks(bool allowed) noexcept {
  are_ticks_faults.store(!allowed, std::memory_order_relaxed);
}

void find_whether_clock_asks() noexcept {
  static constexpr char kFile[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
  char text[64];
  const long file = sys::call(SYS_openat, AT_FDCWD, sys::address_of(kFile), O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  const long size = sys::call(SYS_read, file, sys::address_of(text), sizeof(text));
  sys::call(SYS_close, file);
  const std::string_view source(text, size > 0 ? static_cast<std::size_t>(size) : 0);
  is_source_readable.store(source == kReadable, std::memory_order_relaxed);
}

bool is_clock_free() noexcept {
  return is_source_readable.load(std::memory_order_relaxed) &&
         clock_function.load(std::memory_order_relaxed) != nullptr;
}

Nanos now_by(clockid_t clock) noexcept {
  timespec time{};
  const ClockFunction function = clock_function.load(std::memory_order_relaxed);
  if (function == nullptr || function(clock, &time) != 0)
    sys::call(SYS_clock_gettime, clock, reinterpret_cast<long>(&time));
  return to_nanos(time);
}

}  // namespace profagent::safe
