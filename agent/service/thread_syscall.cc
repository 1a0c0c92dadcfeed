#include "agent/service/thread_syscall.h"

#include <charconv>

#include <sys/syscall.h>

namespace profagent::service {

namespace {

using safe::WaitKind;

// The next field, taken off the line; false when it is no number.
template <typename Number>
bool take(std::string_view& line, Number& number) {
  const std::size_t end = line.find_first_of(" \n");
  std::string_view field = line.substr(0, end);
  line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
  const bool is_hex = field.starts_with("0x");
  if (is_hex) field.remove_prefix(2);
  const auto [last, error] =
      std::from_chars(field.data(), field.data() + field.size(), number, is_hex ? 16 : 10);
  return error == std::errc() && last == field.data() + field.size();
}

}  // namespace

std::optional<BlockedAt> parse_syscall(std::string_view line) {
  constexpr int kArguments = 6;
  BlockedAt at;
  if (!take(line, at.number)) return std::nullopt;
  for (int i = 0; at.number >= 0 && i < kArguments; ++i) {
    std::uint64_t argument = 0;
    if (!take(line, argument)) return std::nullopt;
    if (i == 0) at.argument = argument;
  }
  if (!take(line, at.sp) || !take(line, at.pc)) return std::nullopt;
  return at;
}

WaitKind wait_kind_of(std::int64_t system_call) noexcept {
  switch (system_call) {
    case SYS_futex:
      return WaitKind::kFutex;
    case SYS_semop:
    case SYS_semtimedop:
      return WaitKind::kSemaphore;
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
    case SYS_pause:
    case SYS_rt_sigsuspend:
    case SYS_rt_sigtimedwait:
    case SYS_wait4:
    case SYS_waitid:
      return WaitKind::kSleep;
    case SYS_read:
    case SYS_readv:
    case SYS_pread64:
    case SYS_preadv:
    case SYS_preadv2:
    case SYS_write:
    case SYS_writev:
    case SYS_pwrite64:
    case SYS_pwritev:
    case SYS_pwritev2:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_sendfile:
    case SYS_splice:
    case SYS_tee:
    case SYS_vmsplice:
    case SYS_copy_file_range:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect:
    case SYS_open:
    case SYS_openat:
    case SYS_flock:
    case SYS_fcntl:
    case SYS_fsync:
    case SYS_fdatasync:
    case SYS_sync:
    case SYS_syncfs:
    case SYS_sync_file_range:
    case SYS_msync:
    case SYS_msgrcv:
    case SYS_msgsnd:
    case SYS_mq_timedreceive:
    case SYS_mq_timedsend:
    case SYS_io_getevents:
    case SYS_io_pgetevents:
    case SYS_io_uring_enter:
    case SYS_ioctl:
      return WaitKind::kIo;
    default:
      return is_select(system_call) ? WaitKind::kIo : WaitKind::kNone;
  }
}

bool is_select(std::int64_t system_call) noexcept {
  switch (system_call) {
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
      return true;
    default:
      return false;
  }
}

}  // namespace profagent::service
