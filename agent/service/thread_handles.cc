#include "agent/service/thread_handles.h"

#include <array>
#include <cstring>

#include <sys/prctl.h>

#include "agent/safe/created_threads.h"
#include "agent/safe/sys.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;

// A descriptor begins with what the compiler's ABI knows of a thread: its own address is the third word.
constexpr std::size_t kSelfOffset = 0x10;
// More than what glibc has in front of the tid (0x2d0 in 2.36).
constexpr std::size_t kMostBytes = 2048;

template <typename Value>
Value value_at(const char* bytes, std::size_t offset) {
  Value value{};
  std::memcpy(&value, bytes + offset, sizeof(value));
  return value;
}

}  // namespace

ThreadHandles::ThreadHandles() {
  const std::uintptr_t own = safe::CreatedThreads::own_handle();
  std::uintptr_t place = 0;
  if (sys::call(SYS_prctl, PR_GET_TID_ADDRESS, reinterpret_cast<long>(&place)) != 0) return;
  const std::uintptr_t offset = place - own;
  if (place < own || offset < kSelfOffset + sizeof(own) || offset > kMostBytes - sizeof(pid_t)) return;
  tid_offset_ = offset;
  if (tid_of(own) != sys::gettid()) tid_offset_ = 0;
}

pid_t ThreadHandles::tid_of(std::uintptr_t handle) const {
  std::array<char, kMostBytes> bytes;
  const std::size_t size = tid_offset_ + sizeof(pid_t);
  if (!are_readable() || sys::read_memory(handle, bytes.data(), size) != size) return 0;
  // The memory may be something else by now.
  if (value_at<std::uintptr_t>(bytes.data(), kSelfOffset) != handle) return 0;
  const auto tid = value_at<pid_t>(bytes.data(), tid_offset_);
  return tid > 0 ? tid : 0;
}

}  // namespace profagent::service
