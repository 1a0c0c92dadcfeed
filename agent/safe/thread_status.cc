#include "agent/safe/thread_status.h"

#include <cstddef>
#include <cstring>
#include <string_view>

#include <fcntl.h>

#include "agent/safe/sys.h"

namespace profagent::safe {

namespace {

// The value of a line "NAME:\tVALUE".
std::uint64_t parse(std::string_view text, unsigned base) noexcept {
  std::uint64_t value = 0;
  for (const char c : text) {
    const unsigned digit = c >= 'a' ? static_cast<unsigned>(c - 'a') + 10 : static_cast<unsigned>(c - '0');
    if (digit >= base) break;
    value = value * base + digit;
  }
  return value;
}

void take_line(std::string_view line, ThreadStatus& status) noexcept {
  constexpr std::string_view kBlocked = "SigBlk:\t";
  constexpr std::string_view kNoFilter = "Seccomp:\t0";
  constexpr std::string_view kFilters = "Seccomp_filters:\t";  // since Linux 5.9
  if (line.starts_with(kBlocked)) status.blocked_signals = parse(line.substr(kBlocked.size()), 16);
  if (line == kNoFilter) status.filters = 0;
  if (line.starts_with(kFilters)) {
    status.filters = static_cast<std::int64_t>(parse(line.substr(kFilters.size()), 10));
  }
}

// "/proc/thread-self/../TID/status"
void write_path(pid_t tid, char* to) noexcept {
  constexpr std::string_view kFolder = "/proc/thread-self/../";
  constexpr std::string_view kFile = "/status";
  std::memcpy(to, kFolder.data(), kFolder.size());
  to += kFolder.size();
  char digits[12];
  std::size_t count = 0;
  for (auto left = static_cast<unsigned>(tid); left != 0 || count == 0; left /= 10) {
    digits[count++] = static_cast<char>('0' + left % 10);
  }
  while (count > 0) *to++ = digits[--count];
  std::memcpy(to, kFile.data(), kFile.size());
  to[kFile.size()] = '\0';
}

}  // namespace

bool read_thread_status(pid_t tid, ThreadStatus& status) noexcept {
  char path[48];
  write_path(tid, path);
  const long file = sys::call(SYS_openat, AT_FDCWD, reinterpret_cast<long>(path), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  status = {};
  // A line may be longer than this (the groups); of such a one only the beginning counts.
  char line[64];
  std::size_t length = 0;
  char buffer[512] = {};
  for (;;) {
    const long got = sys::call(SYS_read, file, reinterpret_cast<long>(buffer), sizeof(buffer));
    if (got <= 0) break;
    for (long i = 0; i < got; ++i) {
      if (buffer[i] == '\n') {
        take_line({line, length}, status);
        length = 0;
      } else if (length < sizeof(line)) {
        line[length++] = buffer[i];
      }
    }
  }
  sys::call(SYS_close, file);
  return true;
}

}  // namespace profagent::safe
