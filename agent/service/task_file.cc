#include "agent/service/task_file.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include <fcntl.h>

#include "agent/safe/sys.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;

long open_file(pid_t tid, std::string_view name) {
  constexpr std::string_view kFolder = kTaskFolder;
  std::array<char, 64> path{};
  char* end = path.data() + kFolder.copy(path.data(), kFolder.size());
  *end++ = '/';
  end = std::to_chars(end, path.data() + path.size(), tid).ptr;
  *end++ = '/';
  if (end + name.size() >= path.data() + path.size()) return -ENAMETOOLONG;
  std::memcpy(end, name.data(), name.size());
  return sys::call(SYS_openat, AT_FDCWD, reinterpret_cast<long>(path.data()), O_RDONLY | O_CLOEXEC);
}

}  // namespace

TaskFile::TaskFile(pid_t tid, std::string_view name) : descriptor_(open_file(tid, name)) {}

TaskFile::~TaskFile() {
  if (is_open()) sys::call(SYS_close, descriptor_);
}

bool TaskFile::is_refused() const noexcept {
  return descriptor_ == -EACCES || descriptor_ == -EPERM;
}

std::string_view TaskFile::read(std::span<char> room) const noexcept {
  if (!is_open()) return {};
  const long got = sys::call(SYS_pread64, descriptor_, reinterpret_cast<long>(room.data()),
                             static_cast<long>(room.size()), 0);
  return got > 0 ? std::string_view(room.data(), static_cast<std::size_t>(got)) : std::string_view();
}

}  // namespace profagent::service
