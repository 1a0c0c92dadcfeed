#include "agent/log.h"

#include <cstdint>
#include <ctime>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "agent/safe/settings.h"
#include "agent/safe/sys.h"

namespace profagent {

namespace {

namespace sys = safe::sys;

// The words of the row of settings.def.
LogLevel highest() {
  return static_cast<LogLevel>(safe::settings.log.load(std::memory_order_relaxed));
}

const char* file_name() {
  return safe::settings.log_file.load(std::memory_order_relaxed);
}

class Line {
 public:
  void add(std::string_view text) {
    for (const char c : text) {
      if (size_ < sizeof(text_) - 1) text_[size_++] = c == '\n' ? ' ' : c;
    }
  }
  void add(long number) {
    char digits[20];
    std::size_t begin = sizeof(digits);
    do digits[--begin] = static_cast<char>('0' + number % 10);
    while ((number /= 10) != 0);
    add({digits + begin, sizeof(digits) - begin});
  }
  void write_to(int fd) {
    text_[size_] = '\n';
    if (!is_taken_at_once(fd) || !has_room(fd)) return;
    sys::call(SYS_write, fd, reinterpret_cast<long>(text_), static_cast<long>(size_ + 1));
  }

 private:
  // A full pipe would hold up the program, and one that nobody reads would end it (SIGPIPE).
  [[nodiscard]] static bool is_taken_at_once(int fd) {
    pollfd file = {.fd = fd, .events = POLLOUT, .revents = 0};
    const timespec now = {};
    return sys::call(SYS_ppoll, reinterpret_cast<long>(&file), 1, reinterpret_cast<long>(&now), 0) == 1 &&
           file.revents == POLLOUT;
  }

  // Beyond RLIMIT_FSIZE a write raises SIGXFSZ, which ends the program.
  [[nodiscard]] bool has_room(int fd) const {
    struct stat file = {};
    rlimit64 limit = {};
    if (sys::call(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, reinterpret_cast<long>(&limit)) < 0 ||
        limit.rlim_cur == RLIM64_INFINITY || sys::call(SYS_fstat, fd, reinterpret_cast<long>(&file)) < 0 ||
        !S_ISREG(file.st_mode)) {
      return true;
    }
    return static_cast<std::uint64_t>(file.st_size) + size_ + 1 <= limit.rlim_cur;
  }

  char text_[1024];
  std::size_t size_ = 0;
};

}  // namespace

bool logs_to_stderr() noexcept {
  return highest() != LogLevel::kSilent && *file_name() == '\0';
}

void log(LogLevel level, std::initializer_list<std::string_view> parts) noexcept {
  if (level == LogLevel::kSilent || level > highest()) return;
  Line line;
  line.add("profagent[");
  line.add(sys::getpid());
  line.add("]: ");
  for (const std::string_view part : parts) line.add(part);
  if (*file_name() == '\0') return line.write_to(2);
  // Opened for each line: no descriptor of ours stays in the program's table.
  const long fd =
      sys::call(SYS_openat, AT_FDCWD, reinterpret_cast<long>(file_name()),
                O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
  if (fd < 0) return;
  line.write_to(static_cast<int>(fd));
  sys::call(SYS_close, fd);
}

}  // namespace profagent
