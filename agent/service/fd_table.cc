#include "agent/service/fd_table.h"

#include <algorithm>
#include <cstdint>

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "agent/safe/sys.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;
using sys::address_of;

constexpr std::size_t kMaxKept = 16;
constexpr std::uint32_t kLastFd = ~0U;
// Far above what select() and scripts look at, and below the usual soft limit of 1024.
constexpr long kPreferredFd = 1000;
// How many numbers stay free above a moved one when the limit is low.
constexpr long kHeadroom = 10;
// Of numbers that are closed without knowing whether they are open: a limit may be a billion.
constexpr rlim64_t kMostNumbers = 1 << 20;

// Calls `close(first, last)` for every gap between the kept ones; stops at the first failure.
template <typename Close>
bool for_each_gap(std::span<const int> sorted, Close close) noexcept {
  std::uint32_t next = 0;
  for (const int kept : sorted) {
    const auto number = static_cast<std::uint32_t>(kept);
    if (number > next && !close(next, number - 1)) return false;
    next = number + 1;
  }
  return close(next, kLastFd);
}

// With CLOSE_RANGE_UNSHARE it copies and closes in one step: on new kernels what is closed is not even
// copied.
bool close_ranges(std::span<const int> sorted, long flags) noexcept {
  return for_each_gap(sorted, [&](std::uint32_t first, std::uint32_t last) {
    const long result = sys::call(SYS_close_range, first, last, flags);
    flags = 0;
    return result >= 0;
  });
}

// As the kernel's linux_dirent64, which no header declares.
struct DirectoryEntry {
  std::uint64_t inode;
  std::int64_t offset;
  std::uint16_t length;
  std::uint8_t type;
  char name[1];
};

// Walks the list of what is open. False without /proc.
bool close_listed(std::span<const int> sorted) noexcept {
  const long folder =
      sys::call(SYS_openat, AT_FDCWD, address_of("/proc/thread-self/fd"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return false;
  alignas(DirectoryEntry) char buffer[4096] = {};
  long got = 0;
  while ((got = sys::call(SYS_getdents64, folder, address_of(buffer), sizeof(buffer))) > 0) {
    for (long at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(buffer + at);
      at += entry->length;
      int number = 0;
      const char* digit = entry->name;
      for (; *digit >= '0' && *digit <= '9'; ++digit) number = number * 10 + (*digit - '0');
      const bool is_number = digit != entry->name;
      if (!is_number || number == folder || std::binary_search(sorted.begin(), sorted.end(), number))
        continue;
      sys::call(SYS_close, number);
    }
  }
  sys::call(SYS_close, folder);
  return got == 0;
}

void close_numbers(std::span<const int> sorted) noexcept {
  rlimit64 limit = {};
  if (sys::call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, address_of(&limit)) != 0) return;
  const auto last = static_cast<int>(std::min<rlim64_t>(limit.rlim_cur, kMostNumbers));
  for (int number = 0; number < last; ++number)
    if (!std::binary_search(sorted.begin(), sorted.end(), number)) sys::call(SYS_close, number);
}

// Before Linux 5.9.
void close_one_by_one(std::span<const int> sorted) noexcept {
  if (!close_listed(sorted)) close_numbers(sorted);
}

// The lowest free number comes first, so opening until 2 is passed fills 0 to 2.
void fill_standard_descriptors() noexcept {
  for (;;) {
    long fd = sys::call(SYS_openat, AT_FDCWD, address_of("/dev/null"), O_RDWR | O_CLOEXEC);
    // In a chroot without /dev: anything that the program has no use for.
    if (fd < 0) fd = sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd > 2) sys::call(SYS_close, fd);
    if (fd < 0 || fd > 2) return;
  }
}

}  // namespace

bool take_own_fd_table(std::span<const int> keep, bool keep_stderr) noexcept {
  int sorted[kMaxKept + 1];
  std::size_t count = 0;
  for (const int fd : keep) {
    if (fd >= 0 && count < kMaxKept) sorted[count++] = fd;
  }
  if (keep_stderr) sorted[count++] = 2;
  std::sort(sorted, sorted + count);
  const std::span<const int> kept(sorted, count);
  if (!close_ranges(kept, CLOSE_RANGE_UNSHARE)) {
    if (sys::call(SYS_unshare, CLONE_FILES) < 0) return false;
    close_one_by_one(kept);
  }
  fill_standard_descriptors();
  return true;
}

void close_other_fds(std::span<const int> sorted) noexcept {
  if (!close_ranges(sorted, 0)) close_one_by_one(sorted);
}

int move_fd_high(int fd) noexcept {
  rlimit64 limit = {};
  long wanted = kPreferredFd;
  if (sys::call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, address_of(&limit)) == 0 &&
      limit.rlim_cur < static_cast<rlim64_t>(kPreferredFd + kHeadroom)) {
    wanted = static_cast<long>(limit.rlim_cur) - kHeadroom;
  }
  if (wanted <= fd) return fd;
  const long moved = sys::call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, wanted);
  if (moved < 0) return fd;
  sys::call(SYS_close, fd);
  return static_cast<int>(moved);
}

}  // namespace profagent::service
