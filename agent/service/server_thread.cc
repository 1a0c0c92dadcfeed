#include "agent/service/server_thread.h"

#include <cerrno>
#include <csignal>
#include <ctime>

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/safe/clock.h"
#include "agent/safe/sys.h"
#include "agent/service/demangle.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;
using sys::address_of;

// For our own frames: request handling needs under 32 KiB, the demangler recurses deeper. Untouched pages
// cost nothing.
constexpr std::size_t kStackSize = (256 << 10) + kDemangleStack;
constexpr int kNiceness = 10;
// getpriority's system call answers 20 - nice.
constexpr long kNiceOffset = 20;
constexpr long kLeastPriority = 19;
constexpr std::size_t kKernelSigsetSize = 8;
// libc's own two: it could not cancel threads or change credentials with these blocked.
constexpr int kFirstLibcSignal = 32;
constexpr int kSecondLibcSignal = 33;

int create_with(CreateThread create, int inherit, void* (*body)(void*), void* argument) noexcept {
  pthread_attr_t attributes;
  if (const int error = pthread_attr_init(&attributes); error != 0) return error;
  // The program's static TLS lies inside of the stack as well; this includes it.
  const long floor = sysconf(_SC_THREAD_STACK_MIN);
  pthread_attr_setstacksize(&attributes, kStackSize + (floor > 0 ? static_cast<std::size_t>(floor) : 0));
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  const sched_param no_priority = {};
  pthread_attr_setinheritsched(&attributes, inherit);
  pthread_attr_setschedpolicy(&attributes, SCHED_OTHER);
  pthread_attr_setschedparam(&attributes, &no_priority);
  pthread_t thread = {};
  const int error = create(&thread, &attributes, body, argument);
  pthread_attr_destroy(&attributes);
  return error;
}

}  // namespace

int create_service_thread(CreateThread create, void* (*body)(void*), void* argument) noexcept {
  // Directly: the program may have a handler in front of pthread_sigmask, and so may we.
  constexpr std::uint64_t kLibcSignals =
      (std::uint64_t{1} << (kFirstLibcSignal - 1)) | (std::uint64_t{1} << (kSecondLibcSignal - 1));
  const std::uint64_t all = ~kLibcSignals;
  std::uint64_t before = 0;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, address_of(&all), address_of(&before), kKernelSigsetSize);
  int error = create_with(create, PTHREAD_EXPLICIT_SCHED, body, argument);
  // Leaving SCHED_IDLE or a sandbox may be forbidden; then the creator's policy must do.
  if (error == EPERM) error = create_with(create, PTHREAD_INHERIT_SCHED, body, argument);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, address_of(&before), 0, kKernelSigsetSize);
  return error;
}

void settle_service_thread() noexcept {
  // The creator may have given up the processor's counter, by which libc reads the time.
  sys::call(SYS_prctl, PR_SET_TSC, PR_TSC_ENABLE);
  static constexpr char kName[] = "profagent";
  sys::call(SYS_prctl, PR_SET_NAME, address_of(kName));
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  const long priority = sys::call(SYS_getpriority, PRIO_PROCESS, 0);
  if (priority > 0) {
    const long nice = kNiceOffset - priority + kNiceness;
    sys::call(SYS_setpriority, PRIO_PROCESS, 0, nice < kLeastPriority ? nice : kLeastPriority);
  }
  // The creator may be pinned to the CPU that it keeps busy.
  unsigned long cpus[128] = {};
  const long size = sys::call(SYS_sched_getaffinity, sys::getpid(), sizeof(cpus), address_of(cpus));
  if (size > 0) sys::call(SYS_sched_setaffinity, 0, size, address_of(cpus));
}

bool wait_until_gone(pid_t tid, std::int64_t give_up) noexcept {
  if (tid == 0) return true;
  for (;;) {
    if (sys::call(SYS_tgkill, sys::getpid(), tid, 0) == -ESRCH) return true;
    if (safe::monotonic_now() > give_up) return false;
    const timespec pause{0, 50'000};
    sys::call(SYS_nanosleep, address_of(&pause), 0);
  }
}

}  // namespace profagent::service
