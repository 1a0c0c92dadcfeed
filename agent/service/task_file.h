// The small files in which the kernel tells about one thread of this process. On our thread only.
//
// By way of /proc/thread-self: /proc/self belongs to the main thread, which may have ended.
#pragma once

#include <span>
#include <string_view>

#include <sys/types.h>

namespace profagent::service {

// The folder of all threads: /proc/PID/task.
inline constexpr char kTaskFolder[] = "/proc/thread-self/..";

class TaskFile {
 public:
  TaskFile(pid_t tid, std::string_view name);
  ~TaskFile();
  TaskFile(const TaskFile&) = delete;
  TaskFile& operator=(const TaskFile&) = delete;

  [[nodiscard]] bool is_open() const noexcept { return descriptor_ >= 0; }
  // Not ours to read: the process has given up rights since it was started.
  [[nodiscard]] bool is_refused() const noexcept;

  // From its beginning, as it is now; empty when the thread has ended. What does not fit is left out.
  [[nodiscard]] std::string_view read(std::span<char> room) const noexcept;

 private:
  long descriptor_;  // or a negative errno
};

}  // namespace profagent::service
