#include "agent/service/thread_list.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <span>
#include <string_view>

#include <fcntl.h>

#include "agent/safe/sys.h"
#include "agent/safe/threads.h"
#include "agent/service/task_file.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;

class Descriptor {
 public:
  Descriptor(const char* path, int flags)
      : number_(sys::call(SYS_openat, AT_FDCWD, reinterpret_cast<long>(path), flags | O_CLOEXEC)) {}
  ~Descriptor() {
    if (is_open()) sys::call(SYS_close, number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] bool is_open() const { return number_ >= 0; }
  [[nodiscard]] long number() const { return number_; }

 private:
  long number_;
};

// getdents64(2).
struct Entry {
  std::uint64_t inode;
  std::int64_t offset;
  std::uint16_t size;
  std::uint8_t type;
  char name[1];
};

void append_tids(std::span<const char> entries, std::vector<pid_t>& tids) {
  for (std::size_t at = 0; at + sizeof(Entry) <= entries.size();) {
    std::uint16_t size = 0;
    std::memcpy(&size, entries.data() + at + offsetof(Entry, size), sizeof(size));
    if (size == 0) return;
    const char* name = entries.data() + at + offsetof(Entry, name);
    const std::string_view text(name, strnlen(name, size - offsetof(Entry, name)));
    pid_t tid = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), tid).ec == std::errc()) tids.push_back(tid);
    at += size;
  }
}

}  // namespace

std::vector<pid_t> list_threads() {
  std::vector<pid_t> tids;
  const Descriptor folder(kTaskFolder, O_RDONLY | O_DIRECTORY);
  if (!folder.is_open()) {
    safe::threads.for_each(
        [&](const safe::ThreadSlot& slot) { tids.push_back(slot.tid.load(std::memory_order_relaxed)); });
    std::sort(tids.begin(), tids.end());
    tids.erase(std::unique(tids.begin(), tids.end()), tids.end());
    return tids;
  }
  std::array<char, 32768> buffer{};
  for (;;) {
    const long got =
        sys::call(SYS_getdents64, folder.number(), reinterpret_cast<long>(buffer.data()), buffer.size());
    if (got <= 0) return tids;
    append_tids({buffer.data(), static_cast<std::size_t>(got)}, tids);
  }
}

bool has_ended(pid_t tid) {
  std::array<char, 512> room{};
  const std::string_view text = TaskFile(tid, "stat").read(room);
  // "TID (NAME) STATE PPID PGRP SESSION TTY TPGID FLAGS …", and the name may have anything in it.
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos) return true;
  constexpr int kFlagsField = 7;
  std::size_t at = name_end;
  for (int field = 0; field < kFlagsField && at != std::string_view::npos; ++field)
    at = text.find(' ', at + 1);
  std::uint64_t flags = 0;
  if (at != std::string_view::npos) std::from_chars(text.data() + at + 1, text.data() + text.size(), flags);
  constexpr std::uint64_t kExiting = 4;  // the kernel's PF_EXITING, also of a zombie
  return (flags & kExiting) != 0;
}

safe::ThreadName to_thread_name(std::string_view text) {
  safe::ThreadName name;
  std::memcpy(name.words, text.data(), std::min(text.size(), sizeof(name.words) - 1));
  return name;
}

safe::ThreadName read_thread_name(pid_t tid) {
  std::array<char, 64> room{};
  std::string_view text = TaskFile(tid, "comm").read(room);
  if (text.ends_with('\n')) text.remove_suffix(1);
  return to_thread_name(text);
}

}  // namespace profagent::service
